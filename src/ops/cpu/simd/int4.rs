//! Dot products of rows of int4 weights with rows of f32, widened in registers. A number is (code − zero) · scale,
//! which f32 holds exactly, and is added to the same partial sum as in [`Isa::dots`]: the result has the bits of the
//! product with the widened row.

use super::{Isa, Kind};
use half::f16;

/// A row of codes, two in a byte, the first in its lower half.
#[derive(Debug, Clone, Copy)]
pub struct Nibbles<'a> {
    /// The scale of each group.
    pub scales: &'a [f16],
    /// The zero point of each group; empty if it is 8 in all.
    pub zeros: &'a [u8],
    /// The codes: half as many bytes as numbers.
    pub codes: &'a [u8],
    /// Numbers of a group: a multiple of 32.
    pub group: usize,
}

/// Numbers in 16 bytes of codes; a group is a multiple of it.
#[cfg(target_arch = "x86_64")]
const UNIT: usize = 32;

impl Nibbles<'_> {
    #[cfg(target_arch = "x86_64")]
    fn len(&self) -> usize {
        2 * self.codes.len()
    }

    /// Scale and zero point of a group.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn group_at(&self, group: usize) -> (f16, u8) {
        (self.scales[group], self.zeros.get(group).copied().unwrap_or(8))
    }
}

impl Isa {
    /// sums[i] = Σ x[i·stride + j] · w[j]. Returns `false`, without a result, where the caller has to widen the row
    /// first.
    pub fn nibble_dots(self, w: Nibbles<'_>, x: &[f32], stride: usize, sums: &mut [f32]) -> bool {
        self.nibble_dots_with(w, x, stride, sums, vbmi())
    }

    /// [`Isa::nibble_dots`], with or without AVX-512 VBMI, which must be present if `vbmi`.
    fn nibble_dots_with(
        self,
        w: Nibbles<'_>,
        x: &[f32],
        stride: usize,
        sums: &mut [f32],
        vbmi: bool,
    ) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 | Kind::Avx2 => {
                let len = w.len();
                assert!(
                    w.group.is_multiple_of(UNIT)
                        && len.is_multiple_of(w.group)
                        && w.scales.len() == len / w.group
                        && (sums.is_empty() || x.len() >= (sums.len() - 1) * stride + len),
                    "groups that do not fill a row, or rows that leave their buffer"
                );
                match self.0 {
                    // SAFETY: this value exists only on machines with AVX-512F, and VBMI was detected.
                    Kind::Avx512 if vbmi => unsafe { x86::dots_vbmi(w, x, stride, sums) },
                    // SAFETY: this value exists only on machines with these instructions.
                    Kind::Avx512 => unsafe { x86::dots_avx512(w, x, stride, sums) },
                    // SAFETY: as above.
                    _ => unsafe { x86::dots_avx2(w, x, stride, sums) },
                }
                true
            }
            Kind::Portable => {
                let _ = (w, x, stride, sums, vbmi);
                false
            }
        }
    }
}

