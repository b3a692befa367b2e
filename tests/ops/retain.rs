//! Which rows of a prompt go on, and what follows: their copies, and their attention at the positions they had.
//!
//! Scores that differ in the last bit may choose other rows, so these are far apart or equal: keys differ in a number
//! that no rotation reaches, by steps that every format holds.

use super::corpus::{Case, Corpus, Data, Results, Tensors, rope};
use hired::config::Rope;
use hired::format::Dtype;
use hired::kv::{Shape, pages_for};
use hired::ops::{Ops, Span};
use std::ops::Range;

pub fn cases(corpus: &mut Corpus) {
    let slack = match corpus.dtype() {
        Dtype::F32 => 64.0,
        _ => 8.0,
    };
    let prompts = [
        (17, 3..12, 4),
        (300, 5..290, 100),
        // Nothing stays, everything stays, only the last row is no candidate.
        (40, 1..39, 0),
        (33, 2..33, 31),
        (65, 0..64, 1),
        // More candidates than threads.
        (1100, 10..1090, 77),
    ];
    let heads = [(4, 4, 64), (4, 2, 128), (7, 1, 24), (4, 4, 6), (6, 3, 34)];
    for (turn, (rows, among, keep)) in prompts.into_iter().enumerate() {
        for (heads, kv_heads, width) in [heads[turn % heads.len()], heads[(turn + 2) % heads.len()]]
        {
            let data = Tensors::default()
                .given("keys", &[rows, kv_heads * width], ranked(rows, kv_heads, width))
                .given("query", &[rows, heads * width], vec![1.0; rows * heads * width])
                .random("q", &[rows, heads * width], 1.5)
                .random("k", &[rows, kv_heads * width], 1.5)
                .random("v", &[rows, kv_heads * width], 1.0)
                .stored(corpus.stored());
            let what =
                format!("{keep} of {among:?} of {rows}, {heads}/{kv_heads} heads of {width}");
            let among = among.clone();
            corpus.check("retain", &what, slack, &Retain { kv_heads, width, among, keep }, &data);
        }
    }
}

/// Keys of 64 lengths in the second number of each head, again and again.
fn ranked(rows: usize, kv_heads: usize, width: usize) -> Vec<f32> {
    let mut keys = vec![0.0; rows * kv_heads * width];
    for (head, key) in keys.chunks_exact_mut(width).enumerate() {
        key[1] = (head / kv_heads * 37 % 64) as f32 / 16.0;
    }
    keys
}

struct Retain {
    kv_heads: usize,
    width: usize,
    among: Range<usize>,
    keep: usize,
}

impl Case for Retain {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self { kv_heads, width, among, keep } = self;
        let rows = data.shape("q")[0];
        let left = rows - (among.len() - keep);
        let pages = pages_for(rows);
        let shape = Shape { layers: 2, pages: pages + 1, kv_heads: *kv_heads, head_dim: *width };
        let (mut first, mut second) = (ops.cache(shape)?, ops.cache(shape)?);
        // Pages from the end, so that none lies where its number would suggest.
        let table: Vec<u32> = (0..pages).map(|page| (pages - page) as u32).collect();
        let (mut query, mut keys) = (data.rows(ops, "query")?, data.rows(ops, "keys")?);
        let v = data.rows(ops, "v")?;
        let span = Span { row: 0, rows, slot: 0, position: 0, pages: table.clone() };
        let batch = ops.batch(&first, Vec::new(), vec![span])?;
        // Of this base all frequencies but the first are 0: the second number stays as it is.
        ops.rope_append(
            &mut query,
            &mut keys,
            &v,
            &mut first,
            1,
            &batch,
            &Rope { theta: f32::INFINITY, ..rope(*width) },
        )?;
        drop(keys);
        let retained = ops.retain(&query, &first, 1, &batch, among.clone(), *keep)?;
        drop((query, batch));
        let numbers = ops.retained(&retained)?;
        let wanted = self.wanted(rows);
        // An executor that only counts has no rows; what it reports is compared with nothing.
        assert!(numbers.is_empty() || numbers == wanted, "{numbers:?}, not {wanted:?}");
        let numbers = numbers.into_iter().map(|row| row as f32).collect();

        let (q, k) = (data.rows(ops, "q")?, data.rows(ops, "k")?);
        let mut q = ops.gather_retained(&q, &retained)?;
        let mut k = ops.gather_retained(&k, &retained)?;
        let v = ops.gather_retained(&v, &retained)?;
        let batch = ops.retained_batch(&retained, table[..pages_for(left)].to_vec())?;
        ops.rope_append(&mut q, &mut k, &v, &mut second, 0, &batch, &rope(*width))?;
        let mixed = ops.attention(&q, &second, 0, &batch)?;
        Ok(vec![
            ("retained", numbers),
            ("rotated", ops.download(&q)?),
            ("mixed", ops.download(&mixed)?),
        ])
    }
}

impl Retain {
    /// The longest keys among the candidates, the earlier of equals, and all other rows.
    fn wanted(&self, rows: usize) -> Vec<u32> {
        let mut ranked: Vec<usize> = self.among.clone().collect();
        ranked.sort_by_key(|row| (std::cmp::Reverse(row * 37 % 64), *row));
        ranked.truncate(self.keep);
        let stays = |row: &usize| !self.among.contains(row) || ranked.contains(row);
        (0..rows).filter(stays).map(|row| row as u32).collect()
    }
}
