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
use hired::ops::cost::{Cost, Kind};
use hired::ops::gpu::Gpu;
use hired::quant::Scheme;
use std::collections::BTreeMap;

#[test]
#[ignore = "child"]
fn child_small() {
    for settings in ALL {
        run::run(settings).unwrap();
    }
}

const fn settings(dtype: Dtype, scheme: Option<Scheme>) -> run::Settings {
    run::Settings { dtype, scheme, small: true }
}

/// What has a table.
const ALL: [run::Settings; 4] = [
    settings(Dtype::F16, None),
    settings(Dtype::F32, None),
    settings(Dtype::F16, Some(Scheme::Q8)),
    settings(Dtype::F16, Some(Scheme::Q4 { group: 32 })),
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
        for (settings, table) in ALL.iter().zip(tables) {
            let names = settings.names(cases::SMALL);
            assert!(names.len() >= 20, "{names:?}");
            for (name, shape) in names {
                let line = format!("| {name} | {shape} | ");
                let found = table.lines().filter(|l| l.starts_with(&line) && l.contains('`'));
                assert!(found.count() >= 1, "no line of {name} {shape} on {sm}\n{table}");
            }
            // Integers are multiplied as such.
            if let Some(scheme) = settings.scheme {
                let format = if scheme == Scheme::Q8 { "_q8_f16`" } else { "_q4_f16`" };
                let lines = table
                    .lines()
                    .filter(|line| line.starts_with("| ") && !line.contains("kernels"));
                lines.for_each(|line| assert!(line.contains(format), "{line}"));
            }
        }
    }
}

/// 636 rows of 4096 from 4096 columns, by hand: 21.3 GFLOP and 27.2 MB in int8, made of 5.2 MB that are read and 2.6 that are
/// written first: 454 µs of dp4a and 22.6 µs of memory on a P40, 164 µs of tensor cores and 24.4 µs on a T4.
#[test]
fn a_floor_is_the_data_sheets() {
    let costs = BTreeMap::from([
        (Kind::Integers, Cost { flops: 21_340_618_752, bytes: 27_213_824 }),
        (Kind::Other, Cost::bytes(7_817_712)),
    ]);
    for (name, wanted) in [("p40", 476.6), ("t4", 188.6)] {
        let roofs = Gpu::named(name).unwrap().roofs(Dtype::F16, false);
        let micros = run::floor(&roofs, &costs).as_secs_f64() * 1e6;
        assert!((micros - wanted).abs() < 0.5, "{name}: {micros}");
    }
}
