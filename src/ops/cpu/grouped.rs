//! Weights whose numbers share a scale in groups, read as f32: int4, int4 with zero points, int8. A number is its code,
//! less the group's zero point, times the group's scale; f32 holds that exactly.

use super::simd::{Isa, Nibbles};
use crate::format::Format;
use half::f16;
use std::ops::Range;

/// A matrix of integers with a scale for each group.
#[derive(Debug, Clone, Copy)]
pub struct Grouped<'a> {
    format: Format,
    scales: &'a [f16],
    /// Zero points; empty where the format has a fixed one.
    zeros: &'a [u8],
    codes: &'a [u8],
    cols: usize,
    group: usize,
}

impl<'a> Grouped<'a> {
    /// A matrix from `bytes` that hold scales, zero points and codes, one array after the other, in the order of
    /// `format`.
    pub fn new(format: Format, bytes: &'a [u8], rows: usize, cols: usize, group: usize) -> Self {
        let (scales, rest) = bytes.split_at(format.scales(rows, cols) * size_of::<f16>());
        let (zeros, codes) = rest.split_at(format.zeros(rows, cols));
        Self { format, scales: bytemuck::cast_slice(scales), zeros, codes, cols, group }
    }

    /// sums[i] = Σ x[i·stride + j] · row[j], widened in registers. Returns `false`, without a result, where this format
    /// has no such loops.
    pub fn dots(&self, isa: Isa, row: usize, x: &[f32], stride: usize, sums: &mut [f32]) -> bool {
        if let Format::W8A16 { .. } = self.format {
            return false;
        }
        let groups = row * self.cols / self.group..(row + 1) * self.cols / self.group;
        let w = Nibbles {
            scales: &self.scales[groups.clone()],
            zeros: self.zeros.get(groups).unwrap_or_default(),
            codes: &self.codes[row * self.cols / 2..(row + 1) * self.cols / 2],
            group: self.group,
        };
        isa.nibble_dots(w, x, stride, sums)
    }

    /// Widens rows to f32.
    pub fn widen(&self, rows: Range<usize>, out: &mut [f32]) {
        let groups = rows.start * self.cols / self.group..rows.end * self.cols / self.group;
        let bytes = self.format.code_bytes(1, self.cols);
        let codes = &self.codes[rows.start * bytes..rows.end * bytes];
        let zeros = self.zeros.get(groups.clone()).unwrap_or_default();
        let part = Part { scales: &self.scales[groups], zeros, codes, group: self.group };
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the instruction set was detected.
            unsafe { part.widen_avx2(self.format, out) };
            return;
        }
        part.widen(self.format, out);
    }
}

/// Consecutive rows.
struct Part<'a> {
    scales: &'a [f16],
    zeros: &'a [u8],
    codes: &'a [u8],
    group: usize,
}

impl Part<'_> {
    /// [`Part::widen`], compiled for AVX2.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn widen_avx2(&self, format: Format, out: &mut [f32]) {
        self.widen(format, out);
    }

    #[inline(always)]
    fn widen(&self, format: Format, out: &mut [f32]) {
        let groups = self.scales.iter().zip(out.chunks_exact_mut(self.group)).enumerate();
        match format {
            Format::W8A16 { .. } => {
                for ((_, (scale, out)), codes) in groups.zip(self.codes.chunks_exact(self.group)) {
                    let scale = scale.to_f32();
                    for (out, &code) in out.iter_mut().zip(codes) {
                        *out = f32::from(code as i8) * scale;
                    }
                }
            }
            _ => {
                let codes = self.codes.chunks_exact(self.group / 2);
                for ((index, (scale, out)), codes) in groups.zip(codes) {
                    let zero = self.zeros.get(index).map_or(8, |&zero| zero as i8);
                    nibbles(codes, scale.to_f32(), zero, out);
                }
            }
        }
    }
}

/// Two codes in a byte, the first in its lower half. A group is a multiple of 32 numbers.
#[inline(always)]
fn nibbles(codes: &[u8], scale: f32, zero: i8, out: &mut [f32]) {
    for (codes, out) in codes.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for (pair, code) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            pair[0] = f32::from((code & 15) as i8 - zero) * scale;
            pair[1] = f32::from((code >> 4) as i8 - zero) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_codes_less_zero_times_scales() {
        let (rows, cols, group) = (3, 64, 32);
        let scales: Vec<f16> = (0..6).map(|i| f16::from_f32(0.1 + i as f32)).collect();
        let zeros = [0u8, 3, 8, 15, 1, 7];
        for format in [Format::Q4 { group }, Format::Awq { group }, Format::W8A16 { group }] {
            let byte = matches!(format, Format::W8A16 { .. });
            let code = |i: usize| ((i * 7) % if byte { 256 } else { 16 }) as u8;
            let mut bytes: Vec<u8> = bytemuck::cast_slice(&scales).to_vec();
            bytes.extend(&zeros[..format.zeros(rows, cols)]);
            if byte {
                bytes.extend((0..rows * cols).map(code));
            } else {
                bytes.extend((0..rows * cols / 2).map(|i| code(2 * i) | code(2 * i + 1) << 4));
            }
            assert_eq!(bytes.len(), format.bytes(rows, cols));
            // Aligned like the weights of a model.
            let mut words = vec![0u32; bytes.len().div_ceil(4)];
            bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
            let matrix = Grouped::new(
                format,
                &bytemuck::cast_slice(&words)[..bytes.len()],
                rows,
                cols,
                group,
            );
            let mut out = vec![0.0; 2 * cols];
            matrix.widen(1..3, &mut out);
            let expected = |i: usize| {
                let code = i32::from(code(i));
                let value = match format {
                    Format::W8A16 { .. } => i32::from(code as u8 as i8),
                    Format::Awq { .. } => code - i32::from(zeros[i / group]),
                    _ => code - 8,
                };
                value as f32 * scales[i / group].to_f32()
            };
            for (i, value) in out.iter().enumerate() {
                assert_eq!(*value, expected(i + cols), "{} {i}", format.name());
            }
            let mut plain = vec![0.0; 2 * cols];
            let zeros = matrix.zeros.get(2..).unwrap_or_default();
            let codes = &matrix.codes[format.code_bytes(1, cols)..];
            Part { scales: &matrix.scales[2..], zeros, codes, group }.widen(format, &mut plain);
            assert_eq!(plain, out);
        }
    }
}
