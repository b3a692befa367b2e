//! Products with integer weights on the device, on the emulator, by every kernel and tile: those of int8 factors to the bit of
//! an integer reference; those of codes in groups as their numbers in f64, and to the bit where sums are exact.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "../support/card.rs"]
mod card;
#[path = "../support/emulator.rs"]
mod emulator;
mod groups;
#[path = "../support/numbers.rs"]
mod numbers;
#[path = "../support/params.rs"]
mod params;
mod q8;
mod rounding;

use card::{Card, ORDERS};
use emulator::{Build, Emulator};
use groups::formats;
use half::f16;
use hired::format::{Dtype, Format};
use hired::ops::cuda::matmul::choose::{Kernels, quantize};
use hired::ops::cuda::matmul::gemm::{Product, Split};
use hired::ops::cuda::matmul::gemv::{Form, Gemv};
use hired::ops::cuda::matmul::{Factors, gate_leaves_codes};
use hired::quant::q8_token;
use numbers::{Numbers, download, rounded, upload};
use params::{GemmParams, GemvParams, QuantizeParams};
use q8::{Case, Fill};
use rounding::rows_become_codes;
use std::ffi::c_void;

const STORE: u32 = 0;
const ADD: u32 = 1;
const GATE: u32 = 2;

fn path() -> u32 {
    std::env::var("HIRED_EMULATOR_SM").unwrap().parse().unwrap()
}

fn on_emulator(build: Build, test: &str) {
    let emulator = Emulator::build(build, &[]);
    for sm in ["61", "75", "80"] {
        let output = emulator.child(test, &[("HIRED_EMULATOR_SM", sm)]);
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "sm_{sm}: {}", String::from_utf8_lossy(&words));
    }
}

#[test]
fn device_multiplies_codes() {
    on_emulator(Build::Plain, "codes_are_multiplied_to_the_bit");
}

#[test]
#[ignore = "runs on the emulator, started by device_multiplies_codes"]
fn codes_are_multiplied_to_the_bit() {
    let mut turn = 0;
    for out in [Dtype::F32, Dtype::F16] {
        // One, primes, around tiles, and around vectors and steps along inner.
        for (rows, cols, inner) in [
            (9, 8, 1),
            (9, 1, 16),
            (13, 17, 15),
            (63, 64, 17),
            (64, 72, 32),
            (65, 63, 33),
            (127, 128, 63),
            (128, 136, 64),
            (129, 120, 65),
            (260, 200, 129),
            (20, 24, 333),
        ] {
            turn += 1;
            let case = Case { out, bias: turn % 2 == 0, ..Case::new(rows, cols, inner) };
            case.gemm(turn);
            Case { epilogue: ADD, gap: turn % 3 * 4, ..case }.gemm(turn + 1);
        }
        let several = Case { out, cols: [72, 136, 8], bias: true, ..Case::new(70, 0, 80) };
        several.gemm(turn);
        Case { cols: [5, 67, 3], ..several }.gemm(turn + 1);
        Case { cols: [72, 72, 0], epilogue: GATE, ..several }.gemm(turn + 2);
        Case { cols: [13, 13, 0], epilogue: GATE, bias: false, ..several }.gemm(turn + 3);
        for rows in 1..=8 {
            turn += 1;
            for (cols, inner) in
                [([1, 0, 0], 1), ([5, 3, 9], 47), ([7, 0, 0], 512), ([4, 1, 0], 2100)]
            {
                let case = Case { out, cols, bias: rows % 2 == 0, ..Case::new(rows, 0, inner) };
                case.gemv(turn);
                Case { epilogue: ADD, ..case }.gemv(turn + 1);
            }
            Case { out, cols: [5, 5, 0], epilogue: GATE, ..Case::new(rows, 0, 100) }.gemv(turn);
        }
        // One block, two, many; a row, and as many as leave as codes.
        for (rows, cols, inner) in [(1, 16, 47), (2, 16, 100), (1, 1040, 33), (2, 4112, 16)] {
            let gate = Case { out, epilogue: GATE, ..Case::new(rows, 0, inner) };
            for fill in [Fill::Random, Fill::Zero] {
                Case { fill, cols: [cols, cols, 0], ..gate }.gate_leaves_codes();
            }
        }
        // Sums as large as they get, and none at all.
        for fill in [Fill::Largest(127), Fill::Largest(-128), Fill::Zero] {
            Case { out, fill, ..Case::new(17, 24, 4099) }.gemm(turn);
            Case { out, fill, ..Case::new(3, 6, 4099) }.gemv(turn);
        }
    }
}

#[test]
fn device_rounds_rows() {
    on_emulator(Build::Plain, "rows_become_codes_by_the_rule");
}

