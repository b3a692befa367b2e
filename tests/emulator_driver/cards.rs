//! What a card and a driver have: images they run, functions, or none.

use super::{PLANTED, is, on_emulator};
use crate::emulator::{Build, Emulator};
use cudarc::driver::result;
use cudarc::driver::sys::{self, CUresult};
use std::ffi::CString;

#[test]
fn each_card_runs_what_it_can() {
    for sm in ["61", "70", "75", "80", "86", "89", "90"] {
        on_emulator("cards::child_images", &[("HIRED_EMULATOR_SM", sm)]);
    }
}

#[test]
#[ignore = "child"]
fn child_images() {
    let sm = std::env::var("HIRED_EMULATOR_SM").unwrap();
    result::init().unwrap();
    let device = result::device::get(0).unwrap();
    assert!(result::device::get_name(device).unwrap().starts_with(&format!("emulated sm_{sm}")));
    is(result::device::get(1), CUresult::CUDA_ERROR_INVALID_DEVICE);
    // SAFETY: handles are used as they are given; images end in NUL.
    unsafe {
        use sys::CUdevice_attribute::*;
        let attribute = |a| result::device::get_attribute(device, a).unwrap();
        let (major, minor) = (
            attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        );
        assert_eq!(format!("{major}{minor}"), sm);

        result::ctx::set_current(result::primary_ctx::retain(0).unwrap()).unwrap();
        let load =
            |text: &str| result::module::load_data(CString::new(text).unwrap().as_ptr().cast());
        let entry = |target: &str, entry: &str| {
            load(&format!(".version 6.0\n.target sm_{target}\n{entry}\n"))
        };
        let module =
            entry("61", ".visible .entry missing_barrier(\n.param .align 8 .b8 p[24]\n)\n{ }")
                .unwrap();
        result::module::get_function(module, c"missing_barrier".into()).unwrap();
        is(
            result::module::get_function(module, c"early_return".into()),
            CUresult::CUDA_ERROR_NOT_FOUND,
        );
        // The layout of another time, a kernel of another time, code for a newer card, no code.
        is(
            entry("61", ".entry missing_barrier(\n.param .align 8 .b8 p[16]\n)"),
            CUresult::CUDA_ERROR_INVALID_IMAGE,
        );
        is(entry("61", ".entry gone(\n.param .u64 p\n)"), CUresult::CUDA_ERROR_INVALID_IMAGE);
        is(load("#!/bin/sh\n"), CUresult::CUDA_ERROR_INVALID_IMAGE);
        assert_eq!(entry("80", "").is_ok(), sm.as_str() >= "80");
        if sm.as_str() < "80" {
            is(entry("80", ""), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
        }
    }
}

#[test]
fn a_driver_without_a_card_says_so() {
    on_emulator(
        "cards::child_no_card",
        &[("HIRED_EMULATOR_SM", "none"), ("HIRED_EMULATOR_DRIVER", "11040")],
    );
}

#[test]
#[ignore = "child"]
fn child_no_card() {
    let mut version = 0;
    // SAFETY: a place for one number.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().unwrap();
    assert_eq!(version, 11040);
    is(result::init(), CUresult::CUDA_ERROR_NO_DEVICE);
}

#[test]
fn a_driver_can_lack_a_function() {
    const SYMBOL: &str = "cuGraphInstantiateWithFlags";
    let options = [PLANTED, &["--without", SYMBOL]].concat();
    let old = Emulator::build(Build::Plain, &options);
    for (emulator, has) in [(old, "0"), (Emulator::build(Build::Plain, PLANTED), "1")] {
        let output = emulator.child("cards::child_symbol", &[("SYMBOL", SYMBOL), ("HAS", has)]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
#[ignore = "child"]
fn child_symbol() {
    let symbol = std::env::var("SYMBOL").unwrap();
    // SAFETY: the symbol is looked for, not called.
    let found = unsafe { sys::culib().get::<unsafe extern "C" fn()>(symbol.as_bytes()).is_ok() };
    assert_eq!(found, std::env::var("HAS").unwrap() == "1");
}
