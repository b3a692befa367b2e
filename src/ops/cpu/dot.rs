//! Dot products of one row of activations with stored rows, and the widening of stored numbers.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Numbers as the checkpoint stores them.
#[derive(Debug, Clone, Copy)]
pub enum Stored<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
}

impl Stored<'_> {
    /// Bytes of all numbers.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(x) => size_of_val(*x),
            Self::F16(x) => size_of_val(*x),
            Self::Bf16(x) => size_of_val(*x),
        }
    }

    /// Numbers `range` as f32.
    pub fn widen(&self, range: std::ops::Range<usize>, out: &mut [f32]) {
        match self {
            Self::F32(x) => out.copy_from_slice(&x[range]),
            Self::F16(x) => x[range].convert_to_f32_slice(out),
            Self::Bf16(x) => {
                for (out, x) in out.iter_mut().zip(&x[range]) {
                    *out = f32::from_bits(u32::from(x.to_bits()) << 16);
                }
            }
        }
    }
}

/// Partial sums of a dot product: the order of additions does not depend on the width of the registers.
const LANES: usize = 16;

/// Σ a·b.
///
/// The same inputs give the same bits on one machine; machines with and without fused
/// multiply-add differ in the last bits.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        // SAFETY: the features were just detected.
        return unsafe { dot_fma(a, b) };
    }
    dot_lanes(a, b, |a, b, sum| a * b + sum)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_fma(a: &[f32], b: &[f32]) -> f32 {
    dot_lanes(a, b, f32::mul_add)
}

#[inline(always)]
fn dot_lanes(a: &[f32], b: &[f32], multiply_add: impl Fn(f32, f32, f32) -> f32) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    let mut sums = [0.0f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = multiply_add(a[lane], b[lane], sums[lane]);
        }
    }
    for ((a, b), sum) in a_rest.iter().zip(b_rest).zip(&mut sums) {
        *sum = multiply_add(*a, *b, *sum);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_is_exact_on_small_integers_of_any_length() {
        for len in [0, 1, 15, 16, 17, 31, 32, 33, 577] {
            let a: Vec<f32> = (0..len).map(|i| (i % 13) as f32 - 6.0).collect();
            let b: Vec<f32> = (0..len).map(|i| (i % 7) as f32 - 3.0).collect();
            let want: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert_eq!(f64::from(dot(&a, &b)), want, "{len}");
            assert_eq!(f64::from(dot_lanes(&a, &b, |a, b, s| a * b + s)), want, "{len}");
        }
    }

    #[test]
    fn widening_is_exact_for_every_half() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let mut out = vec![0.0; bits.len()];
        let halves: Vec<f16> = bits.iter().map(|&b| f16::from_bits(b)).collect();
        Stored::F16(&halves).widen(0..bits.len(), &mut out);
        for (half, wide) in halves.iter().zip(&out) {
            assert!(half.to_f32() == *wide || half.is_nan() && wide.is_nan());
        }
        let brains: Vec<bf16> = bits.iter().map(|&b| bf16::from_bits(b)).collect();
        Stored::Bf16(&brains).widen(0..bits.len(), &mut out);
        for (brain, wide) in brains.iter().zip(&out) {
            assert!(brain.to_f32() == *wide || brain.is_nan() && wide.is_nan());
        }
    }
}
