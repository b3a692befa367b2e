//! The program as its users run it: arguments in, standard output, one line of failure, exit status.
#![cfg(feature = "cli")]

mod flags;
mod others;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The program with arguments, its input and outputs caught.
fn command<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
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

/// A folder for this run of the tests.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

fn path(name: &str) -> String {
    folder().join(name).to_str().unwrap().into()
}
