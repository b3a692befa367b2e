//! The loops in AVX-512: sixteen numbers a register.
// The loops index several arrays of registers at once.
#![allow(clippy::needless_range_loop)]

use super::exp::{LEAST, LN2, LN2_REST, LOG2_E, MOST, POWERS};
use super::{LANES, READS, ROWS, STORED_ROWS, SUMS, ask_ahead, fold, padded};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Numbers of a register.
const WIDTH: usize = 16;
/// Registers of partial sums.
const CHAINS: usize = LANES / WIDTH;
/// Independent accumulators of [`multiply_adds`], at least latency times throughput of any processor so far.
const BUSY: usize = 12;

/// Numbers that a register can load as f32.
pub trait Number: Copy {
    const ZERO: Self;

    /// Loads sixteen of them.
    ///
    /// # Safety
    /// Needs AVX-512F, and sixteen numbers at `from`.
    unsafe fn load(from: *const Self) -> __m512;
}

impl Number for f32 {
    const ZERO: Self = 0.0;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const Self) -> __m512 {
        // SAFETY: upheld by this function's own contract.
        unsafe { _mm512_loadu_ps(from) }
    }
}

impl Number for f16 {
    const ZERO: Self = f16::ZERO;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const Self) -> __m512 {
        // SAFETY: upheld by this function's own contract.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
    }
}

impl Number for bf16 {
    const ZERO: Self = bf16::ZERO;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const Self) -> __m512 {
        // SAFETY: upheld by this function's own contract.
        let bits = unsafe { _mm256_loadu_si256(from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn numbers(x: __m512) -> [f32; WIDTH] {
    let mut numbers = [0.0; WIDTH];
    // SAFETY: the array holds a register's numbers.
    unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), x) };
    numbers
}

#[target_feature(enable = "avx512f")]
pub fn dots<T: Number>(w: &[T], x: &[f32], stride: usize, sums: &mut [f32]) {
    let mut row = 0;
    while row + ROWS <= sums.len() {
        dots_of::<T, 1, ROWS>(w, &x[row * stride..], stride, &mut sums[row..]);
        row += ROWS;
    }
    for row in row..sums.len() {
        dots_of::<T, 1, 1>(w, &x[row * stride..], stride, &mut sums[row..]);
    }
}

#[target_feature(enable = "avx512f")]
pub fn stored_row_dots<T: Number>(w: &[T], x: &[f32], sums: &mut [f32]) {
    let len = x.len();
    assert_eq!(w.len(), sums.len() * len, "stored rows as long as `x`, a sum for each");
    let mut row = 0;
    while row + STORED_ROWS <= sums.len() {
        let rows = &w[row * len..(row + STORED_ROWS) * len];
        dots_of::<T, STORED_ROWS, 1>(rows, x, len, &mut sums[row..]);
        row += STORED_ROWS;
    }
    for row in row..sums.len() {
        dots_of::<T, 1, 1>(&w[row * len..(row + 1) * len], x, len, &mut sums[row..]);
    }
}

