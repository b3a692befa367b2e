//! int4 weights, read as f32: each number is its code times the scale of its group, exactly.

use half::f16;
use std::ops::Range;

/// An int4 matrix.
#[derive(Debug, Clone, Copy)]
pub struct Q4<'a> {
    scales: &'a [f16],
    codes: &'a [u8],
    cols: usize,
    group: usize,
}

impl<'a> Q4<'a> {
    /// From scales and codes, one after the other.
    pub fn new(bytes: &'a [u8], rows: usize, cols: usize, group: usize) -> Self {
        let (scales, codes) = bytes.split_at(rows * (cols / group) * size_of::<f16>());
        Self { scales: bytemuck::cast_slice(scales), codes, cols, group }
    }

    /// Rows as f32.
    pub fn widen(&self, rows: Range<usize>, out: &mut [f32]) {
        let groups = rows.start * self.cols / self.group..rows.end * self.cols / self.group;
        let codes = &self.codes[rows.start * self.cols / 2..rows.end * self.cols / 2];
        let scales = &self.scales[groups];
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the instructions are there.
            unsafe { widen_avx2(codes, scales, self.group, out) };
            return;
        }
        widen(codes, scales, self.group, out);
    }
}

/// The loop below, compiled for wider registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn widen_avx2(codes: &[u8], scales: &[f16], group: usize, out: &mut [f32]) {
    widen(codes, scales, group, out);
}

#[inline(always)]
fn widen(codes: &[u8], scales: &[f16], group: usize, out: &mut [f32]) {
    // Groups are multiples of 32.
    for ((codes, scale), out) in
        codes.chunks_exact(group / 2).zip(scales).zip(out.chunks_exact_mut(group))
    {
        let scale = scale.to_f32();
        for (codes, out) in codes.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<32>().0) {
            for (pair, code) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
                pair[0] = f32::from((code & 15) as i8 - 8) * scale;
                pair[1] = f32::from((code >> 4) as i8 - 8) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_codes_times_scales() {
        let (rows, cols, group) = (3, 64, 32);
        let scales: Vec<f16> = (0..6).map(|i| f16::from_f32(0.1 + i as f32)).collect();
        let code = |i: usize| ((i * 7) % 16) as i32 - 8;
        let packed: Vec<u8> = (0..rows * cols / 2)
            .map(|i| (code(2 * i) + 8) as u8 | ((code(2 * i + 1) + 8) as u8) << 4)
            .collect();
        let mut bytes: Vec<u8> = bytemuck::cast_slice(&scales).to_vec();
        bytes.extend(packed);
        // Aligned, as weights are kept.
        let words: Vec<u16> = bytemuck::pod_collect_to_vec(&bytes);
        let matrix = Q4::new(&bytemuck::cast_slice(&words)[..bytes.len()], rows, cols, group);
        let mut out = vec![0.0; 2 * cols];
        matrix.widen(1..3, &mut out);
        for (i, value) in out.iter().enumerate() {
            let i = i + cols;
            assert_eq!(*value, code(i) as f32 * scales[i / group].to_f32(), "{i}");
        }
        let mut plain = vec![0.0; 2 * cols];
        widen(&matrix.codes[cols / 2..], &matrix.scales[2..], group, &mut plain);
        assert_eq!(plain, out);
    }
}
