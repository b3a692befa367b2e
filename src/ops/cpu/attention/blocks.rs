//! Attention of the vision tower and of the decoder, by blocks of queries against all their keys.

use super::super::buffer::{Buffer, Kept};
use super::super::cache::Cache;
use super::super::columns::Columns;
use super::super::numbers::Numbers;
use super::super::simd::Isa;
use crate::kv::{self, PAGE};
use crate::matrix::{View, mix, transpose};
use crate::ops::memory::{Meter, Purpose};
use crate::ops::{Extent, Span};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Queries whose scores a thread holds at a time. With thousands of keys the scores stay in a level-2 cache, and
/// products with transposed keys are as fast as with larger blocks.
pub(super) const BLOCK: usize = 32;

/// Query heads that are multiplied with a key while it is in registers.
const HEADS: usize = 8;

/// Bytes of scratch of [`vision`]: for each thread the keys of one head and a block of scores.
pub(crate) fn vision_scratch(tasks: usize, keys: usize, width: usize) -> usize {
    rayon::current_num_threads().min(tasks) * keys * (width + BLOCK) * size_of::<f32>()
}

/// Bytes of scratch of [`decoder`], see [`Scratch`].
pub(crate) fn decoder_scratch(cache: kv::Shape, heads: usize, spans: &[Span]) -> usize {
    let threads = rayon::current_num_threads().min(spans.len() * cache.kv_heads);
    let numbers: usize = Scratch::numbers(cache, heads / cache.kv_heads, spans).iter().sum();
    threads * numbers * size_of::<f32>()
}

/// Scratch memory of a thread of [`decoder`].
struct Scratch {
    /// Keys of a head, transposed, and its values.
    keys: Vec<f32>,
    values: Vec<f32>,
    /// The keys of a page.
    page: Vec<f32>,
    /// Scores of a block of queries, or of a group of heads in a decode step.
    scores: Vec<f32>,
}

impl Scratch {
    /// The size of each array. A span of one row reads the cache without a copy, and needs scores only.
    fn numbers(cache: kv::Shape, group: usize, spans: &[Span]) -> [usize; 4] {
        let (steps, prompts): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.rows == 1);
        let longest = |spans: &[&Span]| spans.iter().map(|s| s.context()).max().unwrap_or(0);
        let context = longest(&prompts);
        let block = prompts.iter().map(|s| s.rows.min(BLOCK)).max().unwrap_or(0);
        let page = if prompts.is_empty() { 0 } else { PAGE * cache.head_dim };
        let scores = (context * block).max(longest(&steps) * group);
        [context * cache.head_dim, context * cache.head_dim, page, scores]
    }

    fn new(numbers: [usize; 4]) -> Self {
        let [keys, values, page, scores] = numbers.map(|numbers| vec![0.0f32; numbers]);
        Self { keys, values, page, scores }
    }
}

/// Columns `head·width..(head + 1)·width` of some rows of a buffer.
pub(super) fn head_of(
    x: &Buffer,
    first: usize,
    rows: usize,
    head: usize,
    width: usize,
) -> View<'_> {
    let data = if rows == 0 { &[][..] } else { &x.data[first * x.cols() + head * width..] };
    View::new(data, rows, width, x.cols())
}

/// Softmax of a whole slice.
pub(super) fn softmax(isa: Isa, x: &mut [f32]) {
    let sum = isa.exps(x);
    for x in x.iter_mut() {
        *x /= sum;
    }
}

/// Attention of a block of queries, each to the first `seen(i)` of all keys, into rows of `out` that are `stride` apart.
///
/// # Safety
/// `out` must be valid for a row of `v.cols` numbers per query at that stride, written by nobody else.
#[expect(
    clippy::too_many_arguments,
    reason = "three matrices, how to scale, what to see, where to work and to write"
)]
unsafe fn attend(
    isa: Isa,
    q: View<'_>,
    keys: View<'_>,
    v: View<'_>,
    scale: f32,
    seen: impl Fn(usize) -> usize,
    scores: &mut [f32],
    out: *mut f32,
    stride: usize,
) {
    let scores = &mut scores[..q.rows * keys.cols];
    // SAFETY: `scores` holds a row of all keys per query.
    unsafe { mix(q, keys, scale, scores.as_mut_ptr(), keys.cols) };
    let mut sums = [0.0; BLOCK];
    for (i, (row, sum)) in scores.chunks_exact_mut(keys.cols).zip(&mut sums).enumerate() {
        let (visible, hidden) = row.split_at_mut(seen(i));
        *sum = isa.exps(visible);
        hidden.fill(0.0);
    }
    // SAFETY: upheld by this function's own contract.
    unsafe { mix(View::dense(scores, keys.cols), v, 1.0, out, stride) };
    for (i, sum) in sums[..q.rows].iter().enumerate() {
        // SAFETY: as above.
        let row = unsafe { std::slice::from_raw_parts_mut(out.add(i * stride), v.cols) };
        scale_down(row, *sum);
    }
}

