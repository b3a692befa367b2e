//! Pseudo-random numbers, and conversions to the formats of the device.

use super::card::Card;
use half::f16;
use hired::format::Dtype;

/// Pseudo-random numbers in [-1, 1).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn take(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// A matrix `[rows, stride]` with numbers in the first `cols` columns and NaN in the others, rounded to the format.
    pub fn matrix(&mut self, rows: usize, cols: usize, stride: usize, dtype: Dtype) -> Vec<f32> {
        let mut values = self.take(rows * stride);
        for (i, x) in values.iter_mut().enumerate() {
            *x = if i % stride < cols { rounded(*x, dtype) } else { f32::NAN };
        }
        values
    }
}

/// x, rounded to the format.
pub fn rounded(x: f32, dtype: Dtype) -> f32 {
    if dtype == Dtype::F16 { f16::from_f32(x).to_f32() } else { x }
}

/// Uploads numbers in a format, after `shift` others that no kernel may read; returns the address of the first.
pub fn upload(card: &Card, values: &[f32], dtype: Dtype, shift: usize) -> u64 {
    let all: Vec<f32> =
        std::iter::repeat_n(f32::NAN, shift).chain(values.iter().copied()).collect();
    let at = match dtype {
        Dtype::F32 => card.upload(&all),
        _ => card.upload(&all.iter().map(|&x| f16::from_f32(x).to_bits()).collect::<Vec<_>>()),
    };
    at + (shift * dtype.size()) as u64
}

/// Downloads numbers in a format.
pub fn download(card: &Card, at: u64, count: usize, dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::F32 => card.download(at, count),
        _ => card
            .download::<u16>(at, count)
            .into_iter()
            .map(|b| f16::from_bits(b).to_f32())
            .collect(),
    }
}
