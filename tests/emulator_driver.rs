//! The stand-in driver keeps the driver's rules: those that a program could break without noticing on one card.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/emulator.rs"]
mod emulator;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use emulator::{Build, Emulator, Stats};
use std::ffi::{CString, c_void};
use std::ptr::null_mut;

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

#[test]
fn each_card_runs_what_it_can() {
    for sm in ["61", "70", "75", "80", "86", "89", "90"] {
        on_emulator("child_images", &[("HIRED_EMULATOR_SM", sm)]);
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
        "child_no_card",
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
fn memory_has_a_limit_and_an_end() {
    on_emulator("child_memory", &[("HIRED_EMULATOR_MEMORY", "64M")]);
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
    on_emulator("child_limits", &[("HIRED_EMULATOR_SM", "80")]);
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
    on_emulator("child_lazy", &[("HIRED_EMULATOR_LAZY", "0"), ("EXPECTED", "1")]);
    on_emulator("child_lazy", &[("HIRED_EMULATOR_LAZY", "1"), ("EXPECTED", "9")]);
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

        // Pageable memory is taken at the call, and an event orders one stream after another.
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).unwrap();
        let mut pageable = [2.0f32; COUNT];
        result::memcpy_htod_async(a, &pageable, first).unwrap();
        pageable.fill(3.0);
        result::event::record(event, first).unwrap();
        result::stream::wait_event(second, event, sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT)
            .unwrap();
        result::memcpy_dtoh_async(&mut seen, a, second).unwrap();
        result::stream::synchronize(second).unwrap();
        assert_eq!(seen, [2.0; COUNT]);
        assert_eq!(pageable, [3.0; COUNT]);
    }
}

#[test]
fn a_program_in_safe_words_leaves_nothing_behind() {
    for (pools, lazy) in [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")] {
        let modes = [("HIRED_EMULATOR_POOLS", pools), ("HIRED_EMULATOR_LAZY", lazy)];
        on_emulator("child_program", &modes);
    }
    let asan = Emulator::build(Build::Asan, &["--kernels", "tests/emulator/planted", "--sm", "80"]);
    let output = asan.child("child_program", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "child"]
fn child_program() {
    program().unwrap();
    let stats = emulator::stats();
    let expected = Stats {
        device_peak: stats.device_peak,
        calls: stats.calls,
        launches: 4,
        ..Stats::default()
    };
    assert_eq!(stats, expected);
}

/// Context, stream, copies, a launch, events, a graph replayed: the words an engine uses.
fn program() -> Result<(), DriverError> {
    let context = CudaContext::new(0)?;
    // SAFETY: one stream does all the work.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream()?;
    let module = context.load_module(Ptx::from_src(image("80").into_string().unwrap()))?;
    let f = module.load_function("add_scaled")?;
    let input = stream.clone_htod(&vec![1.0f32; COUNT])?;
    let mut output = stream.alloc_zeros::<f32>(COUNT)?;
    let config = LaunchConfig { grid_dim: (2, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 0 };
    let (count, scale) = (COUNT as u32, 3.0f64);
    let (begin, end) = (context.new_event(None)?, context.new_event(None)?);
    begin.record(&stream)?;
    let mut launch = stream.launch_builder(&f);
    launch.arg(&input).arg(&mut output).arg(&count).arg(&scale);
    // SAFETY: the kernel's parameters in its order.
    unsafe { launch.launch(config) }?;
    end.record(&stream)?;
    end.synchronize()?;
    assert!(begin.elapsed_ms(&end)? >= 0.0);

    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    let mut launch = stream.launch_builder(&f);
    launch.arg(&input).arg(&mut output).arg(&count).arg(&scale);
    // SAFETY: as above. What was asked for since begin_capture is not done, only recorded.
    let launched = unsafe { launch.launch(config) }.map(|_| ());
    let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0));
    launched?;
    let graph = graph?.expect("a graph");
    graph.upload()?;
    for _ in 0..3 {
        graph.launch()?;
    }
    assert_eq!(stream.clone_dtoh(&output)?, vec![12.0f32; COUNT]);
    drop((input, output, graph, begin, end));
    context.synchronize()?;
    context.check_err()
}

#[test]
fn waiting_inside_a_capture_spoils_it() {
    on_emulator("child_capture", &[]);
}

#[test]
#[ignore = "child"]
fn child_capture() {
    let (_, f) = function("add_scaled");
    // SAFETY: handles are used as they are given.
    unsafe {
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).unwrap();
        let a = result::malloc_sync(4 * COUNT).unwrap();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
        result::stream::begin_capture(stream, mode).unwrap();
        add(f, a, a, 1.0, stream).unwrap();
        is(result::malloc_sync(4), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        is(result::stream::synchronize(stream), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        is(result::stream::end_capture(stream), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).unwrap();
        result::event::record(event, null_mut()).unwrap();
        result::stream::begin_capture(stream, mode).unwrap();
        let wait = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        is(
            result::stream::wait_event(stream, event, wait),
            CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
        );
        is(result::stream::end_capture(stream), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        assert_eq!(emulator::stats().launches, 0);
    }
}

/// Every call of the program fails once: an error comes back, or the call was one that only frees.
#[test]
fn every_call_can_fail() {
    on_emulator("child_failures", &[]);
}

#[test]
#[ignore = "child"]
fn child_failures() {
    program().unwrap();
    emulator::reset();
    program().unwrap();
    let calls = emulator::stats().calls;
    assert!(calls > 40, "{calls}");
    let mut unreported = 0;
    for n in 1..=calls {
        emulator::reset();
        emulator::fail(&format!("any:{n}=999"));
        match program() {
            Err(error) => assert_eq!(error.0, CUresult::CUDA_ERROR_UNKNOWN, "call {n}"),
            Ok(()) => unreported += 1,
        }
        let stats = emulator::stats();
        // What was not freed is the one thing whose freeing failed, or that the constructor let go of.
        let left = stats.device_blocks + stats.streams + stats.events + stats.graphs + stats.execs;
        assert!(left + stats.modules + stats.contexts <= 2, "call {n} leaves {stats:?}");
    }
    // Those after the last word of the program: the stream's, the module's and the context's end.
    assert!(unreported <= 6, "{unreported} of {calls}");

    emulator::reset();
    emulator::fail("cuLaunchKernel:2=719!");
    is(program(), CUresult::CUDA_ERROR_LAUNCH_FAILED);
    emulator::reset();
    program().unwrap();
}

#[test]
fn a_driver_can_lack_a_function() {
    const SYMBOL: &str = "cuGraphInstantiateWithFlags";
    let options = [PLANTED, &["--without", SYMBOL]].concat();
    let old = Emulator::build(Build::Plain, &options);
    for (emulator, has) in [(old, "0"), (Emulator::build(Build::Plain, PLANTED), "1")] {
        let output = emulator.child("child_symbol", &[("SYMBOL", SYMBOL), ("HAS", has)]);
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
