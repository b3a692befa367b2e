//! Products with int8 weights. Each row of activations is quantized to int8 too, and the sums are integers.
//!
//! The sums are exact, so a row has the same bits alone, in a batch and in a prompt.

use super::buffer::Buffer;
use super::columns::Columns;
use super::matmul::{Epilogue, activate};
use super::simd::{Int8, Isa};
use crate::ops::Extent;
use crate::quant::q8_token;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of weights, and rows of activations, multiplied at a time: both fit into a level-2 cache.
const BLOCK: usize = 64;

/// An int8 matrix with a scale for each row.
#[derive(Debug, Clone, Copy)]
pub struct Q8<'a> {
    scales: &'a [f32],
    codes: &'a [i8],
    cols: usize,
}

/// Bytes of scratch for a product of `[m, k]` with `[n, k]ᵀ`.
pub(super) fn scratch_bytes(m: usize, n: usize, k: usize) -> usize {
    let threads = rayon::current_num_threads().min(n.div_ceil(BLOCK));
    m * k + m * size_of::<f32>() + threads * BLOCK * BLOCK * size_of::<i32>()
}

impl<'a> Q8<'a> {
    /// A matrix from `bytes` that hold the scales, then the codes.
    pub fn new(bytes: &'a [u8], rows: usize, cols: usize) -> Self {
        let (scales, codes) = bytes.split_at(rows * size_of::<f32>());
        Self { scales: bytemuck::cast_slice(scales), codes: bytemuck::cast_slice(codes), cols }
    }

    /// Widens rows to f32.
    pub fn widen(&self, rows: Range<usize>, out: &mut [f32]) {
        for (row, out) in rows.zip(out.chunks_exact_mut(self.cols)) {
            let scale = self.scales[row];
            let codes = &self.codes[row * self.cols..][..self.cols];
            out.iter_mut().zip(codes).for_each(|(out, &code)| *out = f32::from(code) * scale);
        }
    }

