//! Who makes the large products: cuBLAS where it is asked for or has passed its trial, own kernels elsewhere. On the
//! emulator, with a stand-in for the library that fails as it is told.
#![cfg(all(feature = "cuda", feature = "cli", target_os = "linux", target_arch = "x86_64"))]

mod common;
#[path = "support/emulator.rs"]
mod emulator;

use common::golden::{cases, fixture};
use emulator::{Build, Emulator};
use hired::format::Dtype;
use hired::ops::cuda::Gemm;
use hired::ops::cuda::{Cuda, Options};
use std::path::Path;
use std::process::Command;

/// Opens the executor and says who multiplies.
#[test]
#[ignore = "child"]
fn child_open() {
    let gemm = match std::env::var("ASKED").as_deref() {
        Ok("cublas") => Gemm::Cublas,
        _ => Gemm::Auto,
    };
    match Cuda::open(Options { ordinal: None, formats: Dtype::F16.into(), graphs: true, gemm }) {
        Ok(cuda) => {
            let card = cuda.description();
            println!("made by {}; {}", card.gemm, card.note.as_deref().unwrap_or("no note"));
        }
        Err(error) => println!("error: {error}"),
    }
    assert_eq!(emulator::stats().device_bytes, 0, "the trial leaves memory");
}

/// What the child says, with the stand-in failing in a way.
fn said(emulator: &Emulator, asked: &str, sm: &str, failing: &str) -> String {
    let environment = [("ASKED", asked), ("HIRED_EMULATOR_SM", sm), ("HIRED_CUBLAS", failing)];
    let output = emulator.child("child_open", &environment);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let line = told.lines().find_map(|line| {
        let at = line.find("made by").or_else(|| line.find("error:"))?;
        Some(line[at..].to_owned())
    });
    line.unwrap_or_else(|| panic!("{told}"))
}

fn plain() -> Emulator {
    Emulator::build(Build::Plain, &[])
}

const LACKING: Option<&str> = Some("WITHOUT_MODE");

/// Ways to fail, and what is told of them.
const FAILURES: [(&str, &str); 5] = [
    ("start", "to start: CUBLAS_STATUS_NOT_INITIALIZED"),
    ("mode", "to add in fp32 alone: CUBLAS_STATUS_NOT_SUPPORTED"),
    ("ignored", "multiplies wrongly"),
    ("product", "a product: CUBLAS_STATUS_ARCH_MISMATCH"),
    ("wrong", "multiplies wrongly"),
];

#[test]
fn a_library_that_works_is_used_from_turing_on() {
    let emulator = plain().with_cublas();
    for (sm, by) in [("61", "own"), ("70", "own"), ("75", "cublas"), ("80", "cublas")] {
        assert_eq!(said(&emulator, "auto", sm, ""), format!("made by {by}; no note"));
    }
    assert_eq!(said(&emulator, "cublas", "61", ""), "made by cublas; no note");
}

#[test]
fn a_library_that_fails_is_left_out_and_named() {
    let emulator = plain().with_cublas();
    for (failing, words) in FAILURES {
        let said = said(&emulator, "auto", "75", failing);
        assert!(said.starts_with("made by own; hired's own kernels"), "{failing}: {said}");
        assert!(said.contains(words), "{failing}: {said}");
    }
    // Not even tried.
    assert_eq!(said(&emulator, "auto", "61", "wrong"), "made by own; no note");
    let lacking = plain().with_cublas_as("libcublas.so", LACKING);
    let said = said(&lacking, "auto", "75", "");
    assert!(
        said.starts_with("made by own; ") && said.contains("lacks cublasSetMathMode"),
        "{said}"
    );
}

#[test]
fn a_library_that_is_demanded_and_fails_is_an_error() {
    let emulator = plain().with_cublas();
    for (failing, words) in FAILURES {
        let said = said(&emulator, "cublas", "75", failing);
        assert!(said.starts_with("error: cuBLAS") && said.contains(words), "{failing}: {said}");
        assert!(said.contains("--gemm own"), "{failing}: {said}");
    }
    let said = said(&plain().with_cublas_as("libcublas.so", LACKING), "cublas", "75", "");
    assert!(said.contains("error: libcublas.so lacks cublasSetMathMode"), "{said}");
}

/// A library of this machine, which is found where the stand-in is not.
fn is_installed() -> bool {
    // SAFETY: opens and closes the library.
    let opens = |name: &str| unsafe { libloading::Library::new(name) }.is_ok();
    let found = ["libcublas.so", "libcublas.so.12", "libcublas.so.11"].into_iter().any(opens);
    if found {
        eprintln!("skipped: this machine has a cuBLAS of its own");
    }
    found
}

#[test]
fn the_library_of_cuda_13_is_found_by_its_versioned_name() {
    if !is_installed() {
        let emulator = plain().with_cublas_as("libcublas.so.13", None);
        assert_eq!(said(&emulator, "auto", "75", ""), "made by cublas; no note");
    }
}

#[test]
fn without_a_library_own_kernels_multiply_and_nothing_is_told() {
    if !is_installed() {
        assert_eq!(said(&plain(), "auto", "75", ""), "made by own; no note");
        let said = said(&plain(), "cublas", "75", "");
        assert!(said.starts_with("error: there is no cuBLAS here"), "{said}");
    }
}

/// The program on the emulator: its answer and what it says beside it.
fn answer(failing: &str, gemm: &str) -> (String, String) {
    let case = cases().into_iter().find(|c| c.model == "llava15").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_hired"));
    let environment = [("HIRED_EMULATOR_SM", "75"), ("HIRED_CUBLAS", failing)];
    let mut command: Command = plain().with_cublas().command(program, &environment);
    command.args(["run", "--device", "cuda", "--max-new-tokens", "2", "--gemm", gemm, "--prompt"]);
    command.arg(&case.prompt).arg("--image").arg(fixture("images").join(&case.image));
    let output = command.arg("--model").arg(fixture("models/llava15")).output().unwrap();
    let words = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}", words(output.stderr));
    (words(output.stdout), words(output.stderr))
}

#[test]
fn the_program_answers_without_the_library_and_says_so_in_a_line() {
    let (own, quiet) = answer("product", "own");
    assert_eq!(quiet, "");
    let (text, note) = answer("product", "auto");
    assert_eq!(text, own);
    assert_eq!(note.lines().count(), 1, "{note}");
    assert!(note.starts_with("note: ") && note.contains("CUBLAS_STATUS_ARCH_MISMATCH"), "{note}");
}
