//! Products with integer weights. Those of int8 are sums of integers, so the device has the CPU's bits where the activations
//! are the same: in all that no norm comes before, in f32 and, rounded once, in f16.

use super::corpus::{Corpus, Data, Tensors};
use super::products::{Add, Apply, Normed, Swiglu, slack};
use hired::config::Activation;
use hired::ops::DECODE_ROWS;
use hired::quant::Scheme;

/// Rows, columns, inner of int8: one, primes, around tiles, words and their steps; few rows and many.
const SHAPES: [[usize; 3]; 13] = [
    [1, 1, 1],
    [1, 264, 1096],
    [3, 17, 19],
    [8, 31, 72],
    [9, 1, 1],
    [9, 8, 16],
    [11, 13, 17],
    [63, 64, 64],
    [65, 63, 33],
    [127, 128, 32],
    [129, 136, 104],
    [20, 24, 2112],
    [153, 256, 64],
];

/// The same of int4 with its groups, which divide the inner dimension.
const GROUPED: [([usize; 3], usize); 9] = [
    ([1, 1, 32], 32),
    ([1, 264, 1024], 128),
    ([3, 17, 64], 64),
    ([8, 31, 96], 32),
    ([9, 8, 32], 32),
    ([11, 13, 128], 128),
    ([65, 63, 160], 32),
    ([129, 136, 192], 64),
    ([20, 24, 2048], 128),
];

pub fn cases(corpus: &mut Corpus) {
    for shape in SHAPES {
        of(corpus, shape, Scheme::Q8, true);
    }
    for (shape, group) in GROUPED {
        of(corpus, shape, Scheme::Q4 { group }, true);
    }
    zeros(corpus);
}

/// What a product of one shape and scheme does; with biases and activations, too, if `all`.
pub fn of(corpus: &mut Corpus, [rows, cols, inner]: [usize; 3], scheme: Scheme, all: bool) {
    let what = format!("{rows}x{cols}x{inner} {scheme}");
    let scale = 1.0 / (inner as f32).sqrt();
    let tensors = || {
        Tensors::default()
            .random("x", &[rows, inner], 1.0)
            .random("sum", &[rows, cols], 2.0)
            .random("norm", &[inner], 1.0)
            .random("w", &[cols, inner], scale)
            .random("second", &[cols, inner], scale)
            .random("third", &[cols + 1, inner], scale)
    };
    let data = tensors().stored(corpus.stored()).rounded(scheme);
    plain(corpus, &what, scheme, inner, &data);
    // A normed row's last bits, which f16 rounds away on the device, may round a number to the next code: outputs move by a
    // part of a code each, up to 1% of the largest.
    let codes = slack(corpus, 16.0, 1e5);
    let few = 2.0 * (inner as f32).sqrt();
    let normed = if scheme == Scheme::Q8 { codes } else { slack(corpus, 8.0, 32.0 + few) };
    corpus.check(&named("normed_linear", scheme, rows), &what, normed, &Normed, &data);
    corpus.check(&named("normed_swiglu", scheme, rows), &what, 2.0 * normed, &Swiglu, &data);
    if !all {
        return;
    }
    let data = tensors()
        .random("w.bias", &[cols], 1.0)
        .random("second.bias", &[cols], 1.0)
        .stored(corpus.stored())
        .rounded(scheme);
    plain(corpus, &format!("{what} with bias"), scheme, inner, &data);
    let stored = slack(corpus, 4.0, 32.0 + few);
    for activation in [Activation::QuickGelu, Activation::Gelu, Activation::Silu] {
        let op = named("linear with bias", scheme, rows);
        corpus.check(
            &op,
            &format!("{what} {activation:?}"),
            stored,
            &Apply(Some(activation)),
            &data,
        );
    }
}

/// A product alone and added: equal to the bit in int8.
fn plain(corpus: &mut Corpus, what: &str, scheme: Scheme, inner: usize, data: &Data) {
    let rows = data.shape("x")[0];
    if scheme == Scheme::Q8 {
        corpus.check_bits(&named("linear", scheme, rows), what, &Apply(None), data);
        corpus.check_bits(&named("linear_add", scheme, rows), what, &Add, data);
        return;
    }
    // As of dense weights; tensor cores take each weight rounded to fp16.
    let stored = slack(corpus, 4.0, 16.0 + 2.0 * (inner as f32).sqrt());
    corpus.check(&named("linear", scheme, rows), what, stored, &Apply(None), data);
    corpus.check(&named("linear_add", scheme, rows), what, stored, &Add, data);
}

/// Rows and weights without a number, and rows whose numbers are all the largest code.
fn zeros(corpus: &mut Corpus) {
    for rows in [5, 20] {
        let (cols, inner) = (17, 64);
        let signs = |count: usize| (0..count).map(|i| if i * i % 7 < 3 { 1.0 } else { -1.0 });
        // Row after row: zeros, plus or minus the largest, all the same.
        let table = |count: usize| -> Vec<f32> {
            signs(count * inner)
                .enumerate()
                .map(|(i, sign)| [0.0, sign, -1.0][i / inner % 3])
                .collect()
        };
        let data = Tensors::default()
            .given("x", &[rows, inner], table(rows))
            .given("w", &[cols, inner], table(cols))
            .random("sum", &[rows, cols], 2.0)
            .stored(corpus.stored());
        let what = format!("{rows}x{cols}x{inner} of zeros and largest codes");
        let data = data.rounded(Scheme::Q8);
        corpus.check_bits("linear, extremes, q8", &what, &Apply(None), &data);
        corpus.check_bits("linear_add, extremes, q8", &what, &Add, &data);
        let data = data.rounded(Scheme::Q4 { group: 32 });
        corpus.check("linear, extremes, q4", &what, slack(corpus, 4.0, 32.0), &Apply(None), &data);
    }
}

fn named(op: &str, scheme: Scheme, rows: usize) -> String {
    let format = if scheme == Scheme::Q8 { "q8" } else { "q4" };
    let rows = if rows <= DECODE_ROWS { "few rows" } else { "many rows" };
    format!("{op}, {format}, {rows}")
}
