//! Every operation of the CUDA executor at the shapes of LLaVA-v1.6-vicuna-7b: time, GB/s, TFLOP/s, and the share of what
//! this device was measured to be able to.
//!
//!     cargo bench --bench kernels -- [--dtype f16|f32] [--small]
//!
//! `--small` takes small shapes, to see that everything runs: on the emulator its times mean nothing.

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

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|a| a == name);
    let dtype = arguments.iter().position(|a| a == "--dtype").and_then(|i| arguments.get(i + 1));
    let dtype = match dtype.map(String::as_str) {
        Some("f32") => Dtype::F32,
        Some("f16") | None => Dtype::F16,
        Some(other) => {
            eprintln!("--dtype {other}: f16 or f32");
            return 2.into();
        }
    };
    let required = std::env::var("HIRED_REQUIRE_GPU").as_deref() == Ok("1");
    let device = hired::ops::cuda::Driver::open().and_then(|driver| driver.device(None));
    if let Err(error) = device.and_then(|device| device.code) {
        eprintln!("skipped: no CUDA device ({error})");
        return u8::from(required).into();
    }
    // `cargo test --benches` only wants to know that it runs.
    match run::run(run::Asked { dtype, small: has("--small") || has("--test") }) {
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
