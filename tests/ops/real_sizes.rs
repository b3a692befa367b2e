//! What only a full card meets: the widths of a 7B model, more rows than a group of tiles has, hundreds and thousands of
//! keys. On a card at these sizes; on the emulator the same cases small, so that they stay true.
//!
//! The CPU computes all of it, some 400 GFLOP for each format: seconds.

use super::attention::{self, Decoder, Vision};
use super::corpus::{Case, Corpus, Data, Results, Tensors};
use super::products::{self, Add, Apply, Normed, Swiglu};
use super::{decode, integers};
use hired::ops::Ops;
use hired::quant::Scheme;

/// How large everything is.
pub struct Sizes {
    /// Rows, columns, inner.
    products: &'static [[usize; 3]],
    /// Columns and inner of products of a few rows.
    few: &'static [[usize; 2]],
    /// Numbers that share a scale of int4.
    group: usize,
    /// Partitions, their patches on a side, heads of 64.
    vision: [usize; 3],
    /// Heads of 128 of queries, of keys and values; rows of prompts, each of which a decode step follows.
    decoder: &'static [([usize; 2], &'static [usize])],
}

/// Of LLaVA-v1.6-vicuna-7b, and the heads of LLaVA-v1.6-mistral-7b. 2100 rows are more than 16 tiles of 128, so that
/// rows come in groups on any card.
pub const REAL: Sizes = Sizes {
    products: &[[2100, 384, 4096], [2100, 384, 11008], [636, 4096, 4096]],
    few: &[[384, 4096], [384, 11008]],
    group: 128,
    vision: [5, 24, 16],
    decoder: &[([32, 32], &[1500]), ([32, 8], &[3000, 1025, 17])],
};

pub const SMALL: Sizes = Sizes {
    products: &[[140, 24, 96], [20, 136, 64]],
    few: &[[24, 96]],
    group: 32,
    vision: [2, 3, 2],
    decoder: &[([2, 2], &[70]), ([4, 2], &[150, 33, 17])],
};

pub fn cases(corpus: &mut Corpus, sizes: &Sizes) {
    products(corpus, sizes);
    for &[cols, inner] in sizes.few {
        decode::products(corpus, 0, inner, cols);
    }
    let slack = attention::slack(corpus);
    let [partitions, side, heads] = sizes.vision;
    let rows = partitions * (side * side + 1);
    let data = Tensors::default()
        .random("q", &[rows, heads * 64], 1.5)
        .random("k", &[rows, heads * 64], 1.5)
        .random("v", &[rows, heads * 64], 1.0)
        .stored(corpus.stored());
    let what = format!("{partitions} of {side}x{side}, {heads} heads");
    let vision = Vision { heads, partitions, side };
    corpus.check("vision_attention", &what, slack, &vision, &data);

    for &(heads, prompts) in sizes.decoder {
        let rows: usize = prompts.iter().sum::<usize>() + prompts.len();
        let [cols, kv_cols] = heads.map(|heads| heads * 128);
        let data = Tensors::default()
            .random("q", &[rows, cols], 1.5)
            .random("k", &[rows, kv_cols], 1.5)
            .random("v", &[rows, kv_cols], 1.0)
            .random("table", &[9, 8], 1.0)
            .stored(corpus.stored());
        let case = ByRow { case: Decoder { heads, width: 128, prompts }, cols };
        // As of products: each addition may lose one, to either side.
        let keys = prompts.iter().max().copied().unwrap_or(0);
        let sums = products::slack(corpus, 0.0, 2.0 * (keys as f32).sqrt());
        let slack = slack + sums;
        corpus.check("attention", &format!("{prompts:?}, {heads:?} heads"), slack, &case, &data);
    }
    corpus.report();
}

/// Products with int8 and int4 weights of few and many rows.
pub fn integer_cases(corpus: &mut Corpus, sizes: &Sizes) {
    let few = sizes.few.iter().flat_map(|&[cols, inner]| [1, 3, 8].map(|rows| [rows, cols, inner]));
    for shape in sizes.products.iter().copied().chain(few) {
        for scheme in [Scheme::Q8, Scheme::Q4 { group: sizes.group }] {
            integers::of(corpus, shape, scheme, false);
        }
    }
    corpus.report();
}

/// Products of many rows.
pub fn products(corpus: &mut Corpus, sizes: &Sizes) {
    for &[rows, cols, inner] in sizes.products {
        let what = format!("{rows}x{cols}x{inner}");
        let scale = 1.0 / (inner as f32).sqrt();
        let data = Tensors::default()
            .random("x", &[rows, inner], 1.0)
            .random("sum", &[rows, cols], 2.0)
            .random("norm", &[inner], 1.0)
            .random("w", &[cols, inner], scale)
            .random("second", &[cols, inner], scale)
            .random("third", &[cols + 8, inner], scale)
            .stored(corpus.stored());
        let sums = 2.0 * (inner as f32).sqrt();
        let stored = products::slack(corpus, 2.0, 16.0 + sums);
        let order = products::slack(corpus, 8.0, 32.0 + sums);
        corpus.check("linear", &what, stored, &Apply(None), &data);
        corpus.check("linear_add", &what, stored, &Add, &data);
        corpus.check("normed_linear", &what, order, &Normed, &data);
        corpus.check("normed_swiglu", &what, order, &Swiglu, &data);
    }
}

/// A case whose rows are each held against their own largest number: what sees thousands of keys is a mean of their
/// values, and small beside a row that sees one.
struct ByRow<C> {
    case: C,
    cols: usize,
}

impl<C: Case> Case for ByRow<C> {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let results = self.case.run(ops, data)?;
        let rows = results
            .iter()
            .flat_map(|(name, numbers)| numbers.chunks(self.cols).map(|row| (*name, row.to_vec())));
        Ok(rows.collect())
    }
}
