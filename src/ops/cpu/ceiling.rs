//! Measures the highest throughput of this machine's processors.

use super::simd::Isa;
use crate::ops::ceiling::Ceiling;
use rayon::prelude::*;
use std::time::Instant;

/// Numbers read to measure the bandwidth, 256 MiB: more than any cache holds.
const READ: usize = 32 << 20;
/// Multiply-adds per thread to measure the arithmetic: some ten milliseconds.
const MULTIPLY_ADDS: usize = 1 << 29;
const TIMES: usize = 5;

/// The best of several measurements: reading memory with all threads, and multiply-adds in registers with each
/// instruction set of the machine.
pub(super) fn measure() -> Ceiling {
    let arithmetic = Isa::all().into_iter().map(flops_per_second);
    Ceiling {
        bytes_per_second: bytes_per_second(Isa::best()),
        flops_per_second: Some(arithmetic.fold(0.0, f64::max)),
        flops_measured: true,
    }
}

fn fastest(mut work: impl FnMut()) -> f64 {
    let times = (0..TIMES).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min).max(1e-9)
}

fn bytes_per_second(isa: Isa) -> f64 {
    // Initialised with values, so that every page is present.
    let numbers: Vec<u64> = (0..READ as u64).collect();
    let share = READ.div_ceil(rayon::current_num_threads());
    let seconds = fastest(|| {
        let all = numbers.par_chunks(share).map(|part| isa.xor(part));
        std::hint::black_box(all.reduce(|| 0, |a, b| a ^ b));
    });
    size_of_val(&numbers[..]) as f64 / seconds
}

fn flops_per_second(isa: Isa) -> f64 {
    let threads = rayon::current_num_threads();
    let mut done = 0;
    let seconds = fastest(|| {
        done = (0..threads).into_par_iter().map(|_| isa.multiply_adds(MULTIPLY_ADDS)).sum();
    });
    2.0 * done as f64 / seconds
}
