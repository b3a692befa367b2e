//! The parts of the build script that decide: which nvcc, for which cards, and what is compiled anew.

#![allow(dead_code)]

#[path = "../build/kernels.rs"]
mod kernels;
#[path = "../build/toolkit.rs"]
mod toolkit;

use kernels::{ARCHITECTURES, Compiler, Form, Job};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use toolkit::{Environment, Found};

/// What is found with these variables and files.
fn find(variables: &[(&str, &str)], files: &[&str]) -> Result<Option<Found>, String> {
    toolkit::find(&Environment {
        variable: &|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v))
        },
        is_file: &|path| files.iter().any(|file| Path::new(file) == path),
    })
}

fn found(path: &str, by: &'static str) -> Result<Option<Found>, String> {
    Ok(Some(Found { path: path.into(), by }))
}

#[test]
fn nvcc_is_looked_for_in_the_stated_order() {
    let mut variables = vec![
        ("NVCC", "/a/nvcc"),
        ("CUDA_HOME", "/b"),
        ("CUDA_PATH", "/c"),
        ("PATH", "relative:/d:/e"),
        ("HOME", "/f"),
    ];
    let prefix = "/f/.cache/hired/cuda-11.8/bin/nvcc";
    let files =
        ["/a/nvcc", "/b/bin/nvcc", "/c/bin/nvcc", "relative/nvcc", "/d/nvcc", "/e/nvcc", prefix];
    assert_eq!(find(&variables, &files), found("/a/nvcc", "NVCC"));
    variables.remove(0);
    assert_eq!(find(&variables, &files), found("/b/bin/nvcc", "CUDA_HOME"));
    variables.remove(0);
    assert_eq!(find(&variables, &files), found("/c/bin/nvcc", "CUDA_PATH"));
    variables.remove(0);
    assert_eq!(find(&variables, &files), found("/d/nvcc", "PATH"));
    assert_eq!(find(&variables, &["/e/nvcc", prefix]), found("/e/nvcc", "PATH"));
    assert_eq!(find(&variables, &[prefix]), found(prefix, "tools/setup-cuda"));
    assert_eq!(find(&variables, &[]), Ok(None));
    variables.push(("XDG_CACHE_HOME", "/g"));
    assert_eq!(find(&variables, &[prefix]), Ok(None));
    let prefix = "/g/hired/cuda-11.8/bin/nvcc";
    assert_eq!(find(&variables, &[prefix]), found(prefix, "tools/setup-cuda"));
}

#[test]
fn a_wrong_nvcc_is_an_error_and_an_empty_one_is_none() {
    let error = find(&[("NVCC", "/a/nvcc"), ("PATH", "/b")], &["/b/nvcc"]).unwrap_err();
    assert!(error.contains("NVCC=/a/nvcc"), "{error}");
    assert_eq!(find(&[("NVCC", ""), ("PATH", "/b")], &["/b/nvcc"]), found("/b/nvcc", "PATH"));
    // A toolkit folder without a compiler is a runtime: the search goes on.
    assert_eq!(
        find(&[("CUDA_HOME", "/a"), ("PATH", "/b")], &["/b/nvcc"]),
        found("/b/nvcc", "PATH")
    );
}

#[test]
fn the_compiler_is_read_by_its_words() {
    let text = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 11.8, V11.8.89\nBuild x";
    assert_eq!(toolkit::version(text), Some("11.8.89"));
    assert_eq!(toolkit::version("gcc 12"), None);
    assert_eq!(toolkit::architectures("sm_61\nsm_90\nsm_90a\ncompute_75\n"), [61, 90]);
}

#[test]
fn an_nvcc_that_cannot_serve_a_card_is_found_out() {
    assert_eq!(kernels::left_out(&ARCHITECTURES), (vec![], vec![]));
    // CUDA 13 dropped Pascal and Volta.
    assert_eq!(kernels::left_out(&[75, 80, 86, 89, 90, 100]), (vec![], vec![61, 70]));
    // CUDA 11.0 knows nothing newer than 80.
    assert_eq!(kernels::left_out(&[61, 70, 75, 80]), (vec![86, 89, 90], vec![]));
    let words = toolkit::cards(&[61, 70]);
    assert!(words.contains("sm_61 (P40") && words.contains("sm_70 (V100"), "{words}");
}

