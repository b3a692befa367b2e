//! Products of int8 matrices. The sums are 32-bit integers and exact, so every instruction set gives the same numbers.

/// Rows of weights in a tile of registers.
#[cfg(target_arch = "x86_64")]
const TILE: usize = 4;

/// The length of the longest rows whose sums fit into 32 bits, whatever the codes: 255 · 127 · k < 2³¹.
pub const LONGEST: usize = 66_311;

/// An instruction set for int8 products. Values of this type exist only for instruction sets that were detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int8(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Int8 {
    /// The fastest of this machine.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if vnni() {
                return Self(Kind::Vnni);
            }
            if std::is_x86_feature_detected!("avx2") {
                return Self(Kind::Avx2);
            }
        }
        Self(Kind::Portable)
    }

    /// All of this machine, the fastest first.
    #[cfg(test)]
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(vnni().then_some(Self(Kind::Vnni)));
            all.extend(std::is_x86_feature_detected!("avx2").then_some(Self(Kind::Avx2)));
        }
        all.push(Self(Kind::Portable));
        all
    }

    /// out[i, j] = Σ x[i, l] · w[j, l] for all rows of `w` and `x`, which have k ≤ [`LONGEST`] numbers.
    pub fn products(self, w: &[i8], x: &[i8], k: usize, out: &mut [i32]) {
        let (n, m) = (w.len() / k, x.len() / k);
        assert!(w.len() == n * k && x.len() == m * k && out.len() == m * n && k <= LONGEST);
        match self.0 {
            // SAFETY: this value exists only on machines with these instructions.
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni => unsafe { x86::products_vnni(w, x, k, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::products_avx2(w, x, k, out) },
            Kind::Portable => portable(w, x, k, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn vnni() -> bool {
    std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vnni")
}

fn portable(w: &[i8], x: &[i8], k: usize, out: &mut [i32]) {
    let n = w.len() / k;
    for (x, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
        for (w, out) in w.chunks_exact(k).zip(out) {
            *out = w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum();
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::ask_ahead;
    use super::TILE;
    use std::arch::x86_64::*;

    /// The sums of one tile: `WS` rows of weights by `XS` rows of activations.
    ///
    /// # Safety
    /// The machine has AVX-512 F, BW and VNNI; the rows are `k` long.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn vnni<const WS: usize, const XS: usize>(
        w: *const i8,
        x: *const i8,
        k: usize,
    ) -> [[i32; WS]; XS] {
        let mut sums = [[_mm512_setzero_si512(); WS]; XS];
        let mut totals = [_mm512_setzero_si512(); XS];
        let flip = _mm512_set1_epi8(-128);
        let ones = _mm512_set1_epi8(1);
        let mut step = |at: usize, mask: __mmask64| {
            // The instruction multiplies unsigned bytes by signed ones. So 128 is added to the weights, and 128 times
            // the sum of the activations is subtracted at the end.
            let ws: [__m512i; WS] = std::array::from_fn(|j| {
                if WS == 1 {
                    ask_ahead(w.wrapping_add(at));
                }
                // SAFETY: the mask excludes lanes behind the row's end, which are not read.
                let w = unsafe { _mm512_maskz_loadu_epi8(mask, w.add(j * k + at)) };
                _mm512_xor_si512(w, flip)
            });
            for (i, (sums, total)) in sums.iter_mut().zip(&mut totals).enumerate() {
                // SAFETY: as above. The activations are 0 in those lanes, so the weights there do not matter.
                let x = unsafe { _mm512_maskz_loadu_epi8(mask, x.add(i * k + at)) };
                *total = _mm512_dpbusd_epi32(*total, ones, x);
                for (sum, &w) in sums.iter_mut().zip(&ws) {
                    *sum = _mm512_dpbusd_epi32(*sum, w, x);
                }
            }
        };
        let whole = k & !63;
        let mut at = 0;
        while at < whole {
            step(at, !0);
            at += 64;
        }
        if at < k {
            step(at, (1 << (k - at)) - 1);
        }
        std::array::from_fn(|i| {
            let total = _mm512_reduce_add_epi32(totals[i]);
            std::array::from_fn(|j| {
                _mm512_reduce_add_epi32(sums[i][j]).wrapping_sub(total.wrapping_mul(128))
            })
        })
    }

    /// The sums of one tile without VNNI: bytes are widened to 16 bits, and pairs of products are added in 32 bits.
    ///
    /// # Safety
    /// The machine has AVX2; the rows are `k` long.
    #[target_feature(enable = "avx2")]
    unsafe fn avx2<const WS: usize, const XS: usize>(
        w: *const i8,
        x: *const i8,
        k: usize,
    ) -> [[i32; WS]; XS] {
        let mut sums = [[_mm256_setzero_si256(); WS]; XS];
        let whole = k & !15;
        let mut at = 0;
        while at < whole {
            // SAFETY: 16 bytes from `at` on lie in the row.
            let wide = |row: *const i8| unsafe {
                _mm256_cvtepi8_epi16(_mm_loadu_si128(row.add(at).cast()))
            };
            let ws: [__m256i; WS] = std::array::from_fn(|j| wide(w.wrapping_add(j * k)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = wide(x.wrapping_add(i * k));
                for (sum, &w) in sums.iter_mut().zip(&ws) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(w, x));
                }
            }
            at += 16;
        }
        std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let mut lanes = [0i32; 8];
                // SAFETY: the array has the size of the register.
                unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sums[i][j]) };
                let rest = (whole..k).map(|l| {
                    // SAFETY: l is inside the row.
                    unsafe { i32::from(*w.add(j * k + l)) * i32::from(*x.add(i * k + l)) }
                });
                lanes.into_iter().chain(rest).sum()
            })
        })
    }

    macro_rules! matrix {
        ($name:ident, $tile:ident, $features:literal, $xs:literal, $alone:expr) => {
            /// Implements [`super::Int8::products`], which checks the lengths.
            #[target_feature(enable = $features)]
            pub fn $name(w: &[i8], x: &[i8], k: usize, out: &mut [i32]) {
                let (n, m) = (w.len() / k, x.len() / k);
                let mut j = 0;
                while j < n {
                    let ws = match n - j {
                        TILE.. if m > 1 => TILE,
                        $alone.. if m == 1 => $alone,
                        _ => 1,
                    };
                    let mut i = 0;
                    while i < m {
                        let xs = if m - i >= $xs { $xs } else { 1 };
                        // SAFETY: the slices have n and m rows of k, of which ws from j and xs from i on are there; the
                        // features are this function's own.
                        unsafe {
                            let (w, x) = (w.as_ptr().add(j * k), x.as_ptr().add(i * k));
                            let out = &mut out[i * n + j..];
                            match (ws, xs) {
                                (1, 1) => put(out, n, $tile::<1, 1>(w, x, k)),
                                (1, _) => put(out, n, $tile::<1, $xs>(w, x, k)),
                                (_, 1) => put(out, n, $tile::<TILE, 1>(w, x, k)),
                                _ => put(out, n, $tile::<TILE, $xs>(w, x, k)),
                            }
                        }
                        i += xs;
                    }
                    j += ws;
                }
            }
        };
    }

    // With one row of activations memory is the limit, and weights are best read one whole row after another.
    matrix!(products_vnni, vnni, "avx512f,avx512bw,avx512vnni", 4, 1);
    // Widening the activations costs as much as widening a row of weights.
    matrix!(products_avx2, avx2, "avx2", 2, TILE);

    fn put<const WS: usize, const XS: usize>(out: &mut [i32], n: usize, sums: [[i32; WS]; XS]) {
        for (i, sums) in sums.iter().enumerate() {
            out[i * n..i * n + WS].copy_from_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of codes: random, or all equal.
    fn codes(count: usize, seed: u64, fixed: Option<i8>) -> Vec<i8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8 as i8
        };
        (0..count).map(|_| fixed.unwrap_or_else(&mut next)).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_sums() {
        let mut cases = 0;
        for (n, m) in [(1, 1), (4, 4), (5, 3), (9, 5), (8, 2)] {
            for k in [1, 15, 16, 17, 63, 64, 65, 129, 200] {
                // Weights of other quantizers go down to −128, activations do not.
                for (weight, activation) in
                    [(None, None), (Some(-128), Some(-127)), (Some(127), Some(-127))]
                {
                    let w = codes(n * k, 1 + k as u64, weight);
                    let x: Vec<i8> = codes(m * k, 2 + k as u64, activation)
                        .iter()
                        .map(|x| *x.max(&-127))
                        .collect();
                    let expected: Vec<i32> = (0..m * n)
                        .map(|at| {
                            let (x, w) = (&x[at / n * k..][..k], &w[at % n * k..][..k]);
                            x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum()
                        })
                        .collect();
                    for int8 in Int8::all() {
                        let mut out = vec![-1; m * n];
                        int8.products(&w, &x, k, &mut out);
                        assert_eq!(out, expected, "{int8:?}, {n} by {m} by {k}");
                        cases += 1;
                    }
                }
            }
        }
        assert!(cases >= 135);
    }

    #[test]
    fn the_longest_rows_do_not_overflow() {
        let (w, x) = (vec![-128i8; LONGEST], vec![-127i8; LONGEST]);
        for int8 in Int8::all() {
            let mut out = [0];
            int8.products(&w, &x, LONGEST, &mut out);
            assert_eq!(i64::from(out[0]), 128 * 127 * LONGEST as i64, "{int8:?}");
        }
    }
}
