//! Times every operation of the CUDA executor at the shapes of LLaVA-v1.6-vicuna-7b: time, GB/s, TFLOP/s, and the share
//! of the ceilings measured on the same device.
//!
//!     cargo bench --bench kernels -- [--dtype f16|f32|q8|q4] [--small]
//!
//! `--dtype q8` and `q4` (in groups of 128) time the decoder's products only, with activations in f16. "floor µs" is
//! the lower bound from the data sheet, for a GPU that `hired plan` knows; "share" is relative to the measured
//! ceilings.
//!
//! `--small` uses small shapes to check that everything runs. Times on the emulator mean nothing.

#[cfg(feature = "cuda")]
mod cases;
#[cfg(feature = "cuda")]
mod data;
#[cfg(feature = "cuda")]
mod operations;
#[cfg(feature = "cuda")]
mod run;

#[cfg(feature = "cuda")]
fn main() -> std::process::ExitCode {
    use hired::format::Dtype;
    use hired::quant::Scheme;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|a| a == name);
    let dtype = arguments.iter().position(|a| a == "--dtype").and_then(|i| arguments.get(i + 1));
    // `cargo test --benches` only checks that the benchmark runs.
    let small = has("--small") || has("--test");
    let (dtype, scheme) = match dtype.map(String::as_str) {
        Some("f32") => (Dtype::F32, None),
        Some("f16") | None => (Dtype::F16, None),
        Some("q8") => (Dtype::F16, Some(Scheme::Q8)),
        Some("q4") => (Dtype::F16, Some(Scheme::Q4 { group: if small { 32 } else { 128 } })),
        Some(other) => {
            eprintln!("--dtype {other}: f16, f32, q8 or q4");
            return 2.into();
        }
    };
    let required = std::env::var("HIRED_REQUIRE_GPU").as_deref() == Ok("1");
    let device = hired::ops::cuda::Driver::open().and_then(|driver| driver.device(None));
    if let Err(error) = device.and_then(|device| device.code) {
        eprintln!("skipped: no CUDA device ({error})");
        return u8::from(required).into();
    }
    match run::run(run::Settings { dtype, scheme, small }) {
        Ok(()) => 0.into(),
        Err(error) => {
            eprintln!("{error}");
            1.into()
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn main() {
    eprintln!("skipped: built without the feature cuda");
}
