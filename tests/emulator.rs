//! The emulator finds planted bugs, and finds nothing in their corrected twins.
//!
//! A bug counts as found when a run is reported, or when results differ between schedules or between values of
//! uninitialised memory. The kernels are in tests/emulator/planted.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/emulator.rs"]
mod emulator;
#[path = "emulator/planted/bugs.rs"]
mod planted_bugs;

use cudarc::driver::{result, sys};
use emulator::Build::{self, Asan, Plain, Races};
use emulator::Emulator;
use planted_bugs::By::{Difference, Report};
use planted_bugs::{BUGS, Bug, USUAL, neighbour};
use std::ffi::{CString, c_void};

const PLANTED: &[&str] = &["--kernels", "tests/emulator/planted", "--sm", "61,80"];

/// What the kernels take, as tests/emulator/planted/planted.h has it.
#[repr(C)]
struct Params {
    input: u64,
    output: u64,
    count: u32,
    broken: u32,
}

/// One launch as the child saw it: the words it prints are the words its parent reads.
#[derive(Debug)]
struct Run {
    /// Numbers out, bit by bit; none when the launch failed.
    output: Vec<u32>,
    report: String,
}

fn runs_of(stdout: &str, kernel: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    for line in stdout.lines() {
        // The test harness may have put its own words before the first.
        let Some(at) = line.find("run ") else { continue };
        let mut parts = line[at + 4..].splitn(3, '|');
        if parts.next() != Some(kernel) {
            continue;
        }
        let words = parts.next().unwrap_or("");
        let output = words.split_whitespace().map(|w| u32::from_str_radix(w, 16).expect("hex"));
        runs.push(Run { output: output.collect(), report: parts.next().unwrap_or("").to_owned() });
    }
    runs
}

/// Small whole numbers: their sums are exact in any order.
fn input(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 37 % 101) as f32 + 1.0).collect()
}

