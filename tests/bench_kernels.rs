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
use hired::quant::Scheme;

#[test]
#[ignore = "child"]
fn child_small() {
    for asked in ALL {
        run::run(asked).unwrap();
    }
}

const fn asked(dtype: Dtype, scheme: Option<Scheme>) -> run::Asked {
    run::Asked { dtype, scheme, small: true }
}

/// What has a table.
const ALL: [run::Asked; 4] = [
    asked(Dtype::F16, None),
    asked(Dtype::F32, None),
    asked(Dtype::F16, Some(Scheme::Q8)),
    asked(Dtype::F16, Some(Scheme::Q4 { group: 32 })),
];

#[test]
fn every_operation_has_a_line() {
    let emulator = Emulator::build(Build::Plain, &[]);
    for sm in ["61", "80"] {
        let output = emulator.child("child_small", &[("HIRED_EMULATOR_SM", sm)]);
        let told = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "on {sm}\n{told}\n{errors}");
        // Each begins with a line that names the GPU and the formats.
        let tables: Vec<&str> = told.split(", weights in ").skip(1).collect();
        assert_eq!(tables.len(), ALL.len(), "{told}");
        for (asked, table) in ALL.iter().zip(tables) {
            let names = asked.names(cases::SMALL);
            assert!(names.len() >= 20, "{names:?}");
            for (name, shape) in names {
                let line = format!("| {name} | {shape} | ");
                let found = table.lines().filter(|l| l.starts_with(&line) && l.contains('`'));
                assert!(found.count() >= 1, "no line of {name} {shape} on {sm}\n{table}");
            }
            // Integers are multiplied as such.
            if let Some(scheme) = asked.scheme {
                let format = if scheme == Scheme::Q8 { "_q8_f16`" } else { "_q4_f16`" };
                let lines = table
                    .lines()
                    .filter(|line| line.starts_with("| ") && !line.contains("kernels"));
                lines.for_each(|line| assert!(line.contains(format), "{line}"));
            }
        }
    }
}
