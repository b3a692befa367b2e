//! Every operation, the CUDA executor against the CPU executor: on the emulator for each code path, and unchanged on a
//! card where there is one.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "../support/emulator.rs"]
mod emulator;

mod corpus;
mod products;
mod rows;

use corpus::Corpus;
use emulator::{Build, Emulator};
use hired::ops::cuda::Driver;
use hired::ops::cuda::launch::{Gemm, Number};

/// All cases in one format.
fn all(number: Number) {
    let mut corpus = Corpus::new(number, Gemm::Own);
    rows::cases(&mut corpus);
    products::cases(&mut corpus);
    corpus.report();
}

fn on_emulator(sm: &str) {
    let emulator = Emulator::build(Build::Plain, &[]);
    for child in ["child_f32", "child_f16"] {
        let output = emulator.child(child, &[("HIRED_EMULATOR_SM", sm)]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{child} on {sm}\n{told}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        told.lines().filter(|line| line.contains("roundings")).for_each(|line| println!("{line}"));
    }
}

#[test]
fn emulated_fma_path() {
    on_emulator("61");
}

#[test]
fn emulated_mma_k8_path() {
    on_emulator("75");
}

#[test]
fn emulated_mma_k16_path() {
    on_emulator("80");
}

#[test]
#[ignore = "child"]
fn child_f32() {
    all(Number::F32);
}

#[test]
#[ignore = "child"]
fn child_f16() {
    all(Number::F16);
}

/// On a real card, whose driver answers when the emulator is not in its place.
#[test]
fn the_card_agrees_with_the_cpu() {
    let device = Driver::open().and_then(|driver| driver.device(None));
    match device.and_then(|device| device.code) {
        Ok(_) => {
            all(Number::F32);
            all(Number::F16);
        }
        Err(error) => {
            assert!(std::env::var("HIRED_REQUIRE_GPU").as_deref() != Ok("1"), "{error}");
            eprintln!("skipped: no CUDA device ({error})");
        }
    }
}
