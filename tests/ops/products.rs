//! Matrix products: few rows and many, alone and with what is done before and after them.

use super::corpus::{Case, Corpus, Data, Results, Tensors};
use hired::config::Activation;
use hired::format::Format;
use hired::ops::{Linear, Ops};

/// Rows, columns, inner. One, primes, around the rows of a decode step, tiles and their steps; no vector of fp16 or of
/// fp32 reaches some.
const SHAPES: [[usize; 3]; 20] = [
    [1, 1, 1],
    [1, 264, 1096],
    [3, 17, 19],
    [7, 40, 64],
    [8, 31, 72],
    [9, 1, 1],
    [9, 8, 8],
    [11, 13, 17],
    [16, 12, 4],
    [63, 64, 64],
    [64, 72, 16],
    [65, 63, 33],
    [127, 128, 32],
    [128, 136, 104],
    [129, 120, 40],
    [40, 264, 8],
    [20, 24, 1096],
    // Made in two parts and in four.
    [20, 24, 2112],
    [10, 7, 4160],
    // The proportions of a prompt.
    [153, 256, 64],
];

/// How many roundings of the largest number may be lost: by what is stored between the steps in fp16; by the order of
/// additions in fp32.
pub fn slack(corpus: &Corpus, f16: f32, f32: f32) -> f32 {
    if corpus.stored() == Format::F32 { f32 } else { f16 }
}

pub fn cases(corpus: &mut Corpus) {
    for [rows, cols, inner] in SHAPES {
        let what = format!("{rows}x{cols}x{inner}");
        let scale = 1.0 / (inner as f32).sqrt();
        let tensors = || {
            Tensors::default()
                .random("x", &[rows, inner], 1.0)
                .random("sum", &[rows, cols], 2.0)
                .random("norm", &[inner], 1.0)
                .random("w", &[cols, inner], scale)
                .random("second", &[cols, inner], scale)
                .random("third", &[cols + 1, inner], scale)
                .random("head", &[cols], 1.0)
        };
        let data = tensors().stored(corpus.stored());
        // Each addition may lose one, to either side.
        let sums = 2.0 * (inner as f32).sqrt();
        let (stored, order) = (slack(corpus, 2.0, 16.0 + sums), slack(corpus, 8.0, 32.0 + sums));
        corpus.check("linear", &what, stored, &Apply(None), &data);
        corpus.check("linear_add", &what, stored, &Add, &data);
        corpus.check("normed_linear", &what, order, &Normed, &data);
        corpus.check("normed_swiglu", &what, order, &Swiglu, &data);
        if rows <= hired::ops::DECODE_ROWS {
            corpus.check("logits", &what, order, &Logits, &data);
            corpus.check("logits of rows that are normalised", &what, stored, &Plain, &data);
        }
        let data = tensors()
            .random("w.bias", &[cols], 1.0)
            .random("second.bias", &[cols], 1.0)
            .stored(corpus.stored());
        let activations =
            [Activation::QuickGelu, Activation::Gelu, Activation::GeluTanh, Activation::Silu];
        for activation in activations {
            let what = format!("{what} {activation:?}");
            corpus.check("linear with bias", &what, stored, &Apply(Some(activation)), &data);
        }
        corpus.check("linear_add with bias", &what, stored, &Add, &data);
        corpus.check("normed with bias", &what, order, &Normed, &data);
    }
    beyond_fp16(corpus);
}

