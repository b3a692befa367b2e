//! The program as its users run it: arguments in, standard output, one line of failure, exit status.
#![cfg(feature = "cli")]

mod answers;
mod chat;
mod endings;
mod eval;
mod failures;
mod fidelity;
mod first_hour;
mod fixtures;
mod flags;
mod others;
mod plan;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The program with arguments, its input and outputs caught.
fn command<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
    for name in ["HIRED_MODEL", "HIRED_LOG", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn hired<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    command(args).output().unwrap()
}

/// What a successful command prints. It leaves stderr alone, which is no terminal here.
fn printed<S: AsRef<std::ffi::OsStr> + std::fmt::Debug>(args: &[S]) -> String {
    let output = hired(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{args:?}: {} {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn json<S: AsRef<std::ffi::OsStr> + std::fmt::Debug>(args: &[S]) -> Value {
    serde_json::from_str(&printed(args)).unwrap()
}

/// The message of a command that must fail with `status`: one line on stderr, nothing on stdout.
fn failure<S: AsRef<std::ffi::OsStr> + std::fmt::Debug>(args: &[S], status: i32) -> String {
    refused(&args, &hired(args), status)
}

fn refused(args: &dyn std::fmt::Debug, output: &Output, status: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?} printed");
    let message = said.strip_prefix("hired: ").unwrap_or_else(|| panic!("{args:?}: {said:?}"));
    let message = message.strip_suffix('\n').unwrap_or_else(|| panic!("{args:?}: {said:?}"));
    assert!(!message.contains('\n') && !message.is_empty(), "{args:?}: {said:?}");
    message.into()
}

/// Words at their blanks, and what stands in for a path with blanks.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| word.replace('~', " ")).collect()
}

/// A folder for this run of the tests, with the checkpoint `model` and the pictures `a.png` (224×224: four
/// sub-images), `b.png` (300×100: three in a row) and `c.png` (20×200, all sides padded).
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let model = folder.join("model");
        assert_eq!(printed(&["synth", "--preset", "tiny", "--out", model.to_str().unwrap()]), "");
        for (name, width, height) in [("a.png", 224, 224), ("b.png", 300, 100), ("c.png", 20, 200)]
        {
            let pixel = |x: u32, y: u32| {
                let wave =
                    |k: f32| ((x as f32 / k).sin() * (y as f32 / 17.0).cos() * 100.0 + 128.0) as u8;
                image::Rgb([wave(9.0), wave(23.0), (x * y / 64) as u8])
            };
            image::RgbImage::from_fn(width, height, pixel).save(folder.join(name)).unwrap();
        }
        folder
    })
}

fn path(name: &str) -> String {
    folder().join(name).to_str().unwrap().into()
}

/// Arguments of a subcommand on the checkpoint. `@name` is a file in the folder, `~` a blank inside a word.
fn on_model(subcommand: &str, rest: &str) -> Vec<String> {
    let mut args = vec![subcommand.to_string(), "--model".into(), path("model")];
    args.extend(words(rest).iter().map(|word| match word.strip_prefix('@') {
        Some(name) => path(name),
        None => word.clone(),
    }));
    args
}

/// An answer as a JSON object.
fn answer(rest: &str) -> Value {
    let mut args = on_model("run", rest);
    // Options that have no effect would be told of.
    args.extend(["--json".into(), "--quiet".into()]);
    json(&args)
}

/// A JSON array as numbers.
fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}
