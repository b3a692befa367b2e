//! The PTX that the build embeds is compiled by drivers of any age, for cards that did not exist when it was made.
//!
//! Without nvcc the test says so and passes, with `CI=true` it fails.

#![cfg(feature = "cuda")]

#[path = "support/machine_code.rs"]
mod machine_code;

use machine_code::{made, nvcc};
use rayon::prelude::*;
use std::process::Command;

/// The compiler in drivers of CUDA 11.8 and 12.0 is the `ptxas` of that age: it dies on some line tables, and with it
/// the process that loads them.
#[test]
fn every_code_path_compiles_for_hopper() {
    let Some((nvcc, version)) = nvcc() else { return };
    let ptxas = nvcc.with_file_name("ptxas");
    let files = made(".ptx");
    assert!(files.len() >= 3 && files.len().is_multiple_of(made(".sm_80.cubin").len()));
    let folder = tempfile::tempdir().unwrap();
    let failures: Vec<_> = files
        .par_iter()
        .filter_map(|path| {
            let name = path.file_name().unwrap();
            let text = folder.path().join(name);
            // For a driver it ends in NUL.
            let mut bytes = std::fs::read(path).unwrap();
            assert_eq!(bytes.pop(), Some(0), "{}", path.display());
            std::fs::write(&text, bytes).unwrap();
            let output = Command::new(&ptxas)
                .arg("-arch=sm_90")
                .arg(&text)
                .arg("-o")
                .arg(text.with_extension("cubin"))
                .output()
                .unwrap_or_else(|e| panic!("{}: {e}", ptxas.display()));
            let words = String::from_utf8_lossy(&output.stderr);
            (!output.status.success()).then(|| format!("{name:?}: {} {words}", output.status))
        })
        .collect();
    let (failed, all) = (failures.len(), files.len());
    assert!(failures.is_empty(), "ptxas {version}: {failed} of {all}\n{}", failures.join("\n"));
}
