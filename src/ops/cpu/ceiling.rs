//! What this machine's processors can do at most, measured.

use crate::matrix::{View, similarities_on_all};
use crate::ops::ceiling::Ceiling;
use rayon::prelude::*;
use std::time::Instant;

/// Numbers of the copy that measures the bandwidth: more than any cache holds.
const COPIED: usize = 32 << 20;
/// Rows and columns of the product that measures the arithmetic.
const EDGE: usize = 1024;
const TIMES: usize = 5;

/// The best of several copies by all threads, and of several large f32 products by the `gemm` crate.
pub(super) fn measure() -> Ceiling {
    let bytes = 2 * COPIED * size_of::<f32>();
    let flops = 2 * EDGE.pow(3);
    Ceiling {
        bytes_per_second: bytes as f64 / fastest(copy()),
        flops_per_second: Some(flops as f64 / fastest(multiply())),
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

fn copy() -> impl FnMut() {
    let (from, mut to) = (vec![1.0f32; COPIED], vec![0.0f32; COPIED]);
    move || {
        let share = COPIED.div_ceil(rayon::current_num_threads());
        to.par_chunks_mut(share).zip(from.par_chunks(share)).for_each(|(to, from)| {
            to.copy_from_slice(from);
        });
        std::hint::black_box(&to);
    }
}

fn multiply() -> impl FnMut() {
    let (x, y, mut out) =
        (vec![1.0f32; EDGE * EDGE], vec![2.0f32; EDGE * EDGE], vec![0.0f32; EDGE * EDGE]);
    move || {
        let [x, y] = [&x, &y].map(|data| View::dense(data, EDGE));
        similarities_on_all(x, y, 1.0, &mut out);
        std::hint::black_box(&out);
    }
}