/// x ⟵ x / sum.
pub(super) fn scale_down(x: &mut [f32], sum: f32) {
    let factor = 1.0 / sum;
    x.iter_mut().for_each(|x| *x *= factor);
}

/// Runs the tasks on all threads; each thread allocates its scratch once.
pub(super) fn each_task<S>(
    tasks: usize,
    scratch: impl Fn() -> S + Sync,
    run: impl Fn(&mut S, usize) + Sync,
) {
    let next = AtomicUsize::new(0);
    (0..rayon::current_num_threads().min(tasks)).into_par_iter().for_each(|_| {
        let mut scratch = scratch();
        loop {
            let task = next.fetch_add(1, Relaxed);
            if task >= tasks {
                break;
            }
            run(&mut scratch, task);
        }
    });
}

/// Bidirectional attention inside each partition; `k` and `v` are `[P·(T+1), D]`.
pub(in crate::ops::cpu) fn vision(
    meter: &Arc<Meter>,
    [q, k, v]: [&Buffer; 3],
    heads: usize,
    partitions: usize,
    kept: Option<&Kept>,
    out: &mut Buffer,
) {
    let keys = k.rows() / partitions;
    let width = k.cols() / heads;
    let scale = 1.0 / (width as f32).sqrt();
    let tasks = partitions * heads;
    let isa = Isa::best();
    let _scratch = meter.charge(Purpose::Workspace, vision_scratch(tasks, keys, width));
    let (cols, base) = (out.cols(), Columns::of(out));
    each_task(
        tasks,
        || (vec![0.0f32; keys * width], vec![0.0f32; keys * BLOCK]),
        |(turned, scores), task| {
            let (partition, head) = (task / heads, task % heads);
            let (start, end) = match kept {
                Some(kept) => {
                    let [start, end] = [0, 1].map(|i| kept.offsets[partition + i] * kept.each);
                    (start, end)
                }
                None => (partition * keys, (partition + 1) * keys),
            };
            transpose(head_of(k, partition * keys, keys, head, width), turned, keys);
            let k = View::new(turned, width, keys, keys);
            let v = head_of(v, partition * keys, keys, head, width);
            for first in (start..end).step_by(BLOCK) {
                let rows = BLOCK.min(end - first);
                let q = head_of(q, first, rows, head, width);
                // SAFETY: these rows of this partition and these columns of this head are this task's alone.
                unsafe {
                    let out = base.get().add(first * cols + head * width);
                    attend(isa, q, k, v, scale, |_| keys, scores, out, cols);
                }
            }
        },
    );
}

/// Causal attention of each span's rows to the cache of its sequence; grouped query heads share a key head.
pub(in crate::ops::cpu) fn decoder(
    meter: &Arc<Meter>,
    q: &Buffer,
    cache: &Cache,
    layer: usize,
    spans: &[Span],
    out: &mut Buffer,
) {
    let (kv_heads, width) = (cache.shape.kv_heads, cache.shape.head_dim);
    let heads = q.cols() / width;
    let group = heads / kv_heads;
    let isa = Isa::best();
    let tasks = spans.len() * kv_heads;
    let numbers = Scratch::numbers(cache.shape, group, spans);
    let _scratch = meter.charge(Purpose::Workspace, decoder_scratch(cache.shape, heads, spans));
    let (cols, base) = (out.cols(), Columns::of(out));
    each_task(
        tasks,
        || Scratch::new(numbers),
        |scratch, task| {
            let (span, kv_head) = (&spans[task / kv_heads], task % kv_heads);
            // SAFETY: the rows of this span and the columns of this group of heads are this task's alone.
            let out = unsafe { base.get().add(span.row * cols + kv_head * group * width) };
            let head = Head { isa, cache, layer, pages: &span.pages, kv_head };
            if span.rows == 1 {
                let columns = kv_head * group * width..(kv_head + 1) * group * width;
                // SAFETY: as above.
                let out = unsafe { std::slice::from_raw_parts_mut(out, group * width) };
                head.step(&q.row(span.row)[columns], span.context(), &mut scratch.scores, out);
            } else {
                // SAFETY: as above.
                unsafe { head.prompt(q, span, group, scratch, out, cols) };
            }
        },
    );
}

/// A key/value head of one sequence.
struct Head<'a> {
    isa: Isa,
    cache: &'a Cache,
    layer: usize,
    pages: &'a [u32],
    kv_head: usize,
}

impl<'a> Head<'a> {
    fn scale(&self) -> f32 {
        1.0 / (self.cache.shape.head_dim as f32).sqrt()
    }

