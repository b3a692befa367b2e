//! Rounds rows of numbers to small integers with a scale.
//!
//! Every division, product and sum is a separate IEEE operation in f32, and rounding to integers is half to even, so
//! that a CPU, a GPU and a NumPy script get the same codes. Scales are rounded to f16 first, and numbers are divided
//! by the rounded scale.

use half::f16;

/// Number of scales that the clipping search of [`q4_group`] compares.
const CANDIDATES: usize = 19;

/// Adding and subtracting this constant rounds a number below 2²² to an integer, half to even, without a function
/// call.
const ROUNDER: f32 = 12_582_912.0;

/// Quantizes a row of an int8 weight: codes −127…127 and one scale for the whole row, `w ≈ code · scale`.
///
/// The scale is f16(max|w| / 127). A row of zeros, or one whose scale underflows in f16, gets the scale 0 and the
/// codes 0. `None` if a number of the row, or the scale, is not finite.
pub fn q8_row(row: &[f32], codes: &mut [i8]) -> Option<f16> {
    debug_assert_eq!(row.len(), codes.len());
    let scale = f16::from_f32(largest(row)? / 127.0);
    if !scale.is_finite() {
        return None;
    }
    let divisor = scale.to_f32();
    if divisor == 0.0 {
        codes.fill(0);
        return Some(f16::ZERO);
    }
    for (code, &w) in codes.iter_mut().zip(row) {
        *code = rounded(w / divisor, -127.0, 127.0) as i8;
    }
    Some(scale)
}

/// Quantizes a row of activations (one token) to int8: codes −127…127 and the scale max|x| / 127 in f32.
///
/// The codes are rne(x · (127 / max|x|)), with the quotient computed once. A row of zeros gets the scale 0. `None` if
/// a number of the row is not finite.
pub fn q8_token(row: &[f32], codes: &mut [i8]) -> Option<f32> {
    debug_assert_eq!(row.len(), codes.len());
    let largest = largest(row)?;
    if largest == 0.0 {
        codes.fill(0);
        return Some(0.0);
    }
    let factor = 127.0 / largest;
    for (code, &x) in codes.iter_mut().zip(row) {
        *code = rounded(x * factor, -127.0, 127.0) as i8;
    }
    Some(largest / 127.0)
}

/// Quantizes a group of an int4 weight: codes −8…7 and the group's scale.
///
/// Among the scales f16(max|w| / (6.5 + j/4)), j = 0…18, the one with the least squared error is chosen, the first in
/// a tie: clipping the few largest numbers of a group costs less than coarse steps for all the others. `None` if a
/// number or the largest scale is not finite.
pub fn q4_group(group: &[f32], codes: &mut [i8]) -> Option<f16> {
    debug_assert_eq!(group.len(), codes.len());
    let largest = largest(group)?;
    let scales: [f16; CANDIDATES] =
        std::array::from_fn(|j| f16::from_f32(largest / (6.5 + 0.25 * j as f32)));
    if !scales[0].is_finite() {
        return None;
    }
    let divisors = scales.map(f16::to_f32);
    let mut errors = [0f64; CANDIDATES];
    for &w in group {
        for (error, &scale) in errors.iter_mut().zip(&divisors) {
            let off = f64::from(w) - f64::from(rounded(w / scale, -8.0, 7.0) * scale);
            *error += off * off;
        }
    }
    // A scale that underflowed has an error of NaN.
    let best = (0..CANDIDATES)
        .filter(|&j| divisors[j] > 0.0)
        .reduce(|best, j| if errors[j] < errors[best] { j } else { best });
    let Some(best) = best else {
        codes.fill(0);
        return Some(f16::ZERO);
    };
    for (code, &w) in codes.iter_mut().zip(group) {
        *code = rounded(w / divisors[best], -8.0, 7.0) as i8;
    }
    Some(scales[best])
}

/// The largest magnitude; `None` if a number is not finite.
fn largest(row: &[f32]) -> Option<f32> {
    // Magnitudes of finite floats have the same order as their bits, and infinities and NaN lie above them.
    let bits = row.iter().fold(0, |bits, x| u32::max(bits, x.to_bits() & 0x7fff_ffff));
    let largest = f32::from_bits(bits);
    largest.is_finite().then_some(largest)
}

