//! Up to eight rows: products that take the norm along, gated ones, logits, and the tokens chosen from them.

use super::corpus::{Case, Corpus, Data, Results, Tensors};
use hired::config::Activation;
use hired::format::Dtype;
use hired::ops::sample::{Sampling, draw};
use hired::ops::{DECODE_ROWS, Ops};

/// Widths of x: one, around whole accesses of a lane and of a warp, and beyond several of them.
const INNERS: [usize; 9] = [1, 7, 8, 33, 64, 255, 256, 264, 1096];

/// Columns: around those of a warp and of a block.
const COLS: [usize; 5] = [17, 3, 5, 66, 4];

pub fn cases(corpus: &mut Corpus) {
    for (turn, inner) in INNERS.into_iter().enumerate() {
        products(corpus, turn, inner, COLS[turn % COLS.len()]);
    }
    for (turn, cols) in [1, 4, 66].into_iter().enumerate() {
        products(corpus, turn, 72, cols);
    }
    for (rows, cols) in [(1, 1), (3, 33), (8, 257), (2, 2000)] {
        let data = Tensors::default()
            .random("x", &[DECODE_ROWS, 24], 1.0)
            .random("norm", &[24], 1.0)
            .random("a", &[cols, 24], 0.5)
            .stored(corpus.stored());
        corpus.check("sample", &format!("{rows}x{cols}"), 0.0, &Sample { rows }, &data);
    }
}

pub fn products(corpus: &mut Corpus, turn: usize, inner: usize, cols: usize) {
    let data = Tensors::default()
        .random("x", &[DECODE_ROWS, inner], 1.0)
        .random("norm", &[inner], 1.0)
        .random("a", &[cols, inner], 0.5)
        .random("a.bias", &[cols], 1.0)
        .random("b", &[cols, inner], 0.5)
        .random("c", &[2 * cols + 1, inner], 0.5)
        .random("sum", &[DECODE_ROWS, cols], 1.0)
        .stored(corpus.stored());
    // Of f16 one rounding, and a little of the sums. Of f32 the rounding of the sums: a few columns can all be small
    // beside what was added up, so this is wide; tests/device_gemv.rs holds the sums themselves below 1e-6. The emulator
    // used 10 of 32, and 33 of 96 with a gate: what a card's functions add stays far below the rest.
    let [sums, normed, gated, logits] = match corpus.dtype() {
        Dtype::F32 => [32.0, 32.0, 96.0, 32.0],
        // A row of a few numbers keeps most of what its own rounding loses.
        Dtype::F16 if corpus.rounds_normed_rows() => [1.05, 2.1, 4.0, 2.0],
        _ => [1.05, 1.05, 1.6, 0.05],
    };
    let functions = [
        None,
        Some(Activation::QuickGelu),
        Some(Activation::Gelu),
        Some(Activation::Silu),
        Some(Activation::GeluTanh),
    ];
    for rows in [1, 2, 3, 5, 8] {
        let mut check = |op, slack, product| {
            let what = format!("{rows}x{inner} by {cols}");
            corpus.check(op, &what, slack, &Product { rows, product }, &data);
        };
        check("normed_linear, few rows", normed, Kind::Normed);
        if rows == 1 || rows == 8 {
            let activation = functions[(turn + rows / 8) % functions.len()];
            check("linear, few rows", sums, Kind::Linear(activation));
            check("linear_add, few rows", sums, Kind::Add);
            check("normed_swiglu, few rows", gated, Kind::Gated);
            check("logits", logits, Kind::Logits);
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Linear(Option<Activation>),
    Add,
    Normed,
    Gated,
    Logits,
}

/// The first rows together; and the last of them alone, which has to have the same bits.
struct Product {
    rows: usize,
    product: Kind,
}

impl Case for Product {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let rows: Vec<u32> = (0..self.rows as u32).collect();
        let results = self.product.run(ops, data, &rows)?;
        let alone = self.product.run(ops, data, &rows[self.rows - 1..])?;
        for ((name, all), (_, alone)) in results.iter().zip(&alone) {
            let last = &all[all.len() - alone.len()..];
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(last),
                bits(alone),
                "{name}: a row of {} is not what it is alone",
                self.rows
            );
        }
        Ok(results)
    }
}

impl Kind {
    fn run<O: Ops>(self, ops: &mut O, data: &Data, rows: &[u32]) -> hired::Result<Results> {
        let table = data.matrix(ops, "x")?;
        let x = ops.interleave(&table, &[], rows)?;
        let a = data.linear(ops, "a")?;
        let b = data.linear(ops, "b")?;
        let norm = data.norm(ops, "norm")?;
        Ok(match self {
            Kind::Linear(activation) => {
                let y = ops.linear(&x, &a, activation)?;
                vec![("y", ops.download(&y)?)]
            }
            Kind::Add => {
                let sums = data.matrix(ops, "sum")?;
                let mut sum = ops.interleave(&sums, &[], rows)?;
                ops.linear_add(&mut sum, &x, &a)?;
                vec![("sum", ops.download(&sum)?)]
            }
            Kind::Normed => {
                let c = data.linear(ops, "c")?;
                let [one] = ops.normed_linear(&x, &norm, [&a])?;
                let [q, k, v] = ops.normed_linear(&x, &norm, [&c, &a, &b])?;
                let mut results = vec![("one", ops.download(&one)?)];
                for (name, y) in [("q", q), ("k", k), ("v", v)] {
                    results.push((name, ops.download(&y)?));
                }
                results
            }
            Kind::Gated => {
                let y = ops.normed_swiglu(&x, &norm, &b, &a)?;
                vec![("y", ops.download(&y)?)]
            }
            Kind::Logits => {
                let y = ops.logits(&x, Some(&norm), &b)?;
                vec![("y", ops.download(&y)?)]
            }
        })
    }
}

/// Tokens from an executor's own logits: those that the rule takes from the same numbers.
struct Sample {
    rows: usize,
}

impl Case for Sample {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let table = data.matrix(ops, "x")?;
        let rows: Vec<u32> = (0..self.rows as u32).collect();
        let x = ops.interleave(&table, &[], &rows)?;
        let (norm, head) = (data.norm(ops, "norm")?, data.linear(ops, "a")?);
        let logits = ops.logits(&x, Some(&norm), &head)?;
        let numbers = ops.download(&logits)?;
        let kinds = [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.8, 40, 0.95), (1.5, 0, 0.7), (0.7, 5, 1.0)];
        for turn in 0..=kinds.len() {
            // First the most likely of each row, then all kinds beside each other.
            let how: Vec<_> = (0..self.rows)
                .map(|row| {
                    let kind = if turn == 0 { 0 } else { (turn + row) % kinds.len() };
                    let (temperature, top_k, top_p) = kinds[kind];
                    (
                        Sampling::default()
                            .with_temperature(temperature)
                            .with_top_k(top_k)
                            .with_top_p(top_p)
                            .with_seed(11),
                        turn,
                    )
                })
                .collect();
            let tokens = ops.sample(&logits, &how)?;
            assert_eq!(tokens.len(), self.rows);
            // Nothing is computed where all is zero: there is only counted.
            if numbers.iter().all(|&x| x == 0.0) {
                continue;
            }
            let cols = numbers.len() / self.rows;
            for ((token, row), (how, step)) in
                tokens.iter().zip(numbers.chunks_exact(cols)).zip(&how)
            {
                assert_eq!(Some(*token), draw(row, how, *step), "{how:?}");
            }
        }
        Ok(Vec::new())
    }
}
