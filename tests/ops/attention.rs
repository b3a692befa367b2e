//! Attention: of the vision tower, of class tokens, of prompts and of decode steps over the paged cache.

use super::corpus::{Case, Corpus, Data, Results, Tensors, rope};
use super::rows::layout;
use hired::image::{Layout, Packing};
use hired::kv::{Shape, pages_for};
use hired::ops::{Chosen, Evidence, Ops, Span};
use hired::select::{Geometry, Scores, Selection, plan};

/// Heads and their width: whole vectors, odd halves, the widest, the smallest, many.
const HEADS: [(usize, usize); 8] =
    [(2, 64), (1, 128), (3, 24), (2, 6), (1, 2), (1, 80), (2, 34), (16, 4)];

/// What sums in another order and other exponentials may differ by.
pub fn slack(corpus: &Corpus) -> f32 {
    match corpus.stored() {
        hired::format::Format::F32 => 64.0,
        _ => 8.0,
    }
}

pub fn cases(corpus: &mut Corpus) {
    let slack = slack(corpus);
    for (heads, width) in HEADS {
        let cols = heads * width;
        // Around the tiles of 32, 64 and 128 queries and of keys.
        for (partitions, side) in [(1, 1), (3, 2), (2, 8), (1, 11), (5, 4)] {
            let rows = partitions * (side * side + 1);
            let data = Tensors::default()
                .random("q", &[rows, cols], 1.5)
                .random("k", &[rows, cols], 1.5)
                .random("v", &[rows, cols], 1.0)
                .stored(corpus.stored());
            let what = format!("{partitions} of {side}x{side}, {heads} heads of {width}");
            let vision = Vision { heads, partitions, side };
            corpus.check("vision_attention", &what, slack, &vision, &data);
        }
    }
    received(corpus);
    for (heads, kv_heads, width) in [
        (4, 4, 64),
        (4, 2, 128),
        (7, 1, 24),
        (4, 4, 6),
        (9, 1, 64),
        (2, 1, 2),
        (6, 3, 34),
        (2, 2, 80),
    ] {
        for prompts in [&[1, 1][..], &[15, 16, 17], &[64, 3], &[33, 65]] {
            let rows: usize = prompts.iter().sum::<usize>() + prompts.len();
            let data = Tensors::default()
                .random("q", &[rows, heads * width], 1.5)
                .random("k", &[rows, kv_heads * width], 1.5)
                .random("v", &[rows, kv_heads * width], 1.0)
                .random("table", &[9, 8], 1.0)
                .stored(corpus.stored());
            let what = format!("{prompts:?}, {heads}/{kv_heads} heads of {width}");
            let decoder = Decoder { heads: [heads, kv_heads], width, prompts };
            corpus.check("attention", &what, slack, &decoder, &data);
        }
    }
    // More positions than one split of a decode step sees, and tiles of keys that lie before every end.
    for (heads, kv_heads, width, rows) in [(2, 1, 64, 271), (2, 1, 128, 210)] {
        let data = Tensors::default()
            .random("q", &[rows, heads * width], 1.5)
            .random("k", &[rows, kv_heads * width], 1.5)
            .random("v", &[rows, kv_heads * width], 1.0)
            .random("table", &[9, 8], 1.0)
            .stored(corpus.stored());
        let prompts = &[rows - 1];
        let decoder = Decoder { heads: [heads, kv_heads], width, prompts };
        let what = format!("{} positions, heads of {width}", rows - 1);
        corpus.check("attention", &what, slack, &decoder, &data);
    }
    for (heads, width) in [(2, 64), (1, 128)] {
        let data = Tensors::default()
            .random("q", &[197, heads * width], 1.5)
            .random("k", &[197, heads * width], 1.5)
            .random("v", &[197, heads * width], 1.0)
            .stored(corpus.stored());
        let vision = Vision { heads, partitions: 1, side: 14 };
        let what = format!("14x14, {heads} heads of {width}");
        corpus.check("vision_attention", &what, slack, &vision, &data);
    }
}

/// What patches receive, with a class token and without one: around the tiles of 64, heads of SigLIP and odd ones.
fn received(corpus: &mut Corpus) {
    for (heads, width) in [(2, 72), (1, 128), (3, 24), (2, 34), (1, 2)] {
        for (partitions, side) in [(1, 1), (3, 2), (2, 8), (1, 12), (5, 4)] {
            for class_token in [false, true] {
                let rows = partitions * (side * side + usize::from(class_token));
                let data = Tensors::default()
                    .random("q", &[rows, heads * width], 1.5)
                    .random("k", &[rows, heads * width], 1.5)
                    .stored(corpus.stored());
                let what = format!(
                    "{partitions} of {side}x{side}, {heads} heads of {width}, class token: {class_token}"
                );
                let case = Received { heads, partitions, side, class_token };
                // In fp32 from the queries on, whatever they are stored as.
                corpus.check("received_scores", &what, 64.0, &case, &data);
                if !class_token {
                    let case = Probe { heads, partitions, side };
                    corpus.check("probe_scores", &what, 64.0, &case, &data);
                }
            }
        }
    }
}