/// Numbers that fp16 does not hold: the largest it has stands for them, so many roundings below. LLaMA-2-7B has such a
/// product of gate and up; an infinity would be NaN in every row behind.
fn beyond_fp16(corpus: &mut Corpus) {
    const LARGEST: f32 = 65504.0;
    let missing = |truth: f32| 1.1 * (1.0 - LARGEST / truth) * 2048.0;
    for (rows, cols, inner) in [(1, 8, 8), (3, 8, 8), (8, 5, 3), (12, 16, 8), (9, 5, 3)] {
        let what = format!("{rows}x{cols}x{inner}");
        // Only the first number of a row of x counts.
        let column = |x: f32| {
            let at = |i: usize| if i.is_multiple_of(inner) { x } else { 0.0 };
            (0..cols * inner).map(at).collect::<Vec<_>>()
        };
        let data = Tensors::default()
            .given("x", &[rows, inner], vec![1.0; rows * inner])
            .given("norm", &[inner], vec![1.0; inner])
            .given("w", &[cols, inner], column(255.875))
            .given("second", &[cols, inner], column(261.75))
            .stored(corpus.stored());
        let below = slack(corpus, missing(255.875 * 261.75), 32.0);
        corpus.check("normed_swiglu beyond fp16", &what, below, &Swiglu, &data);
        if corpus.has_library() && rows > hired::ops::DECODE_ROWS {
            // The library stores its sums itself.
            continue;
        }
        let data = Tensors::default()
            .given("x", &[rows, inner], vec![1.0; rows * inner])
            .given("sum", &[rows, cols], vec![-60000.0; rows * cols])
            .given("w", &[cols, inner], column(-8000.0))
            .stored(corpus.stored());
        let below = slack(corpus, missing(68000.0), 16.0);
        corpus.check("linear_add beyond fp16", &what, below, &Add, &data);
    }
}

pub struct Apply(pub Option<Activation>);

impl Case for Apply {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let x = data.rows(ops, "x")?;
        let layer = data.linear(ops, "w")?;
        let y = ops.linear(&x, &layer, self.0)?;
        Ok(vec![("y", ops.download(&y)?)])
    }
}

pub struct Add;

impl Case for Add {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let (x, mut sum) = (data.rows(ops, "x")?, data.rows(ops, "sum")?);
        let layer = data.linear(ops, "w")?;
        ops.linear_add(&mut sum, &x, &layer)?;
        Ok(vec![("sum", ops.download(&sum)?)])
    }
}

/// One, two and three layers behind one norm.
pub struct Normed;

impl Case for Normed {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let x = data.rows(ops, "x")?;
        let norm = data.norm(ops, "norm")?;
        let layers =
            [data.linear(ops, "w")?, data.linear(ops, "second")?, data.linear(ops, "third")?];
        let [a, b, c] = &layers;
        let [one] = ops.normed_linear(&x, &norm, [a])?;
        let [first, second] = ops.normed_linear(&x, &norm, [a, b])?;
        let [q, k, v] = ops.normed_linear(&x, &norm, [c, a, b])?;
        let mut results = Results::new();
        for (name, y) in
            [("one", one), ("first", first), ("second", second), ("q", q), ("k", k), ("v", v)]
        {
            results.push((name, ops.download(&y)?));
        }
        Ok(results)
    }
}

pub struct Swiglu;

impl Case for Swiglu {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let x = data.rows(ops, "x")?;
        let norm = data.norm(ops, "norm")?;
        let (gate, up) = (data.linear(ops, "w")?, data.linear(ops, "second")?);
        let y = ops.normed_swiglu(&x, &norm, &gate, &up)?;
        Ok(vec![("y", ops.download(&y)?)])
    }
}

/// Logits without a norm before them, with a bias.
struct Plain;

impl Case for Plain {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let x = data.rows(ops, "x")?;
        let head = Linear { weight: data.matrix(ops, "w")?, bias: Some(data.vector(ops, "head")?) };
        let y = ops.logits(&x, None, &head)?;
        Ok(vec![("y", ops.download(&y)?)])
    }
}

struct Logits;

impl Case for Logits {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let x = data.rows(ops, "x")?;
        let norm = data.norm(ops, "norm")?;
        let head = data.linear(ops, "w")?;
        let y = ops.logits(&x, Some(&norm), &head)?;
        Ok(vec![("y", ops.download(&y)?)])
    }
}
