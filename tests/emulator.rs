//! The emulator finds planted bugs, and finds nothing in their corrected twins.
//!
//! A bug counts as found when a run is reported, or when results differ between schedules or between values of
//! uninitialised memory. The kernels are in tests/emulator/planted.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/emulator.rs"]
mod emulator;

use cudarc::driver::{result, sys};
use emulator::{Build, Emulator};
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

/// How a bug comes to light.
#[derive(Debug, Clone, Copy)]
enum By {
    /// A report that contains these words.
    Report(&'static str),
    /// Results that differ between schedules or poisons.
    Difference,
}

/// A kernel with a planted bug, and how it is launched.
struct Bug {
    kernel: &'static str,
    grid: u32,
    block: u32,
    /// Numbers in and out.
    count: usize,
    /// Bytes of dynamic shared memory.
    shared: u32,
    /// Whether the output starts at zero, not uninitialised.
    zeroed: bool,
    /// What the corrected twin puts into element i.
    twin: fn(&[f32], usize) -> f32,
    /// What must find the bug, in the builds that can.
    found: &'static [(Build, By)],
}

const USUAL: Bug = Bug {
    kernel: "",
    grid: 1,
    block: 256,
    count: 256,
    shared: 0,
    zeroed: false,
    twin: same,
    found: &[],
};

fn same(x: &[f32], i: usize) -> f32 {
    x[i]
}

fn turned(x: &[f32], i: usize) -> f32 {
    x[x.len() - 1 - i]
}

fn neighbour(x: &[f32], i: usize) -> f32 {
    x[i ^ 1]
}

use Build::{Asan, Plain, Races};
use By::{Difference, Report};

const BUGS: &[Bug] = &[
    // How threads wait for each other.
    Bug {
        kernel: "missing_barrier",
        twin: |x, _| x.iter().sum(),
        found: &[(Plain, Difference), (Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "missing_second_barrier",
        twin: |x, _| 2.0 * x.iter().sum::<f32>() + x.len() as f32,
        found: &[(Plain, Difference), (Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "missing_syncwarp",
        twin: neighbour,
        found: &[(Plain, Difference), (Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "divergent_barrier",
        twin: turned,
        found: &[(Plain, Report("divergent barrier")), (Asan, Report("divergent barrier"))],
        ..USUAL
    },
    Bug {
        kernel: "conditional_barrier",
        twin: turned,
        found: &[(Plain, Report("156 threads have left"))],
        ..USUAL
    },
    Bug {
        kernel: "early_return",
        count: 200,
        twin: turned,
        found: &[(Plain, Report("56 threads have left"))],
        ..USUAL
    },
    Bug {
        kernel: "mask_names_too_many",
        twin: |x, i| if i % 32 < 20 { x[i / 32 * 32 + 19 - i % 32] } else { x[i] },
        found: &[(Plain, Report("wait at __shfl_sync"))],
        ..USUAL
    },
    Bug {
        kernel: "mask_without_caller",
        twin: neighbour,
        found: &[(Plain, Report("which does not name it"))],
        ..USUAL
    },
    Bug {
        kernel: "mask_reads_outside",
        twin: |x, i| if i % 32 == 0 { x[i..i + 16].iter().sum() } else { 0.0 },
        found: &[(Plain, Difference)],
        ..USUAL
    },
    // What they read and write.
    Bug {
        kernel: "global_overrun_write",
        grid: 4,
        count: 1000,
        found: &[
            (Plain, Report("a write 0 bytes behind a block of 4000 bytes")),
            (Asan, Report("AddressSanitizer")),
        ],
        ..USUAL
    },
    Bug {
        kernel: "global_overrun_read",
        grid: 4,
        count: 1000,
        found: &[(Plain, Difference), (Asan, Report("AddressSanitizer"))],
        ..USUAL
    },
    Bug { kernel: "global_wild", found: &[(Plain, Report("where nothing is allocated"))], ..USUAL },
    Bug {
        kernel: "dynamic_shared_overrun",
        shared: 1024,
        found: &[
            (Plain, Report("an access at byte 1024 of 1024 bytes of dynamic shared memory")),
            (Asan, Report("AddressSanitizer")),
        ],
        ..USUAL
    },
    Bug {
        kernel: "static_shared_overrun",
        found: &[(Plain, Report("out of the bounds of an array")), (Asan, Report("array"))],
        ..USUAL
    },
    Bug {
        kernel: "hidden_shared_overrun",
        found: &[(Asan, Report("AddressSanitizer: global-buffer-overflow"))],
        ..USUAL
    },
    Bug {
        kernel: "misaligned_load",
        found: &[(Plain, Report("misaligned access")), (Asan, Report("misaligned access"))],
        ..USUAL
    },
    Bug {
        kernel: "uninitialised_static_shared",
        twin: turned,
        found: &[(Plain, Difference)],
        ..USUAL
    },
    Bug {
        kernel: "uninitialised_dynamic_shared",
        shared: 1024,
        twin: turned,
        found: &[(Plain, Difference)],
        ..USUAL
    },
    Bug { kernel: "unwritten_output", found: &[(Plain, Difference)], ..USUAL },
    Bug {
        kernel: "write_write_race",
        twin: |x, i| x[128 + i % 128],
        found: &[(Plain, Difference), (Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "silent_race",
        twin: |x, _| x[0],
        found: &[(Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "race_between_blocks",
        grid: 8,
        zeroed: true,
        twin: |_, i| f32::from_bits(if i == 0 { 8 } else { 0 }),
        found: &[(Races, Report("race on device memory"))],
        ..USUAL
    },
    Bug {
        kernel: "last_block_sums",
        grid: 8,
        block: 32,
        count: 10,
        zeroed: true,
        twin: |x, i| match i {
            8 => f32::from_bits(8),
            9 => x[..8].iter().sum(),
            _ => x[i],
        },
        found: &[(Races, Report("race on device memory"))],
        ..USUAL
    },
    Bug {
        kernel: "stack_overflow",
        found: &[(Plain, Report("stack of 65536 bytes overflowed"))],
        ..USUAL
    },
    // What the words of CUDA and the instructions compute.
    Bug { kernel: "collectives", block: 32, count: 18 * 32, twin: collectives, ..USUAL },
    Bug {
        kernel: "matrix_product",
        block: 32,
        count: 16 * 24,
        zeroed: true,
        twin: matrix_product,
        found: &[(Plain, Difference)], // one group of copies is not waited for
        ..USUAL
    },
    Bug { kernel: "matrix_loads", block: 32, twin: matrix_loads, ..USUAL },
    Bug {
        kernel: "short_copies",
        block: 32,
        count: 128,
        shared: 512,
        twin: |x, i| if i % 4 < i / 4 % 5 { x[i] } else { 0.0 },
        ..USUAL
    },
    Bug { kernel: "halves", grid: 256, count: 65536, twin: halves, ..USUAL },
    Bug {
        kernel: "atomics_and_bits",
        block: 32,
        count: 12,
        zeroed: true,
        twin: |_, i| f32::from_bits(ATOMICS_AND_BITS[i]),
        ..USUAL
    },
];

fn collectives(x: &[f32], i: usize) -> f32 {
    let lane = i % 32;
    let is = |truth: bool| f32::from(u8::from(truth));
    match i / 32 {
        0 => x[lane * 5 % 32],
        1 => x[lane / 8 * 8 + 1],
        2 => x[if lane % 16 < 3 { lane } else { lane - 3 }],
        3 => x[if lane % 16 > 12 { lane } else { lane + 3 }],
        4 => x[lane ^ 21],
        // Lane 1 of the group before, unless there is none below: then the lane's own.
        5 => x[if (lane ^ 9) / 8 > lane / 8 { lane } else { lane ^ 9 }],
        6 => (0xfffff >> 8) as f32,
        7 => is(true),
        8 => is(false),
        9 => is(true),
        10 => is(false),
        11 => (lane / 3 * 3 + 3).min(32) as f32 - (lane / 3 * 3) as f32,
        12 => 496.0,
        13 => 4.0,
        14 => 35.0,
        15 => 11.0,
        16 => is(true),
        _ => is(false),
    }
}

fn matrix_product(x: &[f32], i: usize) -> f32 {
    if i >= 256 {
        return 0.0;
    }
    let (row, col) = (i % 128 / 8, i % 8);
    (0..16).map(|k| x[row * 16 + k] * x[256 + k * 8 + col]).sum()
}

fn matrix_loads(x: &[f32], i: usize) -> f32 {
    let (matrix, lane) = (i / 32 % 4, i % 32);
    let (row, col) = (lane / 4, lane % 4 * 2);
    let at = |row: usize, col: usize| x[matrix * 64 + row * 8 + col];
    if i < 128 {
        at(row, col) + 1000.0 * at(row, col + 1)
    } else {
        at(col, row) + 1000.0 * at(col + 1, row)
    }
}

fn halves(_: &[f32], i: usize) -> f32 {
    // A NaN comes back quiet.
    let back = if i & 0x7fff > 0x7c00 { i as u32 | 0x200 } else { i as u32 };
    let from = half::f16::from_f32(f32::from_bits(i as u32 * 65537));
    f32::from_bits(back | u32::from(from.to_bits()) << 16)
}

const ATOMICS_AND_BITS: [u32; 12] = [
    496,
    93,
    0xffff_ffff,
    2, // 32 steps around 0..=9
    0,
    64,
    // Bytes 7f 80 ff 01 times 02 03 04 05, signed, and 10.
    (10 + 127 * 2 - 128 * 3 - 4 + 5) as u32,
    0x7733_5511,
    15 + 100 * 8 + 10000 * 8,
    ((0xdead_beef_u64 * 0x1234_5678) >> 32) as u32,
    0x1e6a_2c48,
    5, // -4 + 9
];

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