struct Received {
    heads: usize,
    partitions: usize,
    side: usize,
    class_token: bool,
}

impl Case for Received {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self { heads, partitions, side, class_token } = *self;
        let patches = side * side;
        let (q, k) = (data.rows(ops, "q")?, data.rows(ops, "k")?);
        let geometry = Geometry::new(&layout(side, grid(partitions)), 1)?;
        let geometry = geometry.with_class_token(class_token);
        let full: Vec<usize> = (0..geometry.stride()).collect();
        let first = ops.gather(&q, &full)?;
        let init = ops.received_scores(&first, &k, heads, 1, patches)?;
        drop(first);
        let last = ops.received_scores(&q, &k, heads, partitions, patches)?;
        let seen = Evidence { init: Some(&init), last: Some(&last), ..Evidence::default() };
        let selection = Selection::default().with_budget("1".parse()?);
        let kept = ops.select(&plan(&geometry, &selection)?, seen)?;
        let scores = ops.scores(&kept)?;
        // All that is given is received, by a class token too if there is one.
        if !class_token {
            for of_partition in scores.last.chunks_exact(patches) {
                let sum: f32 = of_partition.iter().sum();
                assert!((sum - heads as f32).abs() < 1e-4 * heads as f32, "{sum} of {heads} heads");
            }
        }
        Ok(vec![("init", scores.init), ("last", scores.last)])
    }
}

/// Scores by one query for all partitions.
struct Probe {
    heads: usize,
    partitions: usize,
    side: usize,
}

impl Case for Probe {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self { heads, partitions, side } = *self;
        let patches = side * side;
        let (q, k) = (data.rows(ops, "q")?, data.rows(ops, "k")?);
        let probe = ops.gather(&q, &[0])?;
        drop(q);
        let geometry = Geometry::new(&layout(side, grid(partitions)), 1)?.with_class_token(false);
        let init = ops.probe_scores(&probe, &k, heads, 1, patches)?;
        let last = ops.probe_scores(&probe, &k, heads, partitions, patches)?;
        let seen = Evidence { init: Some(&init), last: Some(&last), ..Evidence::default() };
        let selection = Selection::default().with_budget("1".parse()?);
        let kept = ops.select(&plan(&geometry, &selection)?, seen)?;
        let scores = ops.scores(&kept)?;
        for of_partition in scores.last.chunks_exact(patches) {
            let sum: f32 = of_partition.iter().sum();
            assert!((sum - heads as f32).abs() < 1e-4 * heads as f32, "{sum} of {heads} heads");
        }
        Ok(vec![("init", scores.init), ("last", scores.last)])
    }
}

pub struct Vision {
    pub heads: usize,
    pub partitions: usize,
    pub side: usize,
}

impl Case for Vision {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self { heads, partitions, side } = *self;
        let patches = side * side;
        let (q, k, v) = (data.rows(ops, "q")?, data.rows(ops, "k")?, data.rows(ops, "v")?);
        let all = ops.vision_attention(&q, &k, &v, heads, partitions, None)?;
        let mut results = vec![("all", ops.download(&all)?)];
        drop(all);
        let scores = self.scores(ops, &q, patches + 1, &k, partitions)?;
        results.extend([("init", scores.init), ("scores", scores.last)]);
        // Class queries by themselves, of some partitions.
        let rows: Vec<usize> = (0..partitions.min(2)).map(|p| p * (patches + 1)).collect();
        let class = ops.gather(&q, &rows)?;
        results.push(("class", self.scores(ops, &class, 1, &k, rows.len())?.last));
        drop(class);
        // A picture that leaves padding, so that partitions keep different numbers; the first keeps all.
        let grid = grid(partitions);
        let layout = Layout {
            fit: (side.div_ceil(2), grid.map_or(side, |(_, n)| n * side)),
            packing: Packing::Canvas,
            ..layout(side, grid)
        };
        let layout = Layout { height: layout.fit.0, width: layout.fit.1, ..layout };
        let geometry = Geometry::new(&layout, 1)?;
        let selection = Selection::default().with_budget("full".parse()?);
        let kept = ops.select(&plan(&geometry, &selection)?, Evidence::default())?;
        let q = ops.gather_kept(&q, &kept)?;
        let mixed = ops.vision_attention(&q, &k, &v, heads, partitions, Some(&kept))?;
        let mixed = ops.download(&mixed)?;
        assert_eq!(mixed.len(), kept.rows() * q_width(data));
        results.push(("kept", mixed));
        if side.is_multiple_of(2) {
            // Cells of four patches, whose queries lie one after the other.
            let geometry = Geometry::new(&layout, 2)?.with_cells(2);
            let kept = ops.select(&plan(&geometry, &selection)?, Evidence::default())?;
            let all = data.rows(ops, "q")?;
            let q = ops.gather_kept(&all, &kept)?;
            drop(all);
            let mixed = ops.vision_attention(&q, &k, &v, heads, partitions, Some(&kept))?;
            results.push(("cells", ops.download(&mixed)?));
        }
        Ok(results)
    }
}