#[test]
#[ignore = "runs on the emulator, started by device_rounds_rows"]
fn rows_become_codes_by_the_rule() {
    let mut turn = 0;
    for dtype in [Dtype::F32, Dtype::F16] {
        for (cols, gap) in
            [(1, 0), (7, 1), (8, 0), (24, 8), (64, 0), (257, 3), (4104, 0), (16400, 0)]
        {
            for normed in [false, true] {
                turn += 1;
                rows_become_codes(dtype, cols, gap, normed, turn);
            }
        }
    }
}

#[test]
fn device_multiplies_groups() {
    on_emulator(Build::Plain, "groups_are_multiplied_as_their_numbers");
}

#[test]
#[ignore = "runs on the emulator, started by device_multiplies_groups"]
fn groups_are_multiplied_as_their_numbers() {
    let mut turn = 0;
    for dtype in [Dtype::F32, Dtype::F16] {
        for (rows, cols, inner, group) in [
            (9, [8, 0, 0], 32, 32),
            (9, [1, 0, 0], 128, 128),
            (65, [72, 0, 0], 96, 32),
            (127, [128, 0, 0], 128, 64),
            (129, [136, 0, 0], 384, 128),
            (13, [17, 5, 9], 224, 32),
            (20, [24, 40, 8], 256, 128),
        ] {
            for format in formats(group) {
                turn += 1;
                let case = groups::Case { cols, ..case(format, dtype, rows, inner) };
                case.check(turn);
                groups::Case { exact: true, ..case }.check(turn);
                groups::Case { exact: true, epilogue: ADD, ..case }.check(turn + 1);
            }
        }
        for (rows, width, inner, group) in [(70, 72, 192, 64), (12, 13, 64, 32)] {
            for format in formats(group) {
                let cols = [width, width, 0];
                let case =
                    groups::Case { cols, epilogue: GATE, ..case(format, dtype, rows, inner) };
                case.check(turn);
            }
        }
        for rows in 1..=8 {
            for (cols, inner, group) in [
                ([1, 0, 0], 32, 32),
                ([5, 3, 9], 1056, 32),
                ([7, 2, 0], 2176, 64),
                ([4, 0, 0], 384, 128),
            ] {
                for format in formats(group) {
                    turn += 1;
                    let case = groups::Case { cols, ..case(format, dtype, rows, inner) };
                    groups::Case { normed: true, ..case }.check(turn);
                    groups::Case { exact: true, ..case }.check(turn + 1);
                    groups::Case { exact: true, epilogue: ADD, ..case }.check(turn + 2);
                }
            }
            for format in formats(64) {
                let cols = [5, 5, 0];
                let case = case(format, dtype, rows, 128);
                groups::Case { cols, epilogue: GATE, normed: true, ..case }.check(turn);
                // A head: one weight, more columns than a warp or a block has.
                let head = groups::Case { cols: [37, 0, 0], logits: true, ..case };
                groups::Case { normed: true, ..head }.check(turn);
                groups::Case { exact: true, ..head }.check(turn + 1);
            }
        }
    }
}

/// Weights of this format with columns still to be given.
fn case(format: Format, dtype: Dtype, rows: usize, inner: usize) -> groups::Case {
    let (cols, epilogue, normed, logits, exact) = ([0; 3], STORE, false, false, false);
    groups::Case { format, dtype, rows, cols, inner, epilogue, normed, logits, exact }
}

#[test]
fn device_multiplies_integers_without_races() {
    on_emulator(Build::Races, "integers_are_clean");
}

#[test]
fn device_multiplies_integers_within_bounds() {
    on_emulator(Build::Asan, "integers_are_clean");
}

#[test]
#[ignore = "runs on the emulator, started by the tests of races and bounds"]
fn integers_are_clean() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let base = Case { out: dtype, bias: true, ..Case::new(66, 136, 113) };
        base.gemm(1);
        Case { cols: [40, 40, 0], epilogue: GATE, ..base }.gemm(2);
        Case { rows: 5, cols: [5, 7, 3], ..base }.gemv(3);
        Case { rows: 2, cols: [48, 48, 0], epilogue: GATE, ..base }.gate_leaves_codes();
        rows_become_codes(dtype, 264, 8, true, 4);
        for format in formats(32) {
            groups::Case { cols: [136, 8, 0], ..case(format, dtype, 66, 96) }.check(5);
            let few = groups::Case { cols: [9, 0, 0], ..case(format, dtype, 6, 1056) };
            groups::Case { normed: true, ..few }.check(6);
            groups::Case { logits: true, ..few }.check(7);
        }
    }
}
