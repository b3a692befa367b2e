//! The loops in AVX2 with fused multiply-add and conversions of f16: eight numbers a register.

use super::exp::{LEAST, LN2, LN2_REST, LOG2_E, MOST, POWERS};
use super::{LANES, READS, SUMS, ask_ahead, fold, padded};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Numbers of a register.
const WIDTH: usize = 8;
/// Registers of partial sums.
const CHAINS: usize = LANES / WIDTH;
/// Independent accumulators of [`multiply_adds`], at least latency times throughput of any processor so far.
const BUSY: usize = 12;

/// Numbers that a register can load as f32.
pub trait Number: Copy {
    const ZERO: Self;

    /// Loads eight of them.
    ///
    /// # Safety
    /// Needs AVX2, FMA and F16C, and eight numbers at `from`.
    unsafe fn load(from: *const Self) -> __m256;
}

impl Number for f32 {
    const ZERO: Self = 0.0;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const Self) -> __m256 {
        // SAFETY: upheld by this function's own contract.
        unsafe { _mm256_loadu_ps(from) }
    }
}

impl Number for f16 {
    const ZERO: Self = f16::ZERO;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const Self) -> __m256 {
        // SAFETY: upheld by this function's own contract.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
    }
}

impl Number for bf16 {
    const ZERO: Self = bf16::ZERO;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const Self) -> __m256 {
        // SAFETY: upheld by this function's own contract.
        let bits = unsafe { _mm_loadu_si128(from.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn numbers(x: __m256) -> [f32; WIDTH] {
    let mut numbers = [0.0; WIDTH];
    // SAFETY: the array holds a register's numbers.
    unsafe { _mm256_storeu_ps(numbers.as_mut_ptr(), x) };
    numbers
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn stored_row_dots<T: Number>(w: &[T], x: &[f32], sums: &mut [f32]) {
    // As in `dots`: the partial sums of one row take eight of the sixteen registers.
    let len = x.len();
    for (row, sum) in sums.iter_mut().enumerate() {
        *sum = dot(&w[row * len..(row + 1) * len], x);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn dots<T: Number>(w: &[T], x: &[f32], stride: usize, sums: &mut [f32]) {
    // One row at a time: the partial sums of two rows would need all registers.
    for (row, sum) in sums.iter_mut().enumerate() {
        *sum = dot(w, &x[row * stride..]);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot<T: Number>(w: &[T], x: &[f32]) -> f32 {
    let len = w.len();
    assert!(x.len() >= len, "a row leaves its buffer");
    let mut lanes = [_mm256_setzero_ps(); CHAINS];
    let mut at = 0;
    while at + LANES <= len {
        ask_ahead(w.as_ptr().wrapping_add(at));
        for (chain, lanes) in lanes.iter_mut().enumerate() {
            let at = at + chain * WIDTH;
            // SAFETY: `at` and the seven numbers behind it are in `w` and, by the assertion, in `x`.
            let (w, x) =
                unsafe { (T::load(w.as_ptr().add(at)), _mm256_loadu_ps(x.as_ptr().add(at))) };
            *lanes = _mm256_fmadd_ps(w, x, *lanes);
        }
        at += LANES;
    }
    for (chain, lanes) in lanes.iter_mut().enumerate() {
        let (begin, end) = ((at + chain * WIDTH).min(len), (at + (chain + 1) * WIDTH).min(len));
        if begin == end {
            break;
        }
        let w: [T; WIDTH] = padded(&w[begin..end], T::ZERO);
        let x: [f32; WIDTH] = padded(&x[begin..end], 0.0);
        // SAFETY: both arrays hold a register's numbers.
        let (w, x) = unsafe { (T::load(w.as_ptr()), _mm256_loadu_ps(x.as_ptr())) };
        *lanes = _mm256_fmadd_ps(w, x, *lanes);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let even = _mm256_add_ps(_mm256_add_ps(a, e), _mm256_add_ps(c, g));
    let odd = _mm256_add_ps(_mm256_add_ps(b, f), _mm256_add_ps(d, h));
    fold(numbers(_mm256_add_ps(even, odd)))
}

#[target_feature(enable = "avx2,fma,f16c")]
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
            let (sum, row) = unsafe { (_mm256_loadu_ps(rest.as_ptr()), T::load(row.as_ptr())) };
            rest = numbers(_mm256_fmadd_ps(_mm256_set1_ps(*p), row, sum));
        }
        out[at..].copy_from_slice(&rest[..width - at]);
    }
}

/// Accumulates registers of neighbouring columns, from `at` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_columns<T: Number, const N: usize>(p: &[f32], rows: &[T], at: usize, out: &mut [f32]) {
    let width = out.len();
    assert!(at + N * WIDTH <= width && rows.len() >= p.len() * width, "rows leave their buffer");
    let mut sums = [_mm256_setzero_ps(); N];
    for (i, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the columns are in `out`.
        *sum = unsafe { _mm256_loadu_ps(out.as_ptr().add(at + i * WIDTH)) };
    }
    for (row, &p) in p.iter().enumerate() {
        let p = _mm256_set1_ps(p);
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: there are as many rows as weights, and the columns are in each of them.
            let x = unsafe { T::load(rows.as_ptr().add(row * width + at + i * WIDTH)) };
            *sum = _mm256_fmadd_ps(p, x, *sum);
        }
    }
    for (i, sum) in sums.into_iter().enumerate() {
        // SAFETY: the columns are in `out`.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(at + i * WIDTH), sum) };
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn widen<T: Number>(x: &[T], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "numbers to widen and their places");
    let (x, x_rest) = x.as_chunks::<WIDTH>();
    let (out, out_rest) = out.as_chunks_mut::<WIDTH>();
    for (out, x) in out.iter_mut().zip(x) {
        // SAFETY: both arrays hold a register's numbers.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), T::load(x.as_ptr())) };
    }
    let rest: [T; WIDTH] = padded(x_rest, T::ZERO);
    // SAFETY: the array holds a register's numbers.
    let rest = numbers(unsafe { T::load(rest.as_ptr()) });
    out_rest.copy_from_slice(&rest[..out_rest.len()]);
}

/// exp of each lane, see [`super::exp`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn exp(x: __m256) -> __m256 {
    // If an operand is NaN these return the second one: a NaN in x stays.
    let x = _mm256_max_ps(_mm256_set1_ps(LEAST), x);
    let x = _mm256_min_ps(_mm256_set1_ps(MOST), x);
    let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_mul_ps(
        x,
        _mm256_set1_ps(LOG2_E),
    ));
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN2), x);
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN2_REST), r);
    let mut sum = _mm256_set1_ps(POWERS[0]);
    for power in &POWERS[1..] {
        sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(*power));
    }
    let sum = _mm256_fmadd_ps(sum, _mm256_mul_ps(r, r), r);
    // 2ⁿ may be outside of f32's range, so it is applied in two factors: the first product is exact, the second rounds.
    let n = _mm256_cvtps_epi32(n);
    let first = _mm256_srai_epi32::<1>(n);
    let sum = _mm256_mul_ps(_mm256_add_ps(sum, _mm256_set1_ps(1.0)), power_of_two(first));
    _mm256_mul_ps(sum, power_of_two(_mm256_sub_epi32(n, first)))
}