    /// Stores x·Wᵀ in `out` `[m, n]` as the epilogue says. A row of `x` that is not finite makes its row of `out` NaN.
    pub fn linear(&self, x: &Buffer, bias: Option<&[f32]>, out: &mut Buffer, epilogue: Epilogue) {
        let (m, n, k) = (x.rows(), out.cols(), x.cols());
        if m == 0 || n == 0 {
            return;
        }
        let mut tokens = vec![0i8; m * k];
        let mut scales = vec![0f32; m];
        if k > 0 {
            tokens.par_chunks_mut(k).zip(&mut scales).zip(x.data.par_chunks(k)).for_each(
                |((codes, scale), row)| *scale = q8_token(row, codes).unwrap_or(f32::NAN),
            );
        }
        let base = Columns::of(out);
        let (int8, isa) = (Int8::best(), Isa::best());
        let panels = n.div_ceil(BLOCK);
        (0..panels).into_par_iter().for_each_init(
            || vec![0i32; BLOCK * BLOCK],
            |sums, panel| {
                let first = panel * BLOCK;
                let width = BLOCK.min(n - first);
                let weights = &self.codes[first * k..(first + width) * k];
                let factors = &self.scales[first..first + width];
                for start in (0..m).step_by(BLOCK) {
                    let rows = start..m.min(start + BLOCK);
                    let sums = &mut sums[..rows.len() * width];
                    if k > 0 {
                        int8.products(weights, &tokens[rows.start * k..rows.end * k], k, sums);
                    }
                    for (row, sums) in rows.zip(sums.chunks_exact(width)) {
                        // SAFETY: columns first..first+width of one row, which no other panel touches and which lie in
                        // `out`.
                        let out = unsafe {
                            std::slice::from_raw_parts_mut(base.get().add(row * n + first), width)
                        };
                        for (column, (out, &sum)) in out.iter_mut().zip(sums).enumerate() {
                            let product = (sum as f32 * factors[column]) * scales[row];
                            let value = bias.map_or(product, |bias| product + bias[first + column]);
                            match epilogue {
                                Epilogue::Store(_) => *out = value,
                                Epilogue::Add => *out += value,
                            }
                        }
                        if let Epilogue::Store(activation) = epilogue {
                            activate(isa, activation, out);
                        }
                    }
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Activation;
    use crate::ops::memory::Meter;
    use std::sync::Arc;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn buffer(rows: usize, cols: usize, data: Vec<f32>) -> Buffer {
        let mut buffer = Buffer::new(&Arc::<Meter>::default(), rows, cols);
        buffer.data = data;
        buffer
    }

    /// The definition of a product, number by number.
    fn by_the_rule(x: &[f32], codes: &[i8], scale: f32, bias: f32) -> f32 {
        let largest = x.iter().fold(0f32, |a, x| a.max(x.abs()));
        let factor = 127.0 / largest;
        let sum: i64 = x
            .iter()
            .zip(codes)
            .map(|(x, &w)| i64::from((x * factor).round_ties_even() as i8) * i64::from(w))
            .sum();
        (sum as f32 * scale) * (largest / 127.0) + bias
    }

    #[test]
    fn products_follow_the_rule_to_the_bit_alone_and_together() {
        for (m, n, k) in [(1, 1, 1), (3, 70, 33), (70, 65, 129), (9, 5, 64)] {
            let x = numbers(m * k, 1);
            let codes: Vec<i8> =
                numbers(n * k, 2).iter().map(|v| (v * 128.0).floor() as i8).collect();
            let scales: Vec<f32> = numbers(n, 3).iter().map(|v| v.abs() / 100.0).collect();
            let bias = numbers(n, 4);
            let w = Q8 { scales: &scales, codes: &codes, cols: k };
            let run = |rows: Range<usize>, epilogue| {
                let x = buffer(rows.len(), k, x[rows.start * k..rows.end * k].to_vec());
                let mut out = buffer(rows.len(), n, vec![0.5; rows.len() * n]);
                w.linear(&x, Some(&bias), &mut out, epilogue);
                out.data
            };
            let together = run(0..m, Epilogue::Store(None));
            for row in 0..m {
                for column in 0..n {
                    let expected = by_the_rule(
                        &x[row * k..][..k],
                        &codes[column * k..][..k],
                        scales[column],
                        bias[column],
                    );
                    assert_eq!(together[row * n + column].to_bits(), expected.to_bits());
                }
                assert_eq!(run(row..row + 1, Epilogue::Store(None)), together[row * n..][..n]);
            }
            let added = run(0..m, Epilogue::Add);
            assert!(added.iter().zip(&together).all(|(a, t)| *a == 0.5 + t));
            let gated = run(0..m, Epilogue::Store(Some(Activation::Silu)));
            for (gated, x) in gated.iter().zip(&together) {
                let expected = x / (1.0 + (-x).exp());
                assert!((gated - expected).abs() <= 1e-6 * expected.abs().max(1e-3));
            }
        }
    }

    #[test]
    fn a_row_that_is_not_finite_spoils_itself_alone() {
        let k = 20;
        let mut x = numbers(3 * k, 5);
        x[k + 7] = f32::INFINITY;
        let codes = vec![1i8; 2 * k];
        let w = Q8 { scales: &[1.0; 2], codes: &codes, cols: k };
        let mut out = buffer(3, 2, vec![0.0; 6]);
        w.linear(&buffer(3, k, x), None, &mut out, Epilogue::Store(None));
        assert!(out.data[2..4].iter().all(|v| v.is_nan()));
        assert!(out.data[..2].iter().chain(&out.data[4..]).all(|v| v.is_finite()));
        // A row of zeros has scale 0 and gives zeros.
        let mut out = buffer(1, 2, vec![9.0; 2]);
        w.linear(&buffer(1, k, vec![0.0; k]), None, &mut out, Epilogue::Store(None));
        assert_eq!(out.data, [0.0, 0.0]);
    }
}
