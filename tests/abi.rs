//! The committed Rust side of `kernels/abi.h` is what bindgen makes of it.
//!
//! Needs libclang: without it the test says so and passes, with `CI=true` it fails.
//! `HIRED_UPDATE=1` writes the file anew.

#![cfg(feature = "cuda")]

use std::path::Path;
use std::process::Command;

const HEADER: &str = "// By bindgen from kernels/abi_codes.h: `HIRED_UPDATE=1 cargo test --test abi` writes this file.";

#[test]
fn committed_bindings_are_those_of_the_header() {
    if std::panic::catch_unwind(bindgen::clang_version).is_err() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI must have libclang (apt: libclang1-14)"
        );
        eprintln!("skipped: no libclang (apt: libclang1-14)");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut builder = bindgen::builder()
        .header(root.join("kernels/abi_codes.h").to_str().expect("a path in UTF-8"))
        .raw_line(HEADER)
        .disable_header_comment()
        .allowlist_type(".*Params")
        .allowlist_var("HIRED_.*")
        .use_core()
        .formatter(bindgen::Formatter::Prettyplease);
    // libclang alone has no stdint.h; any C compiler's serves.
    if let Ok(output) = Command::new("gcc").arg("-print-file-name=include").output() {
        let folder = String::from_utf8_lossy(&output.stdout);
        builder = builder.clang_args(["-isystem", folder.trim()]);
    }
    let made = builder
        .generate()
        .expect("kernels/abi_codes.h and what it includes is plain C")
        .to_string();
    let path = root.join("src/ops/cuda/abi.rs");
    if std::env::var("HIRED_UPDATE").as_deref() == Ok("1") {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == made,
        "src/ops/cuda/abi.rs is stale: run HIRED_UPDATE=1 cargo test --test abi"
    );
}