#[test]
fn each_source_is_made_for_each_card_and_each_code_path() {
    let names = ["norm".to_owned(), "rows".to_owned()];
    let files: Vec<_> = kernels::jobs(&names, &ARCHITECTURES, None).iter().map(Job::file).collect();
    assert_eq!(files.len(), 2 * (7 + 3));
    assert!(files.contains(&"norm.sm_61.cubin".into()));
    assert!(files.contains(&"rows.compute_80.ptx".into()));
    let files: Vec<_> =
        kernels::jobs(&names[..1], &[75, 100], None).iter().map(Job::file).collect();
    assert_eq!(files, ["norm.sm_75.cubin", "norm.compute_75.ptx"]);
}

#[test]
fn only_the_wanted_architectures_are_made() {
    let known = [61, 70, 75, 80];
    assert_eq!(kernels::wanted("", &known), Ok(None));
    let wanted = kernels::wanted("61, 75", &known).unwrap().unwrap();
    let jobs = kernels::jobs(&["norm".to_owned()], &known, Some(&wanted));
    let files: Vec<_> = jobs.iter().map(Job::file).collect();
    assert_eq!(files, ["norm.sm_61.cubin", "norm.sm_75.cubin"]);
    for (value, culprit) in [("61,", "``"), ("sm_61", "`sm_61`"), ("61,62", "`62`"), ("86", "86")] {
        let error = kernels::wanted(value, &known).unwrap_err();
        assert!(error.contains(value) && error.contains(culprit), "{error}");
        assert!(error.contains("61,70,75,80"), "{error}");
    }
}

fn compiler(version: &str) -> Compiler {
    Compiler { path: "/a/nvcc".into(), version: version.into(), lines: false }
}

#[test]
fn line_information_is_made_on_demand_where_it_does_not_kill_the_compiler() {
    let lines = |form, architecture, version: &str| {
        let job = Job { name: "a".into(), architecture, form };
        let has_lines =
            |compiler: Compiler| job.arguments(&compiler).iter().any(|a| a == "-lineinfo");
        assert!(!has_lines(compiler(version)));
        has_lines(Compiler { lines: true, ..compiler(version) })
    };
    let has_lines = |architecture, version| lines(Form::Cubin, architecture, version);
    assert!(has_lines(89, "11.8.89") && has_lines(90, "12.0.1") && has_lines(75, "13.0.88"));
    assert!(!has_lines(90, "11.8.89"));
    // Whose compiler gets the PTX is not known here.
    for (architecture, version) in [(61, "11.8.89"), (75, "12.4.131"), (80, "13.0.88")] {
        assert!(!lines(Form::Ptx, architecture, version));
    }
}

#[test]
fn only_what_changed_is_compiled_again() {
    let mut texts = HashMap::from([
        ("a.cu", "#include \"one.cuh\"\n  #  include \"two.cuh\"\n#include <cmath>\n"),
        ("b.cu", "#include \"one.cuh\"\n// #include \"two.cuh\"\n"),
        ("one.cuh", "#include \"abi.h\"\n"),
        ("two.cuh", "#include \"one.cuh\"\n#include \"two.cuh\"\n"),
        ("abi.h", ""),
    ]);
    let keys = |texts: &HashMap<&str, &str>, version: &str| {
        ["a", "b"].map(|name| {
            let job = Job { name: name.into(), architecture: 61, form: Form::Cubin };
            kernels::key(&job, &compiler(version), &|file| texts.get(file).map(|&text| text.into()))
        })
    };
    let read = |file: &str| texts.get(file).map(|&text| text.into());
    let closure: Vec<_> = kernels::closure("a.cu", &read).into_iter().collect();
    assert_eq!(closure, ["a.cu", "abi.h", "one.cuh", "two.cuh"]);
    let before = keys(&texts, "11.8");
    assert_eq!(before, keys(&texts, "11.8"));
    assert_ne!(before[0], before[1]);
    texts.insert("two.cuh", "changed");
    let after = keys(&texts, "11.8");
    assert!(before[0] != after[0] && before[1] == after[1]);
    texts.insert("abi.h", "changed");
    let last = keys(&texts, "11.8");
    assert!(last[0] != after[0] && last[1] != after[1]);
    let other = keys(&texts, "13.0");
    assert!(last[0] != other[0] && last[1] != other[1]);
}

#[test]
fn the_key_tells_forms_and_architectures_apart() {
    let key = |architecture, form| {
        let job = Job { name: "a".into(), architecture, form };
        kernels::key(&job, &compiler("11.8.89"), &|_| Some(String::new()))
    };
    let keys = [key(61, Form::Cubin), key(75, Form::Cubin), key(61, Form::Ptx)];
    assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
}