/// `N` consecutive stored rows with each of `M` rows of `x`: sums\[n·M + m\].
#[inline]
#[target_feature(enable = "avx512f")]
fn dots_of<T: Number, const N: usize, const M: usize>(
    w: &[T],
    x: &[f32],
    stride: usize,
    sums: &mut [f32],
) {
    let len = w.len() / N;
    assert!(w.len() == N * len, "whole stored rows");
    assert!(x.len() >= (M - 1) * stride + len && sums.len() >= N * M, "rows leave their buffer");
    let mut lanes = [[[_mm512_setzero_ps(); CHAINS]; M]; N];
    let (base, x0) = (w.as_ptr(), x.as_ptr());
    let mut at = 0;
    while at + LANES <= len {
        for n in 0..N {
            ask_ahead(base.wrapping_add(n * len + at));
        }
        for chain in 0..CHAINS {
            let at = at + chain * WIDTH;
            // SAFETY: `at` and the fifteen numbers behind it are in every row of `w` and, by the assertion, of `x`.
            unsafe {
                let x: [__m512; M] =
                    std::array::from_fn(|row| _mm512_loadu_ps(x0.add(row * stride + at)));
                for n in 0..N {
                    let w = T::load(base.add(n * len + at));
                    for row in 0..M {
                        lanes[n][row][chain] = _mm512_fmadd_ps(w, x[row], lanes[n][row][chain]);
                    }
                }
            }
        }
        at += LANES;
    }
    for chain in 0..CHAINS {
        let (begin, end) = ((at + chain * WIDTH).min(len), (at + (chain + 1) * WIDTH).min(len));
        if begin == end {
            break;
        }
        for n in 0..N {
            let w: [T; WIDTH] = padded(&w[n * len..][begin..end], T::ZERO);
            // SAFETY: the array holds a register's numbers.
            let w = unsafe { T::load(w.as_ptr()) };
            for row in 0..M {
                let x: [f32; WIDTH] = padded(&x[row * stride..][begin..end], 0.0);
                // SAFETY: as above.
                let x = unsafe { _mm512_loadu_ps(x.as_ptr()) };
                lanes[n][row][chain] = _mm512_fmadd_ps(w, x, lanes[n][row][chain]);
            }
        }
    }
    for (sum, [a, b, c, d]) in sums.iter_mut().zip(lanes.into_iter().flatten()) {
        let sixteen = _mm512_add_ps(_mm512_add_ps(a, c), _mm512_add_ps(b, d));
        *sum = fold(numbers(sixteen));
    }
}

#[target_feature(enable = "avx512f")]
pub fn add_rows<T: Number>(p: &[f32], rows: &[T], out: &mut [f32]) {
    let width = out.len();
    assert!(rows.len() >= p.len() * width, "rows leave their buffer");
    let mut at = 0;
    while at + LANES <= width {
        add_columns::<T, CHAINS>(p, rows, at, out);
        at += LANES;
    }
    while at + WIDTH <= width {
        add_columns::<T, 1>(p, rows, at, out);
        at += WIDTH;
    }
    if at < width {
        let mut rest = padded::<f32, WIDTH>(&out[at..], 0.0);
        for (p, row) in p.iter().zip(rows.chunks_exact(width)) {
            let row: [T; WIDTH] = padded(&row[at..], T::ZERO);
            // SAFETY: both arrays hold a register's numbers.
            let (sum, row) = unsafe { (_mm512_loadu_ps(rest.as_ptr()), T::load(row.as_ptr())) };
            rest = numbers(_mm512_fmadd_ps(_mm512_set1_ps(*p), row, sum));
        }
        out[at..].copy_from_slice(&rest[..width - at]);
    }
}

/// Accumulates registers of neighbouring columns, from `at` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_columns<T: Number, const N: usize>(p: &[f32], rows: &[T], at: usize, out: &mut [f32]) {
    let width = out.len();
    assert!(at + N * WIDTH <= width && rows.len() >= p.len() * width, "rows leave their buffer");
    let mut sums = [_mm512_setzero_ps(); N];
    for (i, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the columns are in `out`.
        *sum = unsafe { _mm512_loadu_ps(out.as_ptr().add(at + i * WIDTH)) };
    }
    for (row, &p) in p.iter().enumerate() {
        let p = _mm512_set1_ps(p);
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: there are as many rows as weights, and the columns are in each of them.
            let x = unsafe { T::load(rows.as_ptr().add(row * width + at + i * WIDTH)) };
            *sum = _mm512_fmadd_ps(p, x, *sum);
        }
    }
    for (i, sum) in sums.into_iter().enumerate() {
        // SAFETY: the columns are in `out`.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(at + i * WIDTH), sum) };
    }
}

#[target_feature(enable = "avx512f")]
pub fn widen<T: Number>(x: &[T], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "numbers to widen and their places");
    let (x, x_rest) = x.as_chunks::<WIDTH>();
    let (out, out_rest) = out.as_chunks_mut::<WIDTH>();
    for (out, x) in out.iter_mut().zip(x) {
        // SAFETY: both arrays hold a register's numbers.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), T::load(x.as_ptr())) };
    }
    let rest: [T; WIDTH] = padded(x_rest, T::ZERO);
    // SAFETY: the array holds a register's numbers.
    let rest = numbers(unsafe { T::load(rest.as_ptr()) });
    out_rest.copy_from_slice(&rest[..out_rest.len()]);
}

