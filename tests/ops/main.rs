//! Every operation, the CUDA executor against the CPU executor: on the emulator for each code path, and unchanged on a
//! card where there is one.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "../support/emulator.rs"]
mod emulator;

mod attention;
mod choice;
mod corpus;
mod decode;
mod products;
mod retain;
mod rows;
mod steps;

use corpus::Corpus;
use emulator::{Build, Emulator};
use hired::ops::cuda::Driver;
use hired::ops::cuda::launch::{Gemm, Number};

/// All cases in one format.
fn all(number: Number, gemm: Gemm) {
    let mut corpus = Corpus::new(number, gemm);
    rows::cases(&mut corpus);
    attention::cases(&mut corpus);
    decode::cases(&mut corpus);
    steps::cases(&mut corpus);
    retain::cases(&mut corpus);
    choice::cases(&mut corpus);
    products::cases(&mut corpus);
    corpus.report();
}

fn on_emulator(sm: &str) {
    let emulator = Emulator::build(Build::Plain, &[]);
    run(&emulator, sm, &["child_f32", "child_f16"]);
}

fn run(emulator: &Emulator, sm: &str, children: &[&str]) {
    run_with(emulator, sm, children, &[]);
}

fn run_with(emulator: &Emulator, sm: &str, children: &[&str], more: &[(&str, &str)]) {
    let environment = [more, &[("HIRED_EMULATOR_SM", sm)]].concat();
    for child in children {
        let output = emulator.child(child, &environment);
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

/// Each buffer by itself under AddressSanitizer: nothing reads or writes beside it.
#[test]
fn emulated_with_watched_buffers() {
    let emulator = Emulator::build(Build::Asan, &[]);
    let environment = [("HIRED_SEPARATE_BUFFERS", "1")];
    for sm in ["61", "80"] {
        run_with(&emulator, sm, &["child_f32", "child_f16"], &environment);
    }
}

/// The library's products, which leave bias, activation and gate to kernels of their own.
#[test]
fn emulated_cublas() {
    run(&Emulator::build(Build::Plain, &[]).with_cublas(), "75", &["child_cublas"]);
}

#[test]
#[ignore = "child"]
fn child_f32() {
    all(Number::F32, Gemm::Own);
}

#[test]
#[ignore = "child"]
fn child_f16() {
    all(Number::F16, Gemm::Own);
}

#[test]
#[ignore = "child"]
fn child_cublas() {
    all(Number::F16, Gemm::Cublas);
}

/// On a real card, whose driver answers when the emulator is not in its place.
#[test]
fn the_card_agrees_with_the_cpu() {
    let device = Driver::open().and_then(|driver| driver.device(None));
    match device.and_then(|device| device.code) {
        Ok(_) => {
            all(Number::F32, Gemm::Own);
            all(Number::F16, Gemm::Own);
            // With cuBLAS where it is installed.
            all(Number::F16, Gemm::Auto);
        }
        Err(error) => {
            assert!(std::env::var("HIRED_REQUIRE_GPU").as_deref() != Ok("1"), "{error}");
            eprintln!("skipped: no CUDA device ({error})");
        }
    }
}