impl Vision {
    /// Scores of the first partitions, as a selection sums them.
    fn scores<O: Ops>(
        &self,
        ops: &mut O,
        q: &O::Buffer,
        q_stride: usize,
        k: &O::Buffer,
        partitions: usize,
    ) -> hired::Result<Scores> {
        let Self { heads, side, .. } = *self;
        let geometry = Geometry::new(&layout(side, grid(partitions)), 1)?;
        let selection = Selection::default().with_budget("1".parse()?);
        let init = ops.cls_scores(q, q_stride, k, heads, 1, side * side)?;
        let last = ops.cls_scores(q, q_stride, k, heads, partitions, side * side)?;
        let seen = Evidence { init: Some(&init), last: Some(&last), ..Evidence::default() };
        let kept = ops.select(&plan(&geometry, &selection)?, seen)?;
        ops.scores(&kept)
    }
}

/// The full image and a row of others.
fn grid(partitions: usize) -> Option<(usize, usize)> {
    (partitions > 1).then(|| (1, partitions - 1))
}

fn q_width(data: &Data) -> usize {
    data.shape("q")[1]
}

pub struct Decoder<'a> {
    /// Of queries, of keys and values.
    pub heads: [usize; 2],
    pub width: usize,
    /// Rows of each sequence before its decode step.
    pub prompts: &'a [usize],
}

impl Case for Decoder<'_> {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self { heads: [_, kv_heads], width, prompts } = *self;
        let pages: Vec<usize> = prompts.iter().map(|rows| pages_for(rows + 1)).collect();
        let all: usize = pages.iter().sum();
        let shape = Shape { layers: 2, pages: all + 1, kv_heads, head_dim: width };
        let mut cache = ops.cache(shape)?;
        // Pages from the end, so that none lies where its number would suggest.
        let tables: Vec<Vec<u32>> = (0..prompts.len())
            .map(|i| {
                let first: usize = pages[..i].iter().sum();
                (first..first + pages[i]).map(|page| (all - page) as u32).collect()
            })
            .collect();
        let (q, k, v) = (data.rows(ops, "q")?, data.rows(ops, "k")?, data.rows(ops, "v")?);
        let mut results = Vec::new();
        // Prompts in two pieces where they are long enough: the second sees the first.
        let mut row = 0;
        for (rows, table) in prompts.iter().zip(&tables) {
            let cut = rows / 3;
            for (slot, rows) in [(0, cut), (cut, rows - cut)] {
                if rows > 0 {
                    let span = Span { row: 0, rows, slot, position: slot, pages: table.clone() };
                    let batch = ops.batch(&cache, Vec::new(), vec![span])?;
                    let which: Vec<usize> = (row..row + rows).collect();
                    let mixed = self.attend(ops, [&q, &k, &v], &which, &mut cache, &batch)?;
                    results.push(("prompt", mixed));
                    row += rows;
                }
            }
        }
        // Every other sequence has rows that this cache has never seen: its position is beyond its slot.
        let spans = (prompts.iter().zip(&tables).enumerate()).map(|(row, (&slot, pages))| Span {
            row,
            rows: 1,
            slot,
            position: slot + row % 2 * 100,
            pages: pages.clone(),
        });
        let tokens: Vec<u32> = (0..prompts.len() as u32).collect();
        let batch = ops.batch(&cache, tokens, spans.collect())?;
        let table = data.matrix(ops, "table")?;
        let embedded = ops.embed(&table, &batch)?;
        results.push(("embedded", ops.download(&embedded)?));
        drop(embedded);
        let which: Vec<usize> = (row..row + prompts.len()).collect();
        let (mut q, mut k) = (ops.gather(&q, &which)?, ops.gather(&k, &which)?);
        let v = ops.gather(&v, &which)?;
        let mixed = ops.step_attention(&mut q, &mut k, &v, &mut cache, 1, &batch, &rope(width))?;
        results.push(("step", ops.download(&mixed)?));
        Ok(results)
    }
}

impl Decoder<'_> {
    /// Some rows rotated, appended to layer 1, and their attention.
    fn attend<O: Ops>(
        &self,
        ops: &mut O,
        [q, k, v]: [&O::Buffer; 3],
        rows: &[usize],
        cache: &mut O::Cache,
        batch: &O::Batch,
    ) -> hired::Result<Vec<f32>> {
        let (mut q, mut k, v) = (ops.gather(q, rows)?, ops.gather(k, rows)?, ops.gather(v, rows)?);
        ops.rope_append(&mut q, &mut k, &v, cache, 1, batch, &rope(self.width))?;
        drop((k, v));
        let mixed = ops.attention(&q, cache, 1, batch)?;
        ops.download(&mixed)
    }
}