/// 2ⁿ of each lane, −126 ≤ n ≤ 127.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn power_of_two(n: __m256i) -> __m256 {
    let exponent = _mm256_add_epi32(n, _mm256_set1_epi32(127));
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn exps(x: &mut [f32]) -> f32 {
    const { assert!(SUMS == 2 * WIDTH) };
    let (whole, rest) = x.as_chunks_mut::<SUMS>();
    let mut last = padded::<f32, SUMS>(rest, f32::NEG_INFINITY);
    let [mut low, mut high] = load_two(&last);
    for x in whole.iter() {
        let [a, b] = load_two(x);
        (low, high) = (_mm256_max_ps(low, a), _mm256_max_ps(high, b));
    }
    let max = numbers(_mm256_max_ps(low, high)).into_iter().fold(f32::NEG_INFINITY, f32::max);
    let max = _mm256_set1_ps(max);
    let mut sums = [_mm256_setzero_ps(); 2];
    let rest_of = (!rest.is_empty()).then_some(&mut last);
    for x in whole.iter_mut().chain(rest_of) {
        for (x, sum) in x.as_chunks_mut::<WIDTH>().0.iter_mut().zip(&mut sums) {
            // SAFETY: the array holds a register's numbers.
            let y = exp(_mm256_sub_ps(unsafe { _mm256_loadu_ps(x.as_ptr()) }, max));
            *sum = _mm256_add_ps(*sum, y);
            *x = numbers(y);
        }
    }
    rest.copy_from_slice(&last[..rest.len()]);
    fold(numbers(_mm256_add_ps(sums[0], sums[1])))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_two(x: &[f32; SUMS]) -> [__m256; 2] {
    // SAFETY: the array holds the numbers of two registers.
    unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(WIDTH))] }
}

#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
fn gate_lanes(x: &mut [f32; WIDTH], factor: f32) {
    // SAFETY: the array holds a register's numbers.
    let wide = unsafe { _mm256_loadu_ps(x.as_ptr()) };
    let below = exp(_mm256_mul_ps(_mm256_set1_ps(-factor), wide));
    *x = numbers(_mm256_div_ps(wide, _mm256_add_ps(_mm256_set1_ps(1.0), below)));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn multiply_adds(at_least: usize) -> usize {
    let (start, factor) = std::hint::black_box((1.0, 0.999));
    let (factor, term) = (_mm256_set1_ps(factor), _mm256_set1_ps(1e-3));
    let mut sums = [_mm256_set1_ps(start); BUSY];
    let rounds = at_least.div_ceil(BUSY * WIDTH);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, term);
        }
    }
    std::hint::black_box(sums.map(|sum| numbers(sum)));
    rounds * BUSY * WIDTH
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn xor(words: &[u64]) -> u64 {
    const WORDS: usize = 4;
    let mut all = [_mm256_setzero_si256(); READS];
    let rounds = words.chunks_exact(READS * WORDS);
    let rest = rounds.remainder();
    for round in rounds {
        for (all, words) in all.iter_mut().zip(round.chunks_exact(WORDS)) {
            // SAFETY: four words fill a register.
            *all = _mm256_xor_si256(*all, unsafe { _mm256_loadu_si256(words.as_ptr().cast()) });
        }
    }
    let mut words = [0; READS * WORDS];
    for (words, all) in words.chunks_exact_mut(WORDS).zip(all) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), all) };
    }
    words.iter().chain(rest).fold(0, |all, word| all ^ word)
}
