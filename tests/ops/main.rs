//! Every operation, the CUDA executor against the CPU executor: on the emulator for each code path, and unchanged on a
//! card where there is one.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "../support/emulator.rs"]
mod emulator;

mod attention;
mod chain;
mod choice;
mod corpus;
mod decode;
mod integers;
mod products;
mod real_sizes;
mod retain;
mod rows;
mod steps;

use corpus::Corpus;
use emulator::{Build, Emulator};
use hired::format::Dtype;
use hired::ops::cuda::Driver;
use hired::ops::cuda::Gemm;

/// All cases in one format.
fn all(dtype: Dtype, gemm: Gemm) {
    cases(&mut Corpus::open(dtype, gemm).unwrap());
}

fn cases(corpus: &mut Corpus) {
    rows::cases(corpus);
    attention::cases(corpus);
    decode::cases(corpus);
    steps::cases(corpus);
    retain::cases(corpus);
    choice::cases(corpus);
    products::cases(corpus);
    if !corpus.has_library() {
        integers::cases(corpus);
    }
    corpus.report();
    // A card's square roots, quotients and exponentials are up to two units off: three to six roundings on top.
    if corpus.dtype() == Dtype::F32 && std::env::var_os("HIRED_EMULATOR_SM").is_some() {
        corpus.leaves_room(0.75, |op| op == "logits" || op.ends_with("few rows"));
    }
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
    all(Dtype::F32, Gemm::Own);
}

#[test]
#[ignore = "child"]
fn child_f16() {
    all(Dtype::F16, Gemm::Own);
}

#[test]
#[ignore = "child"]
fn child_cublas() {
    all(Dtype::F16, Gemm::Cublas);
}

/// Rows that kernels leave as int8.
#[test]
fn emulated_rows_left_as_codes() {
    let emulator = Emulator::build(Build::Plain, &[]);
    for sm in ["61", "75", "80"] {
        run(&emulator, sm, &["child_chain"]);
    }
}

#[test]
#[ignore = "child"]
fn child_chain() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut corpus = Corpus::open(dtype, Gemm::Own).unwrap();
        chain::cases(&mut corpus);
        corpus.report();
    }
}

/// A part of everything, for sanitizers: `HIRED_EVERY` says how large.
#[test]
#[ignore = "child"]
fn child_sample() {
    all(Dtype::F32, Gemm::Own);
    all(Dtype::F16, Gemm::Own);
}

#[test]
fn emulated_sample() {
    let emulator = Emulator::build(Build::Plain, &[]);
    run_with(&emulator, "80", &["child_sample"], &[("HIRED_EVERY", "97")]);
}

/// What a card does at the sizes of a model, at small ones.
#[test]
fn emulated_real_sizes() {
    let emulator = Emulator::build(Build::Plain, &[]);
    for sm in ["61", "80"] {
        run(&emulator, sm, &["child_real_sizes"]);
    }
    run(&emulator.with_cublas(), "75", &["child_real_sizes_cublas"]);
}

#[test]
#[ignore = "child"]
fn child_real_sizes() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut corpus = Corpus::open(dtype, Gemm::Own).unwrap();
        real_sizes::cases(&mut corpus, &real_sizes::SMALL);
        real_sizes::integer_cases(&mut corpus, &real_sizes::SMALL);
    }
}

#[test]
#[ignore = "child"]
fn child_real_sizes_cublas() {
    let mut corpus = Corpus::open(Dtype::F16, Gemm::Cublas).unwrap();
    real_sizes::products(&mut corpus, &real_sizes::SMALL);
    corpus.report();
}

/// Whether there is a real card, whose driver answers when the emulator is not in its place.
fn has_card() -> bool {
    let device = Driver::open().and_then(|driver| driver.device(None));
    match device.and_then(|device| device.code) {
        Ok(_) => true,
        Err(error) => {
            assert!(std::env::var("HIRED_REQUIRE_GPU").as_deref() != Ok("1"), "{error}");
            eprintln!("skipped: no CUDA device ({error})");
            false
        }
    }
}

/// Products by cuBLAS, where it is installed and knows the card.
fn by_cublas(cases: impl Fn(&mut Corpus)) {
    match Corpus::open(Dtype::F16, Gemm::Cublas) {
        Ok(mut corpus) => {
            println!("products by cuBLAS:");
            cases(&mut corpus);
        }
        Err(error) => println!("not checked: products by cuBLAS: {error}"),
    }
}

#[test]
fn the_card_agrees_with_the_cpu() {
    if has_card() {
        all(Dtype::F32, Gemm::Own);
        all(Dtype::F16, Gemm::Own);
        by_cublas(cases);
    }
}

#[test]
fn the_card_agrees_at_real_sizes() {
    if has_card() {
        for dtype in [Dtype::F32, Dtype::F16] {
            real_sizes::cases(&mut Corpus::open(dtype, Gemm::Own).unwrap(), &real_sizes::REAL);
        }
        by_cublas(|corpus| {
            real_sizes::products(corpus, &real_sizes::REAL);
            corpus.report();
        });
    }
}

#[test]
fn the_card_multiplies_integers_at_real_sizes() {
    if has_card() {
        for dtype in [Dtype::F32, Dtype::F16] {
            let mut corpus = Corpus::open(dtype, Gemm::Own).unwrap();
            real_sizes::integer_cases(&mut corpus, &real_sizes::REAL);
        }
    }
}
