//! Memory and launches have limits, and what is asked for may happen late.

use super::{COUNT, add, function, is, on_emulator};
use crate::emulator;
use cudarc::driver::result;
use cudarc::driver::sys::{self, CUresult};
use std::ffi::c_void;
use std::ptr::null_mut;

#[test]
fn memory_has_a_limit_and_an_end() {
    on_emulator("memory::child_memory", &[("HIRED_EMULATOR_MEMORY", "64M")]);
}

#[test]
#[ignore = "child"]
fn child_memory() {
    let (_, f) = function("add_scaled");
    let blocks = || emulator::stats().device_blocks;
    // SAFETY: sizes are those of the blocks, except where the driver must refuse.
    unsafe {
        assert_eq!(result::mem_get_info().unwrap(), (64 << 20, 64 << 20));
        let a = result::malloc_sync(40 << 20).unwrap();
        is(result::malloc_sync(25 << 20), CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        let b = result::malloc_sync(1000).unwrap();
        assert_eq!(blocks(), 2);
        result::free_sync(a).unwrap();
        is(result::free_sync(a), CUresult::CUDA_ERROR_INVALID_VALUE);
        let stats = emulator::stats();
        assert_eq!((stats.device_bytes, stats.device_peak), (1000, (40 << 20) + 1000));
        is(result::memcpy_htod_sync(b, &[0u8; 1001]), CUresult::CUDA_ERROR_INVALID_VALUE);
        is(result::memcpy_htod_sync(b + 1, &[0u8; 1000]), CUresult::CUDA_ERROR_INVALID_VALUE);

        // A gap in an arena: 100 numbers, of which the last ten are nobody's.
        emulator::guard(b + 360, 40, true);
        let c = result::malloc_sync(4 * COUNT).unwrap();
        add(f, c, b, 1.0, null_mut()).unwrap();
        is(sys::cuCtxSynchronize().result(), CUresult::CUDA_ERROR_LAUNCH_FAILED);
        assert!(
            emulator::report().contains("0 bytes into a guarded gap of 40 bytes"),
            "{}",
            emulator::report()
        );
    }
    emulator::reset();
    let (_, f) = function("add_scaled");
    // SAFETY: the block that is used after its end is what this is about.
    unsafe {
        let a = result::malloc_sync(4 * COUNT).unwrap();
        let b = result::malloc_sync(4 * COUNT).unwrap();
        result::free_sync(b).unwrap();
        let c = result::malloc_sync(4 * COUNT).unwrap();
        assert_ne!(b, c, "addresses are not used twice");
        add(f, a, b, 1.0, null_mut()).unwrap();
        is(sys::cuCtxSynchronize().result(), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert!(emulator::report().contains("where nothing is allocated"));
        // The context is lost until its last reference is given back.
        is(result::malloc_sync(4), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    }
}

#[test]
fn launches_are_held_to_the_limits() {
    on_emulator("memory::child_limits", &[("HIRED_EMULATOR_SM", "80")]);
}

#[test]
#[ignore = "child"]
fn child_limits() {
    let (module, f) = function("add_scaled");
    let mut zero = [0u64; 4];
    let mut list = zero.each_mut().map(|p| (&raw mut *p).cast::<c_void>());
    // SAFETY: parameters outlive the calls; count 0 touches nothing.
    unsafe {
        let mut launch = |grid, block, shared| {
            result::launch_kernel(f, grid, block, shared, null_mut(), &mut list)
        };
        launch((1, 1, 1), (64, 1, 1), 0).unwrap();
        is(launch((1, 1, 1), (65, 1, 1), 0), CUresult::CUDA_ERROR_INVALID_VALUE); // its __launch_bounds__
        is(launch((0, 1, 1), (64, 1, 1), 0), CUresult::CUDA_ERROR_INVALID_VALUE);
        is(launch((1, 65536, 1), (64, 1, 1), 0), CUresult::CUDA_ERROR_INVALID_VALUE);

        // More than 48 KiB of shared memory must be asked for, and more than the card has is refused.
        use sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as LIMIT;
        let g = result::module::get_function(module, c"shared_bytes".into()).unwrap();
        let mut out = result::malloc_sync(4).unwrap();
        let mut list = [(&raw mut out).cast::<c_void>()];
        let mut launch =
            |shared| result::launch_kernel(g, (1, 1, 1), (32, 1, 1), shared, null_mut(), &mut list);
        launch(49152).unwrap();
        is(launch(49153), CUresult::CUDA_ERROR_INVALID_VALUE);
        is(sys::cuFuncSetAttribute(g, LIMIT, 166913).result(), CUresult::CUDA_ERROR_INVALID_VALUE);
        sys::cuFuncSetAttribute(g, LIMIT, 166912).result().unwrap();
        launch(166912).unwrap();
    }
}

/// A pinned buffer filled anew before the copy from it has happened: right by luck where work runs at once.
#[test]
fn lazy_work_shows_memory_reused_too_early() {
    on_emulator("memory::child_lazy", &[("HIRED_EMULATOR_LAZY", "0"), ("EXPECTED", "1")]);
    on_emulator("memory::child_lazy", &[("HIRED_EMULATOR_LAZY", "1"), ("EXPECTED", "9")]);
    let late = [("HIRED_EMULATOR_LAZY", "1"), ("HIRED_EMULATOR_PAGEABLE", "late")];
    on_emulator("memory::child_lazy", &[&late[..], &[("EXPECTED", "9")]].concat());
}

#[test]
#[ignore = "child"]
fn child_lazy() {
    let expected: f32 = std::env::var("EXPECTED").unwrap().parse().unwrap();
    function("add_scaled");
    // SAFETY: `pinned` and the blocks are of the size that is copied.
    unsafe {
        let new_stream =
            || result::stream::create(result::stream::StreamKind::NonBlocking).unwrap();
        let (first, second) = (new_stream(), new_stream());
        let pinned = result::malloc_host(4 * COUNT, 0).unwrap().cast::<f32>();
        let buffer = std::slice::from_raw_parts_mut(pinned, COUNT);
        let a = result::malloc_sync(4 * COUNT).unwrap();
        buffer.fill(1.0);
        result::memcpy_htod_async(a, buffer, first).unwrap();
        buffer.fill(9.0);
        let mut seen = [0.0f32; COUNT];
        result::stream::synchronize(first).unwrap();
        result::memcpy_dtoh_sync(&mut seen, a).unwrap();
        assert_eq!(seen, [expected; COUNT]);

        // Pageable memory is taken at the call unless the emulator is to take it late, and an event orders one stream after another.
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).unwrap();
        let mut pageable = [2.0f32; COUNT];
        result::memcpy_htod_async(a, &pageable, first).unwrap();
        pageable.fill(3.0);
        result::event::record(event, first).unwrap();
        result::stream::wait_event(second, event, sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT)
            .unwrap();
        result::memcpy_dtoh_async(&mut seen, a, second).unwrap();
        result::stream::synchronize(second).unwrap();
        let is_late = std::env::var("HIRED_EMULATOR_PAGEABLE").is_ok();
        assert_eq!(seen, [if is_late { 3.0 } else { 2.0 }; COUNT]);
        assert_eq!(pageable, [3.0; COUNT]);
    }
}
