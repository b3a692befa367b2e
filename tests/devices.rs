//! Loading the embedded kernels on every device that there is: a card, or the emulator's.
//!
//! Without a device the test says so and passes, with `HIRED_REQUIRE_GPU=1` it fails.

#![cfg(feature = "cuda")]

use hired::ops::cuda::{Driver, Modules};

#[test]
fn every_device_loads_the_code_it_is_said_to_run() {
    let devices = Driver::open().and_then(|driver| driver.devices());
    let devices = devices.map(|devices| devices.into_iter().filter(|d| d.code.is_ok()));
    let mut devices = match devices {
        Ok(devices) => devices.peekable(),
        Err(error) => return skip(&error.to_string()),
    };
    if devices.peek().is_none() {
        return skip("none that this build has code for");
    }
    for device in devices {
        let name = device.name.clone();
        let (context, code) = device.context().unwrap();
        let modules = Modules::load(&context, code).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(modules.code(), code);
        let kernels = [
            ("norm", "layer_norm_vector_f16"),
            ("vision", "patches_guarded_f32"),
            ("rows", "gather_vector"),
            ("rope", "rope_append_vector_f16"),
            ("activation", "silu_mul_guarded_f32"),
        ];
        for (file, kernel) in kernels {
            let function = modules.function(file, kernel).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!function.is_null());
        }
        for (file, kernel) in [("norm", "no_such_kernel"), ("nothing", "gather_vector")] {
            let error = modules.function(file, kernel).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(kernel), "{error}");
        }
        println!("{name}: {code}");
    }
}

fn skip(why: &str) {
    assert!(std::env::var("HIRED_REQUIRE_GPU").as_deref() != Ok("1"), "{why}");
    eprintln!("skipped: no CUDA device ({why})");
}
