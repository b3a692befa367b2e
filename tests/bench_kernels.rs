//! The benchmark of the kernels runs through: on the emulator, with small shapes. Its times are not looked at.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "../benches/kernels/cases.rs"]
mod cases;
#[path = "../benches/kernels/data.rs"]
mod data;
#[path = "support/emulator.rs"]
mod emulator;
#[path = "../benches/kernels/operations.rs"]
mod operations;
#[path = "../benches/kernels/run.rs"]
mod run;

use emulator::{Build, Emulator};
use hired::format::Dtype;

#[test]
#[ignore = "child"]
fn child_small() {
    for dtype in [Dtype::F16, Dtype::F32] {
        run::run(run::Asked { dtype, small: true }).unwrap();
    }
}

#[test]
fn every_operation_has_a_line() {
    let emulator = Emulator::build(Build::Plain, &[]);
    for sm in ["61", "80"] {
        let output = emulator.child("child_small", &[("HIRED_EMULATOR_SM", sm)]);
        let told = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "on {sm}\n{told}\n{errors}");
        for (name, shape) in run::names_of(cases::SMALL) {
            let line = format!("| {name} | {shape} | `");
            let lines = told
                .lines()
                .filter(|l| l.starts_with(&line) || l.replace("3 × `", "`").starts_with(&line));
            assert!(
                lines.count() >= 2,
                "no line of {name} {shape} in both formats on {sm}\n{told}"
            );
        }
    }
}
