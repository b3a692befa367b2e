//! Decode steps over long and short sequences together: splits of the cache, their merging, the new row's own key.

use super::corpus::{Case, Corpus, Data, Results, Tensors, rope};
use hired::format::Dtype;
use hired::kv::{Shape, pages_for};
use hired::ops::{DECODE_ROWS, Ops, Span};

/// Slots that are filled before the first of two steps: around splits of 64 and of 128, and several of them.
const SLOTS: [&[usize]; 6] = [
    &[0, 1, 62, 63, 64, 65, 126, 127],
    &[127, 128, 129],
    &[255, 3, 191],
    &[320, 256],
    &[0],
    &[700, 5],
];

/// Of queries, of keys, and their width. Groups of one, of several and of more than share a block; guarded widths; so
/// many heads that a card of 30 multiprocessors takes splits of 128.
const HEADS: [(usize, usize, usize); 10] = [
    (2, 2, 64),
    (1, 1, 128),
    (4, 2, 128),
    (9, 1, 64),
    (7, 1, 24),
    (6, 1, 34),
    (2, 1, 2),
    (16, 16, 8),
    (20, 10, 6),
    (2, 2, 80),
];

/// What other sums and exponentials may differ by.
fn slack(corpus: &Corpus) -> f32 {
    match corpus.dtype() {
        Dtype::F32 => 64.0,
        _ => 8.0,
    }
}

pub fn cases(corpus: &mut Corpus) {
    let slack = slack(corpus);
    for (turn, (heads, kv_heads, width)) in HEADS.into_iter().enumerate() {
        for slots in [SLOTS[0], SLOTS[1 + turn % 5], SLOTS[1 + (turn + 2) % 5]] {
            let rows = slots.iter().max().unwrap() + 2 * DECODE_ROWS;
            let data = Tensors::default()
                .random("q", &[rows, heads * width], 1.5)
                .random("k", &[rows, kv_heads * width], 1.5)
                .random("v", &[rows, kv_heads * width], 1.0)
                .stored(corpus.stored());
            // Of a cache that all of them fill, and of one much larger.
            let spare = [0, 1000 / width][turn % 2];
            let what = format!("{slots:?}, {heads}/{kv_heads} heads of {width}, {spare} to spare");
            corpus.check(
                "step_attention",
                &what,
                slack,
                &Steps { kv_heads, width, slots, spare },
                &data,
            );
        }
    }
}

struct Steps<'a> {
    kv_heads: usize,
    width: usize,
    /// Of each sequence.
    slots: &'a [usize],
    /// Pages that nobody has.
    spare: usize,
}

impl Case for Steps<'_> {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self { kv_heads, width, slots, spare } = *self;
        let pages: Vec<usize> = slots.iter().map(|slots| pages_for(slots + 2)).collect();
        let all: usize = pages.iter().sum();
        let shape = Shape { layers: 2, pages: all + spare, kv_heads, head_dim: width };
        let mut cache = ops.cache(shape)?;
        // Pages from the end, so that none lies where its number would suggest.
        let tables: Vec<Vec<u32>> = (0..slots.len())
            .map(|i| {
                let first: usize = pages[..i].iter().sum();
                (first..first + pages[i]).map(|page| (all + spare - 1 - page) as u32).collect()
            })
            .collect();
        let [q, k, v] = [data.rows(ops, "q")?, data.rows(ops, "k")?, data.rows(ops, "v")?];
        let rows = data.shape("q")[0];
        for (sequence, (&rows_before, pages)) in slots.iter().zip(&tables).enumerate() {
            if rows_before == 0 {
                continue;
            }
            let span =
                Span { row: 0, rows: rows_before, slot: 0, position: 0, pages: pages.clone() };
            let batch = ops.batch(&cache, Vec::new(), vec![span])?;
            let which: Vec<usize> = (0..rows_before).map(|i| (29 * sequence + i) % rows).collect();
            let (mut q, mut k) = (ops.gather(&q, &which)?, ops.gather(&k, &which)?);
            let v = ops.gather(&v, &which)?;
            ops.rope_append(&mut q, &mut k, &v, &mut cache, 1, &batch, &rope(width))?;
        }
        let mut step = |sequences: &[usize], turn: usize| {
            let spans = sequences.iter().enumerate().map(|(row, &sequence)| {
                let slot = slots[sequence] + turn;
                // Every other sequence has rows that this cache has never seen.
                let position = slot + sequence % 2 * 100;
                Span { row, rows: 1, slot, position, pages: tables[sequence].clone() }
            });
            let batch = ops.batch(&cache, vec![0; sequences.len()], spans.collect())?;
            let which: Vec<usize> =
                sequences.iter().map(|sequence| rows - 1 - sequence - turn * DECODE_ROWS).collect();
            let (mut q, mut k) = (ops.gather(&q, &which)?, ops.gather(&k, &which)?);
            let v = ops.gather(&v, &which)?;
            let mixed =
                ops.step_attention(&mut q, &mut k, &v, &mut cache, 1, &batch, &rope(width))?;
            ops.download(&mixed)
        };
        let together: Vec<usize> = (0..slots.len()).collect();
        let first = step(&together, 0)?;
        // It sees the key that the first step appended.
        let second = step(&together, 1)?;
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&step(&together, 1)?), bits(&second), "the same step again");
        for (sequence, row) in second.chunks_exact(second.len() / slots.len()).enumerate() {
            let alone = step(&[sequence], 1)?;
            assert_eq!(bits(&alone), bits(row), "row {sequence} is not what it is alone");
        }
        Ok(vec![("first", first), ("second", second)])
    }
}
