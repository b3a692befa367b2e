//! Every instruction set of this machine against exact sums and against the others.

use super::*;
use half::{bf16, f16};

/// Lengths around the widths of registers and of the partial sums, and rows of real models.
const LENGTHS: [usize; 18] =
    [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 160, 577, 2048];

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1999) as f32 / 999.5 - 1.0).collect()
}

/// Runs a check with the same numbers in each format, rounded to it.
fn formats(x: &[f32], then: impl Fn(Numbers<'_>)) {
    let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
    let brains: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    [Numbers::F32(x), Numbers::F16(&halves), Numbers::Bf16(&brains)].into_iter().for_each(then);
}

fn widened(isa: Isa, x: Numbers<'_>, len: usize) -> Vec<f32> {
    let mut wide = vec![0.0; len];
    isa.widen(x, &mut wide);
    wide
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// The instruction sets with fused multiply-add, which all give the same bits; portable code is only close.
fn fused() -> impl Iterator<Item = Isa> {
    Isa::all().into_iter().filter(|isa| isa.0 != Kind::Portable)
}

#[test]
fn the_widest_is_the_first_of_all_and_portable_code_the_last() {
    let all = Isa::all();
    assert_eq!(all.first(), Some(&Isa::best()));
    assert_eq!(all.last(), Some(&Isa(Kind::Portable)));
}

#[test]
fn dots_are_close_and_a_rows_bits_do_not_depend_on_the_others() {
    for len in LENGTHS {
        let (x, w) = (numbers(9 * (len + 3), 1), numbers(len, 2));
        formats(&w, |w| {
            let wide = widened(Isa::best(), w, len);
            for isa in Isa::all() {
                let mut nine = [f32::NAN; 9];
                isa.dots(w, &x, len + 3, &mut nine);
                for (row, &got) in nine.iter().enumerate() {
                    let x = &x[row * (len + 3)..][..len];
                    let terms = || x.iter().zip(&wide).map(|(a, b)| f64::from(a * b));
                    let terms64 = x.iter().zip(&wide).map(|(a, b)| f64::from(*a) * f64::from(*b));
                    let (want, size): (f64, f64) = (terms64.sum(), terms().map(f64::abs).sum());
                    assert!(
                        (f64::from(got) - want).abs() <= 1e-6 * size,
                        "{isa:?}: {len}: {got} {want}"
                    );
                    let mut alone = [f32::NAN];
                    isa.dots(w, x, len, &mut alone);
                    assert_eq!(got.to_bits(), alone[0].to_bits(), "{isa:?}: {len}, row {row}");
                }
            }
        });
    }
}

/// Six rows: one round of four that share the loads of `x`, and two that do not.
#[test]
fn stored_rows_together_have_the_bits_of_each_alone() {
    for len in LENGTHS {
        let (x, w) = (numbers(len, 6), numbers(6 * len, 7));
        formats(&w, |w| {
            for isa in Isa::all() {
                let mut six = [f32::NAN; 6];
                isa.stored_row_dots(w, &x, &mut six);
                for (row, &got) in six.iter().enumerate() {
                    let mut alone = [f32::NAN];
                    isa.dots(w.part(row * len..(row + 1) * len), &x, len, &mut alone);
                    assert_eq!(got.to_bits(), alone[0].to_bits(), "{isa:?}: {len}, row {row}");
                }
            }
        });
    }
}

#[test]
fn sums_have_the_same_bits_by_every_vector_register() {
    for len in LENGTHS {
        let (x, w) = (numbers(5 * len, 3), numbers(len, 4));
        formats(&w, |w| {
            let all: Vec<_> = fused()
                .map(|isa| {
                    let mut sums = [0.0; 5];
                    isa.dots(w, &x, len, &mut sums);
                    bits(&sums)
                })
                .collect();
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{len}");
        });
        let all: Vec<_> = fused()
            .map(|isa| {
                let mut row = numbers(len, 5).iter().map(|x| 30.0 * x).collect::<Vec<_>>();
                let sum = isa.exps(&mut row);
                row.push(sum);
                bits(&row)
            })
            .collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{len}");
    }
}

#[test]
fn rows_are_added_by_their_weights() {
    for width in [1, 2, 6, 8, 15, 24, 34, 64, 80, 128, 200] {
        let (p, rows) = (numbers(19, 6), numbers(19 * width, 7));
        formats(&rows, |rows| {
            let wide = widened(Isa::best(), rows, 19 * width);
            let all: Vec<_> = Isa::all()
                .into_iter()
                .map(|isa| {
                    let mut out = numbers(width, 8);
                    isa.add_rows(&p, rows, &mut out);
                    (isa, out)
                })
                .collect();
            for (isa, out) in &all {
                for (column, &got) in out.iter().enumerate() {
                    let terms = p
                        .iter()
                        .enumerate()
                        .map(|(i, p)| f64::from(*p) * f64::from(wide[i * width + column]));
                    let want = f64::from(numbers(width, 8)[column]) + terms.sum::<f64>();
                    assert!((f64::from(got) - want).abs() < 1e-5, "{isa:?}: {width}: {got} {want}");
                }
            }
            let vectors: Vec<_> = all.iter().filter(|(isa, _)| isa.0 != Kind::Portable).collect();
            assert!(vectors.windows(2).all(|pair| bits(&pair[0].1) == bits(&pair[1].1)), "{width}");
        });
    }
}

#[test]
fn widening_is_exact_for_every_half() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let halves: Vec<f16> = all.iter().map(|&b| f16::from_bits(b)).collect();
    let brains: Vec<bf16> = all.iter().map(|&b| bf16::from_bits(b)).collect();
    for isa in Isa::all() {
        for (half, wide) in halves.iter().zip(widened(isa, Numbers::F16(&halves), all.len())) {
            assert!(half.to_f32() == wide || half.is_nan() && wide.is_nan(), "{isa:?}: {half}");
        }
        for (brain, wide) in brains.iter().zip(widened(isa, Numbers::Bf16(&brains), all.len())) {
            assert!(brain.to_f32() == wide || brain.is_nan() && wide.is_nan(), "{isa:?}: {brain}");
        }
        for len in LENGTHS {
            let few = widened(isa, Numbers::F16(&halves[1000..1000 + len]), len);
            assert!(
                few.iter().zip(&halves[1000..]).all(|(wide, half)| *wide == half.to_f32()),
                "{isa:?}: {len}"
            );
        }
    }
}

/// Distance of `got` from `want` in units in the last place.
fn ulps(got: f32, want: f64) -> f64 {
    let unit = 2f64.powi((want.log2().floor() as i32).max(-126) - 23);
    (f64::from(got) - want).abs() / unit
}

#[test]
fn exponentials_are_within_their_bound() {
    for isa in Isa::all() {
        let mut worst = (0.0, 0.0);
        // Every 509th number from −0 to −104; the maximum of each row is its first number, 0.
        let numbers: Vec<u32> = (0x8000_0000..(-104.0f32).to_bits()).step_by(509).collect();
        for part in numbers.chunks(4096) {
            let x: Vec<f32> = part.iter().map(|&bits| f32::from_bits(bits)).collect();
            let mut row = [&[0.0], &x[..]].concat();
            isa.exps(&mut row);
            assert_eq!(row[0], 1.0, "{isa:?}");
            for (x, got) in x.iter().zip(&row[1..]) {
                let error = ulps(*got, f64::from(*x).exp());
                if error > worst.0 {
                    worst = (error, *x);
                }
            }
        }
        assert!(worst.0 < 1.1, "{isa:?}: {} units at {}", worst.0, worst.1);
    }
}

#[test]
fn a_softmax_has_its_maximum_and_its_sum_wherever_they_are() {
    for isa in Isa::all() {
        for len in LENGTHS.into_iter().filter(|&len| len > 0) {
            for place in [0, len / 2, len - 1] {
                let mut x = vec![-3.0f32; len];
                x[place] = 100.0;
                let sum = isa.exps(&mut x);
                assert_eq!((x[place], sum), (1.0, 1.0), "{isa:?}: {len}, {place}");
                // A NaN or +∞ anywhere makes the sum NaN.
                for bad in [f32::NAN, f32::INFINITY] {
                    let mut x = vec![-3.0f32; len];
                    x[place] = bad;
                    assert!(isa.exps(&mut x).is_nan(), "{isa:?}: {len}, {place}, {bad}");
                }
            }
            let mut x = vec![7.5f32; len];
            assert_eq!(isa.exps(&mut x), len as f32, "{isa:?}");
            let mut x = vec![f32::NEG_INFINITY; len + 1];
            x[0] = 5.0;
            assert_eq!(isa.exps(&mut x), 1.0, "{isa:?}");
            assert!(x[1..].iter().all(|&x| x == 0.0), "{isa:?}");
        }
    }
}

#[test]
fn gates_are_close_at_every_size() {
    for isa in Isa::all() {
        for factor in [1.0, 1.702] {
            let x: Vec<f32> = (-1100..1100).map(|i| i as f32 / 10.0).chain([1e30, -1e30]).collect();
            let mut got = x.clone();
            isa.gate(&mut got, factor);
            for (x, got) in x.iter().zip(&got) {
                let want = f64::from(*x) / (1.0 + (-f64::from(factor) * f64::from(*x)).exp());
                // The error of the exponential from rounding its argument; beyond f32's range it is infinite.
                let slack = 1e-6 + 1e-7 * f64::from(x.abs().min(110.0));
                assert!(
                    (f64::from(*got) - want).abs() <= slack * want.abs() + 3e-37,
                    "{isa:?}: {x}: {got} {want}"
                );
            }
            let mut bad = [f32::NAN, 1.0];
            isa.gate(&mut bad, factor);
            assert!(bad[0].is_nan() && bad[1].is_finite(), "{isa:?}");
        }
    }
}

#[test]
fn multiply_adds_are_as_many_as_asked_for() {
    for isa in Isa::all() {
        assert!((1000..2000).contains(&isa.multiply_adds(1000)), "{isa:?}");
    }
}

#[test]
fn every_word_is_read_once() {
    for len in [0, 1, 31, 64, 200] {
        let words: Vec<u64> =
            (0..len).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let wanted = words.iter().fold(0, |all, word| all ^ word);
        for isa in Isa::all() {
            assert_eq!(isa.xor(&words), wanted, "{isa:?}, {len} words");
        }
    }
}