/// Rounds `x` half to even, clamped to two integers.
fn rounded(x: f32, least: f32, most: f32) -> f32 {
    // Clamping to integers before rounding gives the same result as clamping afterwards.
    (x.max(least).min(most) + ROUNDER) - ROUNDER
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn q8(row: &[f32]) -> Option<(Vec<i8>, f32)> {
        let mut codes = vec![99; row.len()];
        q8_row(row, &mut codes).map(|scale| (codes, scale.to_f32()))
    }

    fn q4(group: &[f32]) -> Option<(Vec<i8>, f32)> {
        let mut codes = vec![99; group.len()];
        q4_group(group, &mut codes).map(|scale| (codes, scale.to_f32()))
    }

    #[test]
    fn codes_of_a_row_are_those_worked_out_by_hand() {
        // A scale of 1: halves are rounded to even.
        assert_eq!(q8(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]), Some((vec![127, 0, 2, 2, 0, -2], 1.0)));
        // 300/127 is rounded down to 2.361328125 in f16, so the largest code would be 127.05: it is clamped to 127.
        assert_eq!(q8(&[300.0, -300.0, 2.0]), Some((vec![127, -127, 1], 2.361_328_1)));
        assert_eq!(q8(&[0.0, -0.0]), Some((vec![0, 0], 0.0)));
        // A scale below half the smallest f16 is 0.
        assert_eq!(q8(&[1e-7, 3e-7]), Some((vec![0, 0], 0.0)));
        // The scale is the smallest f16: one number is far above 127 times it, the other below it.
        let (codes, scale) = q8(&[7.6e-6, 1e-9]).unwrap();
        assert_eq!((codes, scale), (vec![127, 0], 2f32.powi(-24)));
    }

    #[test]
    fn numbers_without_a_scale_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(q8(&[1.0, bad, 2.0]), None);
            assert_eq!(q4(&[1.0, bad, 2.0]), None);
            assert_eq!(q8_token(&[1.0, bad], &mut [0; 2]), None);
        }
        // 65520 is the first number that overflows in f16.
        assert!(q8(&[65519.0 * 127.0]).is_some());
        assert_eq!(q8(&[65520.0 * 127.0]), None);
        assert_eq!(q4(&[65520.0 * 6.5]), None);
    }

    #[test]
    fn tokens_are_scaled_by_one_quotient() {
        let mut codes = [0; 4];
        assert_eq!(q8_token(&[2.0, -1.0, 0.0, 0.5], &mut codes), Some(2.0 / 127.0));
        // 63.5 goes to 64, −31.75·… as written: 0.5 · 63.5 = 31.75.
        assert_eq!(codes, [127, -64, 0, 32]);
        assert_eq!(q8_token(&[0.0; 4], &mut codes), Some(0.0));
        assert_eq!(codes, [0; 4]);
    }

    #[test]
    fn a_group_clips_its_largest_number_when_that_is_cheaper() {
        // Integers −8…7 times an exact scale are recovered without error: 7 / (6.5 + 2/4) = 1.
        let exact: Vec<f32> = (-7..=7).map(|i| i as f32).collect();
        assert_eq!(q4(&exact), Some(((-7..=7).collect(), 1.0)));
        // One large number among many of the same size: the scale fits the many.
        let mut group = vec![1.0; 31];
        group.push(10.0);
        let (codes, scale) = q4(&group).unwrap();
        assert_eq!(codes[31], 7);
        assert!(scale < 10.0 / 7.0, "{scale}");
        assert_eq!(q4(&[0.0; 8]), Some((vec![0; 8], 0.0)));
    }

    proptest! {
        #[test]
        fn rounding_is_that_of_the_standard_library(x in -200f32..200.0) {
            prop_assert_eq!(rounded(x, -127.0, 127.0), x.round_ties_even().clamp(-127.0, 127.0));
        }

        /// The rule as documented, one scale after the other.
        #[test]
        fn groups_follow_the_rule(group in prop::collection::vec(-3f32..3.0, 32)) {
            let a = group.iter().fold(0f32, |a, w| a.max(w.abs()));
            let mut best: Option<(f64, f16, Vec<i8>)> = None;
            for j in 0..19 {
                let s = f16::from_f32(a / (6.5 + 0.25 * j as f32));
                let q: Vec<f32> = group
                    .iter()
                    .map(|w| (w / s.to_f32()).round_ties_even().clamp(-8.0, 7.0))
                    .collect();
                let e = group.iter().zip(&q).fold(0f64, |e, (&w, &q)| {
                    let off = f64::from(w) - f64::from(q) * f64::from(s.to_f32());
                    e + off * off
                });
                if best.as_ref().is_none_or(|(least, ..)| e < *least) {
                    best = Some((e, s, q.iter().map(|&q| q as i8).collect()));
                }
            }
            let (_, scale, codes) = best.unwrap();
            prop_assert_eq!(q4(&group), Some((codes, scale.to_f32())));
        }
    }
}
