//! The emulator keeps the driver's rules: those that a program could break without noticing on one card.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

mod cards;
#[path = "../support/emulator.rs"]
mod emulator;
mod memory;
mod programs;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};
use emulator::{Build, Emulator};
use std::ffi::{CString, c_void};

const PLANTED: &[&str] = &["--kernels", "tests/emulator/planted", "--sm", "61,80"];
const COUNT: usize = 100;

/// Runs a child test and demands that it passes.
fn on_emulator(child: &str, environment: &[(&str, &str)]) {
    let output = Emulator::build(Build::Plain, PLANTED).child(child, environment);
    assert!(
        output.status.success(),
        "{child} {environment:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An image that only names its target: any kernel of the emulator may be asked of it.
fn image(sm: &str) -> CString {
    CString::new(format!(".version 6.0\n.target sm_{sm}\n.address_size 64\n")).unwrap()
}

fn is<T: std::fmt::Debug>(outcome: Result<T, DriverError>, code: CUresult) {
    assert_eq!(outcome.map(|_| ()).unwrap_err().0, code);
}

/// The context of the card and the function `name`, made current.
fn function(name: &str) -> (sys::CUmodule, sys::CUfunction) {
    result::init().unwrap();
    let name = CString::new(name).unwrap();
    // SAFETY: handles are used as they are given.
    unsafe {
        result::ctx::set_current(result::primary_ctx::retain(0).unwrap()).unwrap();
        let module = result::module::load_data(image("80").as_ptr().cast()).unwrap();
        (module, result::module::get_function(module, name).unwrap())
    }
}

/// out += in · scale on a stream.
fn add(
    f: sys::CUfunction,
    input: u64,
    output: u64,
    scale: f64,
    stream: sys::CUstream,
) -> Result<(), DriverError> {
    let (mut input, mut output, mut count, mut scale) = (input, output, COUNT as u32, scale);
    let mut list: [*mut c_void; 4] = [
        (&raw mut input).cast(),
        (&raw mut output).cast(),
        (&raw mut count).cast(),
        (&raw mut scale).cast(),
    ];
    // SAFETY: the parameters are those of the kernel and outlive the call.
    unsafe { result::launch_kernel(f, (2, 1, 1), (64, 1, 1), 0, stream, &mut list) }
}