fn find_bugs(build: Build) {
    let emulator = Emulator::build(build, PLANTED);
    let mut missed = Vec::new();
    for bug in BUGS {
        let Some(&(_, by)) = bug.found.iter().find(|(b, _)| *b == build) else { continue };
        let output = emulator.child("planted", &[("PLANTED", bug.kernel), ("BROKEN", "1")]);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let runs = runs_of(&stdout, bug.kernel);
        let found = match by {
            Report(words) => {
                stderr.contains(words) || runs.iter().any(|run| run.report.contains(words))
            }
            Difference => runs.len() == 10 && runs.iter().any(|run| run.output != runs[0].output),
        };
        if !found {
            let reports: Vec<&str> = runs.iter().map(|run| run.report.as_str()).collect();
            missed.push(format!("{}: not found by {by:?}: {reports:?}\n{stderr}", bug.kernel));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));

    let output = emulator.child("planted", &[("PLANTED", "all"), ("BROKEN", "0")]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    for bug in BUGS {
        let runs = runs_of(&stdout, bug.kernel);
        assert_eq!(runs.len(), 10, "{}\n{stdout}\n{stderr}", bug.kernel);
        let input = input(bug.count);
        let expected: Vec<u32> = (0..bug.count).map(|i| (bug.twin)(&input, i).to_bits()).collect();
        for run in &runs {
            assert_eq!(run.report, "", "the corrected {} is reported", bug.kernel);
            assert!(run.output == expected, "the corrected {} computes something else", bug.kernel);
        }
    }
}

#[test]
fn plain_build_finds_planted_bugs() {
    find_bugs(Plain);
}

#[test]
fn asan_build_finds_planted_bugs() {
    find_bugs(Asan);
}

#[test]
fn race_detector_finds_planted_bugs() {
    find_bugs(Races);
}

/// Lanes of one mask that meet from two places: right since Volta, never on Pascal.
#[test]
fn two_call_sites_are_refused_on_pascal_alone() {
    let emulator = Emulator::build(Plain, PLANTED);
    for (sm, broken, refused) in [("61", "1", true), ("61", "0", false), ("80", "1", false)] {
        let case = [("HIRED_EMULATOR_SM", sm), ("PLANTED", "two_call_sites"), ("BROKEN", broken)];
        let output = emulator.child("planted", &case);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let runs = runs_of(&stdout, "two_call_sites");
        assert_eq!(runs.len(), 10, "{stdout}");
        for run in runs {
            assert_eq!(
                run.report.contains("meet in __shfl_xor_sync from two places"),
                refused,
                "{run:?}"
            );
            if !refused {
                let input = input(256);
                assert!(
                    run.output.iter().zip(0..).all(|(&x, i)| x == neighbour(&input, i).to_bits())
                );
            }
        }
    }
}

#[test]
fn an_endless_kernel_ends_the_process() {
    let emulator = Emulator::build(Plain, PLANTED);
    let case = [("HIRED_EMULATOR_TIMEOUT", "1"), ("PLANTED", "endless"), ("BROKEN", "1")];
    let output = emulator.child("planted", &case);
    assert_eq!(output.status.code(), Some(124));
    assert!(String::from_utf8_lossy(&output.stderr).contains("kernel endless ran longer"));
}

/// The child: launches PLANTED, or all, under every schedule and two poisons, and prints what it saw.
#[test]
#[ignore = "runs on the emulator, started by the other tests"]
fn planted() {
    let name = std::env::var("PLANTED").expect("PLANTED");
    let broken = u32::from(std::env::var("BROKEN").expect("BROKEN") == "1");
    let apart = [Bug { kernel: "two_call_sites", ..USUAL }, Bug { kernel: "endless", ..USUAL }];
    for bug in BUGS.iter().chain(apart.iter().filter(|_| name != "all")) {
        if name != bug.kernel && name != "all" {
            continue;
        }
        for (schedule, seed) in [(0, 0), (1, 0), (2, 0), (3, 1), (3, 2)] {
            for poison in [0xff, 0x5a] {
                launch(bug, broken, schedule, seed, poison);
            }
        }
    }
}

fn launch(bug: &Bug, broken: u32, schedule: i32, seed: u64, poison: u8) {
    let input = input(bug.count);
    let mut output = vec![0u32; bug.count];
    result::init().expect("the emulator starts");
    emulator::reset();
    emulator::schedule(schedule, seed);
    emulator::poison(poison);
    let sm = std::env::var("HIRED_EMULATOR_SM").unwrap_or("80".into());
    let image = CString::new(format!(".version 6.0\n.target sm_{sm}\n.address_size 64\n")).unwrap();
    let bytes = bug.count * 4;
    // SAFETY: plain calls of the driver; every pointer outlives the calls that use it, sizes are those of the vectors.
    let outcome = (|| unsafe {
        let context = result::primary_ctx::retain(0)?;
        result::ctx::set_current(context)?;
        let module = result::module::load_data(image.as_ptr().cast())?;
        let function = result::module::get_function(module, CString::new(bug.kernel).unwrap())?;
        let (a, b) = (result::malloc_sync(bytes)?, result::malloc_sync(bytes)?);
        result::memcpy_htod_sync(a, &input)?;
        if bug.zeroed {
            result::memset_d8_sync(b, 0, bytes)?;
        }
        let mut params = Params { input: a, output: b, count: bug.count as u32, broken };
        let mut list = [(&raw mut params).cast::<c_void>()];
        let (grid, block) = ((bug.grid, 1, 1), (bug.block, 1, 1));
        result::launch_kernel(function, grid, block, bug.shared, std::ptr::null_mut(), &mut list)?;
        sys::cuCtxSynchronize().result()?;
        result::memcpy_dtoh_sync(&mut output, b)?;
        Ok::<(), result::DriverError>(())
    })();
    let report = emulator::report();
    assert_eq!(outcome.is_ok(), report.is_empty(), "{outcome:?} with the report {report:?}");
    if outcome.is_err() {
        output.clear();
    }
    let words: Vec<String> = output.iter().map(|word| format!("{word:x}")).collect();
    println!("run {}|{}|{report}", bug.kernel, words.join(" "));
}
