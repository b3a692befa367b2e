//! Rows that the kernel that makes them also quantizes to int8: products read these codes and give the bits that they
//! give with codes from a pass of their own. Such a pass runs only if the kernel stores no codes.

use super::corpus::{Case, Corpus, Data, Results, Tensors, rope};
use hired::kv::{PAGE, Shape};
use hired::ops::{Ops, Span};
use hired::quant::Scheme;

pub fn cases(corpus: &mut Corpus) {
    for (heads, kv_heads, head_dim) in [(4, 4, 16), (6, 2, 64), (2, 1, 128), (3, 3, 8)] {
        for rows in [1, 2, 3, 8] {
            let chain = Chain { heads, kv_heads, head_dim, inner: 16 * (rows + 64) };
            let (width, wide, keys) = (64, heads * head_dim, kv_heads * head_dim);
            let data = Tensors::default()
                .random("x", &[rows, width], 1.0)
                .random("norm", &[width], 1.0)
                .random("q", &[wide, width], 0.2)
                .random("k", &[keys, width], 0.2)
                .random("v", &[keys, width], 0.2)
                .random("out", &[width, wide], 0.1)
                .random("gate", &[chain.inner, width], 0.2)
                .random("up", &[chain.inner, width], 0.2)
                .random("down", &[width, chain.inner], 0.1)
                .stored(corpus.stored())
                .rounded(Scheme::Q8);
            let what = format!("{rows} rows, {heads}/{kv_heads} heads of {head_dim}");
            // Normed rows may round to the next code (see integers.rs), and so may the rows computed from them.
            let slack = super::products::slack(corpus, 64.0, 4e5);
            corpus.check("rows left as codes, q8", &what, slack, &chain, &data);
        }
    }
}

struct Chain {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    inner: usize,
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

impl Case for Chain {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self { heads, kv_heads, head_dim, inner } = *self;
        let rows = data.shape("x")[0];
        // Enough keys before each row for several splits.
        let before = |row: usize| row * 3 * PAGE;
        let pages = |row: usize| before(row) / PAGE + 1;
        let all: usize = (0..rows).map(pages).sum();
        let shape = Shape { layers: 1, pages: all, kv_heads, head_dim };
        let mut cache = ops.cache(shape)?;
        let x = data.rows(ops, "x")?;
        let norm = data.norm(ops, "norm")?;
        let [q, k, v] = ["q", "k", "v"].map(|name| data.linear(ops, name));
        let (q, k, v) = (q?, k?, v?);
        let [out, gate, up, down] = ["out", "gate", "up", "down"].map(|n| data.linear(ops, n));
        let (out, gate, up, down) = (out?, gate?, up?, down?);
        let mut first = 0;
        let mut tables = Vec::new();
        for row in 0..rows {
            tables.push((first..first + pages(row)).map(|page| page as u32).collect::<Vec<_>>());
            first += pages(row);
        }
        for (row, pages) in tables.iter().enumerate().filter(|(row, _)| *row > 0) {
            let which: Vec<usize> = (0..before(row)).map(|i| i % rows).collect();
            let y = ops.gather(&x, &which)?;
            let [mut q, mut k, v] = ops.normed_linear(&y, &norm, [&q, &k, &v])?;
            let span =
                Span { row: 0, rows: which.len(), slot: 0, position: 0, pages: pages.clone() };
            let batch = ops.batch(&cache, Vec::new(), vec![span])?;
            ops.rope_append(&mut q, &mut k, &v, &mut cache, 0, &batch, &rope(head_dim))?;
        }
        let spans = tables.into_iter().enumerate().map(|(row, pages)| Span {
            row,
            rows: 1,
            slot: before(row),
            position: before(row),
            pages,
        });
        let batch = ops.batch(&cache, vec![0; rows], spans.collect())?;
        let each: Vec<usize> = (0..rows).collect();
        let mut results = Results::new();
        // The second time finds the counters as the first one leaves them.
        for _ in 0..2 {
            ops.profile()?;
            let [mut a, mut b, c] = ops.normed_linear(&x, &norm, [&q, &k, &v])?;
            let mixed =
                ops.step_attention(&mut a, &mut b, &c, &mut cache, 0, &batch, &rope(head_dim))?;
            drop((a, b, c));
            let left = ops.linear(&mixed, &out, None)?;
            let made = ops.normed_swiglu(&x, &norm, &gate, &up)?;
            let also = ops.linear(&made, &down, None)?;
            let kernels = ops.profiled()?;
            let named = |name: &str| kernels.iter().filter(|k| k.name.starts_with(name)).count();
            if named("attention_decode") > 0 {
                // Before q, k and v and before gate and up; a row or two have no other.
                let wide = heads * head_dim % 16 != 0;
                let expected = 2 + usize::from(wide) + usize::from(rows > 2 || inner % 16 != 0);
                assert_eq!(named("quantize"), expected, "{kernels:?}");
            }
            // A copy of the rows has no codes.
            for (rows, layer, left) in [(&mixed, &out, &left), (&made, &down, &also)] {
                let copy = ops.gather(rows, &each)?;
                let anew = ops.linear(&copy, layer, None)?;
                let [left, anew] = [ops.download(left)?, ops.download(&anew)?];
                assert_eq!(bits(&left), bits(&anew), "not the bits of codes made in a pass");
            }
            results.push(("attention", ops.download(&left)?));
            results.push(("gate and up", ops.download(&also)?));
        }
        Ok(results)
    }
}