    /// Keys or values page by page, each with the number of its first slot.
    fn blocks(&self, context: usize, values: bool) -> impl Iterator<Item = (usize, Numbers<'a>)> {
        let Self { cache, layer, pages, kv_head, .. } = *self;
        pages.iter().zip((0..context).step_by(PAGE)).map(move |(&page, first)| {
            (first, cache.block(layer, page, kv_head, values, PAGE.min(context - first)))
        })
    }

    /// Scores of the queries of some heads, stored one after the other: a row of all keys for each.
    fn scores(&self, queries: &[f32], context: usize, scores: &mut [f32]) {
        let (width, scale) = (self.cache.shape.head_dim, self.scale());
        for (first, keys) in self.blocks(context, false) {
            for slot in 0..PAGE.min(context - first) {
                let key = keys.part(slot * width..(slot + 1) * width);
                for (some, queries) in queries.chunks(HEADS * width).enumerate() {
                    let mut sums = [0.0; HEADS];
                    let sums = &mut sums[..queries.len() / width];
                    self.isa.dots(key, queries, width, sums);
                    for (i, sum) in sums.iter().enumerate() {
                        scores[(some * HEADS + i) * context + first + slot] = sum * scale;
                    }
                }
            }
        }
    }

    /// Attention of one row of a sequence, reading the cache without a copy.
    fn step(&self, queries: &[f32], context: usize, scores: &mut [f32], out: &mut [f32]) {
        let width = self.cache.shape.head_dim;
        let scores = &mut scores[..queries.len() / width * context];
        self.scores(queries, context, scores);
        out.fill(0.0);
        let sums: Vec<f32> =
            scores.chunks_exact_mut(context).map(|scores| self.isa.exps(scores)).collect();
        for (first, values) in self.blocks(context, true) {
            let slots = PAGE.min(context - first);
            for (out, scores) in out.chunks_exact_mut(width).zip(scores.chunks_exact(context)) {
                self.isa.add_rows(&scores[first..first + slots], values, out);
            }
        }
        for (out, sum) in out.chunks_exact_mut(width).zip(sums) {
            scale_down(out, sum);
        }
    }

    /// Attention of many rows: keys and values are widened, and keys transposed, once for all heads of the group.
    ///
    /// # Safety
    /// `out` must be valid for the group's columns of the span's rows, `stride` apart, written by nobody else.
    unsafe fn prompt(
        &self,
        q: &Buffer,
        span: &Span,
        group: usize,
        scratch: &mut Scratch,
        out: *mut f32,
        stride: usize,
    ) {
        let (context, width) = (span.context(), self.cache.shape.head_dim);
        let Scratch { keys, values, page, scores } = scratch;
        let (keys, values) = (&mut keys[..context * width], &mut values[..context * width]);
        self.cache.keys_transposed(self.isa, self.layer, self.pages, self.kv_head, keys, page);
        self.cache.values(self.isa, self.layer, self.pages, self.kv_head, values);
        let (keys, values) = (&*keys, View::dense(values, width));
        for head in 0..group {
            for first in (0..span.rows).step_by(BLOCK) {
                let rows = BLOCK.min(span.rows - first);
                // The last query of the block sees this many keys; the others see fewer.
                let seen = span.slot + first + rows;
                let q = head_of(q, span.row + first, rows, self.kv_head * group + head, width);
                let keys = View::new(keys, width, seen, context);
                let visible = |i: usize| span.slot + first + i + 1;
                let values = values.rows(0, seen);
                // SAFETY: upheld by this function's own contract.
                unsafe {
                    let out = out.add(first * stride + head * width);
                    attend(self.isa, q, keys, values, self.scale(), visible, scores, out, stride);
                }
            }
        }
    }
}

/// Bytes of scratch of [`last_row`]: one head's weights and their sum.
pub(crate) fn last_row_scratch(keys: usize) -> usize {
    keys * 2 * size_of::<f32>()
}

/// Softmax of the last row's query over all keys of its sequence, summed over the heads: one number for each key.
pub(in crate::ops::cpu) fn last_row(
    meter: &Arc<Meter>,
    q: &Buffer,
    cache: &Cache,
    layer: usize,
    span: &Span,
) -> Vec<f32> {
    let (kv_heads, width) = (cache.shape.kv_heads, cache.shape.head_dim);
    let (keys, group) = (span.context(), q.cols() / width / kv_heads);
    let isa = Isa::best();
    let _scratch = meter.charge(Purpose::Workspace, last_row_scratch(keys));
    let (mut weights, mut sums) = (vec![0.0f32; keys], vec![0.0f32; keys]);
    let queries = q.row(span.row + span.rows - 1);
    for (head, query) in queries.chunks_exact(width).enumerate() {
        let head = Head { isa, cache, layer, pages: &span.pages, kv_head: head / group };
        head.scores(query, keys, &mut weights);
        softmax(isa, &mut weights);
        sums.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += weight);
    }
    sums
}