fn vbmi() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512vbmi");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::{LANES, ROWS, ask_ahead, fold};
    use super::{Nibbles, UNIT};
    use half::f16;
    use std::arch::x86_64::*;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn single(x: f16) -> __m128 {
        _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(x.to_bits())))
    }

    /// Codes of 32 numbers as two words.
    #[inline(always)]
    fn units(codes: &[u8]) -> &[[[u8; 8]; 2]] {
        codes.as_chunks().0.as_chunks().0
    }

    /// The AVX-512 loops, given a way to move the codes of 16 numbers (eight bytes) into the lowest bits of 16 lanes.
    macro_rules! avx512 {
        ($name:ident, $some:ident, $features:literal, $index:ident) => {
            #[target_feature(enable = $features)]
            pub fn $name(w: Nibbles<'_>, x: &[f32], stride: usize, sums: &mut [f32]) {
                let mut row = 0;
                while row + ROWS <= sums.len() {
                    $some::<ROWS>(w, &x[row * stride..], stride, &mut sums[row..]);
                    row += ROWS;
                }
                for row in row..sums.len() {
                    $some::<1>(w, &x[row * stride..], stride, &mut sums[row..]);
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn $some<const M: usize>(w: Nibbles<'_>, x: &[f32], stride: usize, sums: &mut [f32]) {
                const WIDTH: usize = 16;
                let len = w.len();
                assert!(
                    x.len() >= (M - 1) * stride + len && sums.len() >= M,
                    "rows leave their buffer"
                );
                let codes = _mm512_set_ps(
                    15.0, 14.0, 13.0, 12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0,
                    1.0, 0.0,
                );
                // Lookup table: the number of each code in the group.
                let mut table = _mm512_setzero_ps();
                let mut lanes = [[_mm512_setzero_ps(); LANES / WIDTH]; M];
                let (mut group, mut left) = (0, 0);
                for (round, units) in units(w.codes).chunks(LANES / UNIT).enumerate() {
                    ask_ahead(units.as_ptr().cast::<u8>());
                    for (half, unit) in units.iter().enumerate() {
                        if left == 0 {
                            let (scale, zero) = w.group_at(group);
                            (group, left) = (group + 1, w.group / UNIT);
                            let scale = _mm512_broadcastss_ps(single(scale));
                            let zero = _mm512_set1_ps(f32::from(zero));
                            table = _mm512_mul_ps(_mm512_sub_ps(codes, zero), scale);
                        }
                        left -= 1;
                        for (part, word) in unit.iter().enumerate() {
                            let at = round * LANES + half * UNIT + part * WIDTH;
                            let index = $index(u64::from_le_bytes(*word));
                            let number = _mm512_permutexvar_ps(index, table);
                            let chain = half * (UNIT / WIDTH) + part;
                            for (row, lanes) in lanes.iter_mut().enumerate() {
                                let from = row * stride + at;
                                // SAFETY: `at` and the fifteen numbers behind it are, by the assertion, in every row.
                                let x = unsafe { _mm512_loadu_ps(x.as_ptr().add(from)) };
                                lanes[chain] = _mm512_fmadd_ps(number, x, lanes[chain]);
                            }
                        }
                    }
                }
                for (sum, [a, b, c, d]) in sums.iter_mut().zip(lanes) {
                    let sixteen = _mm512_add_ps(_mm512_add_ps(a, c), _mm512_add_ps(b, d));
                    let mut numbers = [0.0; WIDTH];
                    // SAFETY: the array holds a register's numbers.
                    unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), sixteen) };
                    *sum = fold(numbers);
                }
            }
        };
    }

    avx512!(dots_vbmi, some_vbmi, "avx512f,avx512vbmi,avx2,fma,f16c", index_vbmi);
    avx512!(dots_avx512, some_avx512, "avx512f,avx2,fma,f16c", index_avx512);

    /// Uses shifts: each lane shifts its half of the word. Only a lane's lowest four bits index the table.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn index_avx512(word: u64) -> __m512i {
        let shifts = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
        let low = _mm512_set1_epi32(word as i32);
        _mm512_srlv_epi32(_mm512_mask_set1_epi32(low, 0xff00, (word >> 32) as i32), shifts)
    }

    /// Uses one VBMI instruction, which selects any eight bits of a 64-bit word for each byte.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi")]
    fn index_vbmi(word: u64) -> __m512i {
        // Bit 8i for the first byte of lane 2i, bit 8i + 4 for that of lane 2i + 1.
        let bits = |i: i64| ((8 * i + 4) << 32) | (8 * i);
        let from = _mm512_set_epi64(
            bits(7),
            bits(6),
            bits(5),
            bits(4),
            bits(3),
            bits(2),
            bits(1),
            bits(0),
        );
        _mm512_multishift_epi64_epi8(from, _mm512_set1_epi64(word as i64))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn dots_avx2(w: Nibbles<'_>, x: &[f32], stride: usize, sums: &mut [f32]) {
        // One row at a time: the partial sums of two rows would need all registers.
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = dot_avx2(w, &x[row * stride..]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn dot_avx2(w: Nibbles<'_>, x: &[f32]) -> f32 {
        const WIDTH: usize = 8;
        let len = w.len();
        assert!(x.len() >= len, "a row leaves its buffer");
        let (shifts, low) = (_mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0), _mm256_set1_epi32(15));
        let (mut scale, mut offset) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        let mut lanes = [_mm256_setzero_ps(); LANES / WIDTH];
        let (mut group, mut left) = (0, 0);
        for (round, units) in units(w.codes).chunks(LANES / UNIT).enumerate() {
            ask_ahead(units.as_ptr().cast::<u8>());
            for (half, unit) in units.iter().enumerate() {
                if left == 0 {
                    let (of_group, zero) = w.group_at(group);
                    (group, left) = (group + 1, w.group / UNIT);
                    scale = _mm256_broadcastss_ps(single(of_group));
                    offset = _mm256_mul_ps(_mm256_set1_ps(f32::from(zero)), scale);
                }
                left -= 1;
                for (part, word) in unit.as_flattened().as_chunks::<4>().0.iter().enumerate() {
                    let at = round * LANES + half * UNIT + part * WIDTH;
                    let all = _mm256_set1_epi32(i32::from_le_bytes(*word));
                    let codes = _mm256_and_si256(_mm256_srlv_epi32(all, shifts), low);
                    // Both products and their difference are exact.
                    let number = _mm256_fmsub_ps(_mm256_cvtepi32_ps(codes), scale, offset);
                    // SAFETY: `at` and the seven numbers behind it are, by the assertion, in the row.
                    let x = unsafe { _mm256_loadu_ps(x.as_ptr().add(at)) };
                    let chain = half * (UNIT / WIDTH) + part;
                    lanes[chain] = _mm256_fmadd_ps(number, x, lanes[chain]);
                }
            }
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        let even = _mm256_add_ps(_mm256_add_ps(a, e), _mm256_add_ps(c, g));
        let odd = _mm256_add_ps(_mm256_add_ps(b, f), _mm256_add_ps(d, h));
        let mut numbers = [0.0; WIDTH];
        // SAFETY: the array holds a register's numbers.
        unsafe { _mm256_storeu_ps(numbers.as_mut_ptr(), _mm256_add_ps(even, odd)) };
        fold(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Numbers;
    use super::*;

    #[test]
    fn sums_have_the_bits_of_the_widened_row() {
        let mut cases = 0;
        for (len, group) in [
            (32, 32),
            (64, 64),
            (96, 32),
            (160, 32),
            (192, 64),
            (128, 128),
            (4096, 128),
            (1056, 96),
        ] {
            let stride = len + 5;
            let x: Vec<f32> =
                (0..9 * stride).map(|i| (i * 7919 % 1999) as f32 / 999.5 - 1.0).collect();
            let codes: Vec<u8> = (0..len / 2).map(|i| (i * 151 % 256) as u8).collect();
            let groups = len / group;
            let scales: Vec<f16> =
                (0..groups).map(|i| f16::from_f32(0.013 + 0.1 * i as f32)).collect();
            let some: Vec<u8> = (0..groups).map(|i| (i * 5 % 16) as u8).collect();
            for zeros in [&[][..], &some] {
                let w = Nibbles { scales: &scales, zeros, codes: &codes, group };
                let wide: Vec<f32> = (0..len)
                    .map(|i| {
                        let code = codes[i / 2] >> (4 * (i % 2)) & 15;
                        let zero = zeros.get(i / group).copied().unwrap_or(8);
                        (f32::from(code) - f32::from(zero)) * scales[i / group].to_f32()
                    })
                    .collect();
                let ways = Isa::all().into_iter().map(|isa| (isa, false));
                let ways = ways.chain(vbmi().then_some((Isa::best(), true)));
                for (isa, vbmi) in ways {
                    for rows in [1, 2, 4, 5, 9] {
                        let (mut got, mut wanted) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
                        if !isa.nibble_dots_with(w, &x, stride, &mut got, vbmi) {
                            assert_eq!(isa.0, Kind::Portable);
                            continue;
                        }
                        isa.dots(Numbers::F32(&wide), &x, stride, &mut wanted);
                        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                        assert_eq!(bits(&got), bits(&wanted), "{isa:?}: {len} in {group}, {rows}");
                        cases += 1;
                    }
                }
            }
        }
        assert!(cases > 0 || Isa::all().len() == 1);
    }
}
