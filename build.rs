//! Compiles the CUDA kernels and embeds them in the crate. Without nvcc the crate is built without kernels, with a
//! warning.
//!
//! `HIRED_NO_CUDA=1` skips the kernels, `HIRED_ARCHS=61,75` compiles them for these architectures only, and
//! `HIRED_LINEINFO=1` keeps line numbers in machine code, for profilers. `NVCC`, `CUDA_HOME`, `CUDA_PATH` and `PATH`
//! choose the compiler.

#![cfg_attr(not(feature = "cuda"), allow(dead_code, unused_imports))]

#[path = "build/kernels.rs"]
mod kernels;
#[path = "build/toolkit.rs"]
mod toolkit;

use kernels::{Build, Compiler, Job};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use toolkit::Environment;

/// Environment variables that affect the kernels, beside `PATH`.
const VARIABLES: [&str; 10] = [
    "HIRED_NO_CUDA",
    "HIRED_ARCHS",
    "HIRED_LINEINFO",
    "NVCC",
    "NVCC_CCBIN",
    "CUDA_HOME",
    "CUDA_PATH",
    "XDG_CACHE_HOME",
    "RUSTC_WORKSPACE_WRAPPER",
    "DOCS_RS",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the CUDA kernels were not compiled: {error}");
            eprintln!("HIRED_NO_CUDA=1 builds without them");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    for path in ["build.rs", "build", "kernels"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    println!("cargo:rustc-env=HIRED_KERNELS={}", out.display());
    let jobs = compile(&out)?;
    let table = out.join("images.rs");
    let text = kernels::table(&jobs, &out).map_err(|e| format!("{}: {e}", out.display()))?;
    fs::write(&table, text).map_err(|e| format!("{}: {e}", table.display()))
}

/// Whether a variable is set to 1.
fn is_on(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| value == "1")
}

/// Whether this build only reads the source, as docs.rs and clippy do; both set a variable. A build script cannot
/// recognise `cargo check` and `cargo doc`. Cargo is told to watch clippy's variable, so that a result of clippy is not
/// reused by a build.
fn only_reads() -> bool {
    let wrapper = env::var_os("RUSTC_WORKSPACE_WRAPPER").map(PathBuf::from);
    let is_clippy = wrapper.is_some_and(|w| w.file_stem() == Some(OsStr::new("clippy-driver")));
    is_clippy || env::var_os("DOCS_RS").is_some()
}

#[cfg(not(feature = "cuda"))]
fn compile(_: &Path) -> Result<Vec<Job>, String> {
    Ok(Vec::new())
}

/// Compiles the kernels if possible. One warning says which compiler was used and what is missing, or why there are no
/// kernels.
#[cfg(feature = "cuda")]
fn compile(out: &Path) -> Result<Vec<Job>, String> {
    for name in VARIABLES {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if is_on("HIRED_NO_CUDA") {
        println!("cargo:warning=no CUDA kernels: HIRED_NO_CUDA=1");
        return Ok(Vec::new());
    }
    if only_reads() {
        return Ok(Vec::new());
    }
    let environment =
        Environment { variable: &|name| env::var_os(name), is_file: &|path| path.is_file() };
    let Some(found) = toolkit::find(&environment)? else {
        // Watched only if PATH is used: otherwise a PATH that differs between shells would rebuild the crate each time.
        println!("cargo:rerun-if-env-changed=PATH");
        println!(
            "cargo:warning=no CUDA kernels: no nvcc by NVCC, CUDA_HOME, CUDA_PATH, PATH or \
             tools/setup-cuda (run that to get one)"
        );
        return Ok(Vec::new());
    };
    let nvcc = &found.path;
    println!("cargo:rerun-if-changed={}", nvcc.display());
    let text = ask(nvcc, "--version")?;
    let version = toolkit::version(&text)
        .ok_or_else(|| format!("{} --version says no version", nvcc.display()))?;
    let known = toolkit::architectures(&ask(nvcc, "--list-gpu-code")?);
    let wanted = kernels::wanted(&env::var("HIRED_ARCHS").unwrap_or_default(), &known)?;
    let mut limits = String::new();
    if let Some(wanted) = &wanted {
        limits += &format!("; HIRED_ARCHS: only for {}", toolkit::cards(wanted));
    } else {
        let (by_ptx, lost) = kernels::left_out(&known);
        for (what, architectures) in [("only PTX for", by_ptx), ("no code for", lost)] {
            if !architectures.is_empty() {
                limits += &format!("; it makes {what} {}", toolkit::cards(&architectures));
            }
        }
    }
    // For the tests that compare nvcc's results with the committed table.
    println!("cargo:rustc-env=HIRED_NVCC={}", nvcc.display());
    println!("cargo:rustc-env=HIRED_NVCC_VERSION={version}");
    println!(
        "cargo:warning=CUDA kernels by nvcc {version} at {} (found by {}){limits}",
        nvcc.display(),
        found.by
    );
    let folder = PathBuf::from("kernels").canonicalize().map_err(|e| format!("kernels: {e}"))?;
    let names = kernels::sources(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let jobs = kernels::jobs(&names, &known, wanted.as_deref());
    let lines = is_on("HIRED_LINEINFO");
    // SAFETY: this process has not opened or closed a file descriptor that cargo passed on.
    let server = unsafe { jobserver::Client::from_env() };
    let build = Build {
        compiler: Compiler { path: nvcc.clone(), version: version.to_owned(), lines },
        kernels: &folder,
        cache: cache(out),
        out,
        // The best level with a reasonable running time: the compiler before it takes much longer.
        pack: |bytes| miniz_oxide::deflate::compress_to_vec_zlib(bytes, 9),
        turn: &|| server.as_ref()?.acquire().ok().map(|turn| Box::new(turn) as kernels::Turn),
    };
    let parallel = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    build.run(&jobs, parallel)?;
    Ok(jobs)
}

fn ask(nvcc: &Path, question: &str) -> Result<String, String> {
    let command = || format!("{} {question}", nvcc.display());
    let output =
        Command::new(nvcc).arg(question).output().map_err(|e| format!("{}: {e}", command()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} failed: {}", command(), words.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One cache for all profiles: in cargo's target folder, which is recognised by a file that cargo writes; otherwise in
/// this build's own output folder.
fn cache(out: &Path) -> PathBuf {
    let target = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.unwrap_or(out).join("kernels")
}
