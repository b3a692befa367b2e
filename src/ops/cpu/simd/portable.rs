//! The loops in portable code, which the compiler may vectorise.

use super::{LANES, fold};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Numbers that widen to f32.
pub trait Number: Copy {
    /// Widens a slice.
    fn widen(from: &[Self], out: &mut [f32]);
}

impl Number for f32 {
    fn widen(from: &[Self], out: &mut [f32]) {
        out.copy_from_slice(from);
    }
}

impl Number for f16 {
    fn widen(from: &[Self], out: &mut [f32]) {
        from.convert_to_f32_slice(out);
    }
}

impl Number for bf16 {
    fn widen(from: &[Self], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(from) {
            *out = f32::from_bits(u32::from(x.to_bits()) << 16);
        }
    }
}

/// Fused only where every machine of the target has the instruction; elsewhere it would be a slow library call.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
}

pub fn stored_row_dots<T: Number>(w: &[T], x: &[f32], sums: &mut [f32]) {
    let len = x.len();
    for (row, sum) in sums.iter_mut().enumerate() {
        dots(&w[row * len..(row + 1) * len], x, len, std::slice::from_mut(sum));
    }
}

pub fn dots<T: Number>(w: &[T], x: &[f32], stride: usize, sums: &mut [f32]) {
    for (row, sum) in sums.iter_mut().enumerate() {
        *sum = dot(w, &x[row * stride..][..w.len()]);
    }
}

fn dot<T: Number>(w: &[T], x: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let mut wide = [0.0f32; LANES];
    for (w, x) in w.chunks(LANES).zip(x.chunks(LANES)) {
        T::widen(w, &mut wide[..w.len()]);
        for ((sum, w), x) in sums.iter_mut().zip(&wide).zip(x) {
            *sum = multiply_add(*w, *x, *sum);
        }
    }
    fold(sums)
}

pub fn add_rows<T: Number>(p: &[f32], rows: &[T], out: &mut [f32]) {
    let mut wide = [0.0f32; LANES];
    for (p, row) in p.iter().zip(rows.chunks_exact(out.len())) {
        for (out, row) in out.chunks_mut(LANES).zip(row.chunks(LANES)) {
            T::widen(row, &mut wide[..row.len()]);
            for (out, x) in out.iter_mut().zip(&wide) {
                *out = multiply_add(*p, *x, *out);
            }
        }
    }
}

pub fn widen<T: Number>(x: &[T], out: &mut [f32]) {
    T::widen(x, out);
}

pub fn exps(x: &mut [f32]) -> f32 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = (*x - max).exp();
        sum += *x;
    }
    sum
}

pub fn gate(x: &mut [f32], factor: f32) {
    for x in x.iter_mut() {
        *x /= 1.0 + (-factor * *x).exp();
    }
}

pub fn multiply_adds(at_least: usize) -> usize {
    let (mut sums, factor) = std::hint::black_box(([1.0f32; LANES], 0.999));
    let rounds = at_least.div_ceil(LANES);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = multiply_add(*sum, factor, 1e-3);
        }
    }
    std::hint::black_box(sums);
    rounds * LANES
}

pub fn xor(words: &[u64]) -> u64 {
    words.iter().fold(0, |all, word| all ^ word)
}
