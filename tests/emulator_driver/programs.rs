//! Whole programs: what they leave behind, what spoils a capture, and every call that can fail.

use super::{COUNT, PLANTED, add, function, image, is, on_emulator};
use crate::emulator::{self, Build, Emulator, Stats};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::ptr::null_mut;

#[test]
fn a_program_in_safe_words_leaves_nothing_behind() {
    for (pools, lazy) in [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")] {
        let modes = [("HIRED_EMULATOR_POOLS", pools), ("HIRED_EMULATOR_LAZY", lazy)];
        on_emulator("programs::child_program", &modes);
    }
    let output = Emulator::build(Build::Asan, PLANTED).child("programs::child_program", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A line for each way in which a kernel ran, by whatever process.
#[test]
fn what_ran_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coverage");
    let mut noted = Vec::new();
    for schedule in ["lockstep", "ahead", "reversed", "7"] {
        let environment = [
            ("HIRED_EMULATOR_COVERAGE", file.to_str().unwrap()),
            ("HIRED_EMULATOR_SCHEDULE", schedule),
        ];
        on_emulator("programs::child_program", &environment);
        noted.push(schedule.replace('7', "seed7"));
        let expected: String =
            noted.iter().map(|name| format!("add_scaled 80 plain/{name}\n")).collect();
        // Four launches in each process, one line.
        assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    }
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
        blocks: stats.blocks,
        ..Stats::default()
    };
    assert_eq!(stats, expected);
    assert!(stats.blocks >= stats.launches, "{stats:?}");
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
    on_emulator("programs::child_capture", &[]);
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
    on_emulator("programs::child_failures", &[]);
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