/// exp of each lane, see [`super::exp`].
#[inline]
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    // If an operand is NaN these return the second one: a NaN in x stays.
    let x = _mm512_max_ps(_mm512_set1_ps(LEAST), x);
    let x = _mm512_min_ps(_mm512_set1_ps(MOST), x);
    let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, _mm512_set1_ps(LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2_REST), r);
    let mut sum = _mm512_set1_ps(POWERS[0]);
    for power in &POWERS[1..] {
        sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(*power));
    }
    let sum = _mm512_fmadd_ps(sum, _mm512_mul_ps(r, r), r);
    _mm512_scalef_ps(_mm512_add_ps(sum, _mm512_set1_ps(1.0)), n)
}

#[target_feature(enable = "avx512f")]
pub fn exps(x: &mut [f32]) -> f32 {
    const { assert!(SUMS == WIDTH) };
    let (whole, rest) = x.as_chunks_mut::<WIDTH>();
    let padded_rest = padded::<f32, WIDTH>(rest, f32::NEG_INFINITY);
    // SAFETY: every array holds a register's numbers, here and below.
    let last = unsafe { _mm512_loadu_ps(padded_rest.as_ptr()) };
    let mut max = last;
    for x in whole.iter() {
        // SAFETY: as above.
        max = _mm512_max_ps(max, unsafe { _mm512_loadu_ps(x.as_ptr()) });
    }
    let max = _mm512_set1_ps(numbers(max).into_iter().fold(f32::NEG_INFINITY, f32::max));
    let mut sum = _mm512_setzero_ps();
    for x in whole {
        // SAFETY: as above.
        let y = exp(_mm512_sub_ps(unsafe { _mm512_loadu_ps(x.as_ptr()) }, max));
        sum = _mm512_add_ps(sum, y);
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), y) };
    }
    if !rest.is_empty() {
        let y = exp(_mm512_sub_ps(last, max));
        sum = _mm512_add_ps(sum, y);
        rest.copy_from_slice(&numbers(y)[..rest.len()]);
    }
    fold(numbers(sum))
}

#[target_feature(enable = "avx512f")]
pub fn gate(x: &mut [f32], factor: f32) {
    let (whole, rest) = x.as_chunks_mut::<WIDTH>();
    for x in whole {
        gate_lanes(x, factor);
    }
    let mut last = padded::<f32, WIDTH>(rest, 0.0);
    gate_lanes(&mut last, factor);
    rest.copy_from_slice(&last[..rest.len()]);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn gate_lanes(x: &mut [f32; WIDTH], factor: f32) {
    // SAFETY: the array holds a register's numbers.
    let wide = unsafe { _mm512_loadu_ps(x.as_ptr()) };
    let below = exp(_mm512_mul_ps(_mm512_set1_ps(-factor), wide));
    *x = numbers(_mm512_div_ps(wide, _mm512_add_ps(_mm512_set1_ps(1.0), below)));
}

#[target_feature(enable = "avx512f")]
pub fn multiply_adds(at_least: usize) -> usize {
    let (start, factor) = std::hint::black_box((1.0, 0.999));
    let (factor, term) = (_mm512_set1_ps(factor), _mm512_set1_ps(1e-3));
    let mut sums = [_mm512_set1_ps(start); BUSY];
    let rounds = at_least.div_ceil(BUSY * WIDTH);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, term);
        }
    }
    std::hint::black_box(sums.map(|sum| numbers(sum)));
    rounds * BUSY * WIDTH
}

#[target_feature(enable = "avx512f")]
pub fn xor(words: &[u64]) -> u64 {
    const WORDS: usize = 8;
    let mut all = [_mm512_setzero_si512(); READS];
    let rounds = words.chunks_exact(READS * WORDS);
    let rest = rounds.remainder();
    for round in rounds {
        for (all, words) in all.iter_mut().zip(round.chunks_exact(WORDS)) {
            // SAFETY: eight words fill a register.
            *all = _mm512_xor_si512(*all, unsafe { _mm512_loadu_si512(words.as_ptr().cast()) });
        }
    }
    let mut words = [0; READS * WORDS];
    for (words, all) in words.chunks_exact_mut(WORDS).zip(all) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), all) };
    }
    words.iter().chain(rest).fold(0, |all, word| all ^ word)
}
