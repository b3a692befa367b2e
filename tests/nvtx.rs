//! Ranges for a profiler: a tool's library hears of every stage and layer, nested and balanced, also after failures.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

mod common;
#[path = "support/emulator.rs"]
mod emulator;

use common::golden::{cases, fixture};
use emulator::{Build, Emulator};
use hired::Error;
use hired::engine::{Device, Dtype, Engine, EngineOptions, Event, Gemm, Image, Request};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One answer of three tokens with the picture, one that is cancelled in the vision tower, one that the driver breaks in
/// a decode step, and one of two words.
#[test]
#[ignore = "child"]
fn child_answers() {
    let options = EngineOptions::default()
        .with_device(Device::Cuda(None))
        .with_dtype(Dtype::F32)
        .with_gemm(Gemm::Own)
        .with_no_graph(true);
    let mut engine = Engine::load(fixture("models/llava15"), options).unwrap();
    let case = cases().into_iter().find(|c| c.model == "llava15").unwrap();
    let bytes = std::fs::read(fixture("images").join(&case.image)).unwrap();
    let image = Image::encoded(case.image.clone(), bytes);
    let request = Request::new(case.prompt.clone()).with_image(image).with_max_new_tokens(3);
    engine.generate(&request, |_| ControlFlow::Continue(())).unwrap();

    let cancelled = engine.generate(&request, |event| match event {
        Event::Progress { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");

    let mut tokens = 0;
    let broken = engine.generate(&request, |event| {
        if matches!(event, Event::Token { .. }) {
            tokens += 1;
            emulator::fail("cuLaunchKernel:5=700");
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(broken, Err(Error::Device(_))), "{broken:?}");
    assert_eq!(tokens, 1);
    emulator::fail("");

    let words = Request::new("ab").with_max_new_tokens(1);
    engine.generate(&words, |_| ControlFlow::Continue(())).unwrap();
}

fn tool(folder: &Path) -> PathBuf {
    let library = folder.join("libtool.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/nvtx_tool.cpp");
    let compiler = std::env::var("CXX").unwrap_or("g++".into());
    let built = Command::new(&compiler)
        .args(["-std=c++17", "-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .status()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(built.success());
    library
}

/// What the tool has noted, if it was loaded.
fn noted(library: &Path, folder: &Path) -> Option<Vec<String>> {
    let log = folder.join("log");
    let environment = [
        ("HIRED_EMULATOR_SM", "61"),
        ("NVTX_INJECTION64_PATH", library.to_str().unwrap()),
        ("HIRED_NVTX_LOG", log.to_str().unwrap()),
    ];
    let output = Emulator::build(Build::Plain, &[]).child("child_answers", &environment);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(log).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}

/// Ranges as paths, in the order in which they begin.
fn paths(noted: &[String]) -> Vec<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut all = Vec::new();
    for line in noted {
        match line.strip_prefix("push ") {
            Some(name) => {
                open.push(name);
                all.push(open.join(" / "));
            }
            None => {
                assert_eq!(line, "pop");
                assert!(open.pop().is_some(), "more is ended than was begun");
            }
        }
    }
    assert!(open.is_empty(), "never ended: {open:?}");
    all
}

fn layers(stage: &str, name: &str, count: usize) -> Vec<String> {
    (0..count).map(|layer| format!("{stage} / {name} layer {layer}")).collect()
}

#[test]
fn a_tool_hears_of_every_stage_and_layer() {
    let folder = tempfile::tempdir().unwrap();
    let noted = noted(&tool(folder.path()), folder.path()).expect("the tool was not loaded");
    assert_eq!(noted[0], "initialised");
    let paths = paths(&noted[1..]);
    let config = hired::config::ModelFolder::open(&fixture("models/llava15")).unwrap().config;
    let (vision, text) = (config.feature_blocks, config.text.layers);

    // The pixels go up when the tower asks for its patches.
    let mut image = ["vision", "upload", "vision"].map(str::to_owned).to_vec();
    image.extend(layers("vision", "vision", vision));
    let last = image.last().unwrap().clone();
    // The last layer goes on after the choice.
    image.extend(["select", "vision", &last, "project"].map(str::to_owned));
    let mut prompt = vec!["prefill".to_owned()];
    prompt.extend(layers("prefill", "prefill", text));
    let mut step = vec!["decode / step of 1".to_owned()];
    step.extend(layers("decode / step of 1", "decode", text));
    let decode = |steps| {
        let steps = std::iter::repeat_n(&step, steps).flatten().cloned();
        std::iter::once("decode".to_owned()).chain(steps).collect::<Vec<_>>()
    };

    let whole = [&image[..], &prompt[..]].concat();
    assert_eq!(paths[..whole.len()], whole);
    let rest = &paths[whole.len()..];
    let two = decode(2);
    assert_eq!(rest[..two.len()], two);
    let rest = &rest[two.len()..];
    assert_eq!(rest[..4], image[..4], "cancelled after a layer");
    let rest = &rest[4..];
    assert_eq!(rest[..whole.len()], whole);
    let rest = &rest[whole.len()..];
    let words = rest.iter().position(|path| path == "prefill").unwrap();
    assert_eq!(rest[..words], decode(1)[..3], "broken in a layer");
    assert_eq!(rest[words..], prompt);
}

#[test]
fn a_tool_that_does_not_open_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(noted(&folder.path().join("nothing.so"), folder.path()), None);
}
