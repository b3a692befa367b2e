//! Attention of the vision tower and of the decoder: blocks of queries against all their keys.

use super::buffer::{Buffer, Kept};
use super::cache::Cache;
use super::columns::Columns;
use crate::kv;
use crate::matrix::{View, similarities};
use crate::ops::memory::{Meter, Purpose};
use crate::ops::{Extent, Span};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Queries whose scores a thread holds at a time.
const BLOCK: usize = 64;

/// Bytes of scratch of [`vision`]: one block of scores per thread.
pub(crate) fn vision_scratch(tasks: usize, keys: usize) -> usize {
    rayon::current_num_threads().min(tasks) * BLOCK * keys * size_of::<f32>()
}

/// Bytes of scratch of [`decoder`]: keys and values of one head and a block of scores per thread.
pub(crate) fn decoder_scratch(cache: kv::Shape, spans: &[Span]) -> usize {
    let threads = rayon::current_num_threads().min(spans.len() * cache.kv_heads);
    let (context, block) = largest(spans);
    threads * context * (2 * cache.head_dim + block) * size_of::<f32>()
}

/// The longest context and the most rows in a block of queries.
fn largest(spans: &[Span]) -> (usize, usize) {
    let context = spans.iter().map(Span::context).max().unwrap_or(0);
    (context, spans.iter().map(|s| s.rows.min(BLOCK)).max().unwrap_or(0))
}

/// Columns `head·width..` of some rows of a buffer.
fn head_of(x: &Buffer, first: usize, rows: usize, head: usize, width: usize) -> View<'_> {
    let data = if rows == 0 { &[][..] } else { &x.data[first * x.cols() + head * width..] };
    View::new(data, rows, width, x.cols())
}

/// out[i, :] = Σ p[i, j] · v[j, :] for `rows` rows of `out`, `stride` apart.
///
/// # Safety
/// `out` must be valid for `rows` rows of `v.cols` numbers at that stride, written by nobody else.
unsafe fn mix(p: &[f32], rows: usize, v: View<'_>, out: *mut f32, stride: usize) {
    assert!(p.len() >= rows * v.rows);
    // SAFETY: `p` and `v` are checked, `out` is the caller's promise.
    unsafe {
        gemm::gemm(
            rows,
            v.cols,
            v.rows,
            out,
            1,
            stride as isize,
            false,
            p.as_ptr(),
            1,
            v.rows as isize,
            v.data.as_ptr(),
            1,
            v.stride as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// exp(x − max) / Σ over the whole slice.
fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = (*x - max).exp();
        sum += *x;
    }
    for x in x.iter_mut() {
        *x /= sum;
    }
}

/// Runs `tasks` over the threads; each thread makes its scratch once.
fn each_task<S>(tasks: usize, scratch: impl Fn() -> S + Sync, run: impl Fn(&mut S, usize) + Sync) {
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
pub(super) fn vision(
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
    let _scratch = meter.charge(Purpose::Workspace, vision_scratch(tasks, keys));
    let (cols, base) = (out.cols(), Columns::of(out));
    each_task(
        tasks,
        || vec![0.0f32; BLOCK * keys],
        |block, task| {
            let (partition, head) = (task / heads, task % heads);
            let (start, end) = match kept {
                Some(kept) => (kept.offsets[partition], kept.offsets[partition + 1]),
                None => (partition * keys, (partition + 1) * keys),
            };
            let k = head_of(k, partition * keys, keys, head, width);
            let v = head_of(v, partition * keys, keys, head, width);
            for first in (start..end).step_by(BLOCK) {
                let rows = BLOCK.min(end - first);
                similarities(head_of(q, first, rows, head, width), k, scale, block);
                block[..rows * keys].chunks_exact_mut(keys).for_each(softmax);
                // SAFETY: these rows of this partition and these columns of this head are this task's alone.
                unsafe { mix(block, rows, v, base.get().add(first * cols + head * width), cols) };
            }
        },
    );
}

/// Softmax of the class query over all keys of its partition, class column dropped: `[partitions · heads, T]`.
pub(super) fn cls_scores(q: &Buffer, q_stride: usize, k: &Buffer, heads: usize, out: &mut Buffer) {
    let keys = out.cols() + 1;
    let width = k.cols() / heads;
    let scale = 1.0 / (width as f32).sqrt();
    let mut row = vec![0.0f32; keys];
    for partition in 0..out.rows() / heads {
        for head in 0..heads {
            let query = head_of(q, partition * q_stride, 1, head, width);
            similarities(query, head_of(k, partition * keys, keys, head, width), scale, &mut row);
            softmax(&mut row);
            out.row_mut(partition * heads + head).copy_from_slice(&row[1..]);
        }
    }
}

/// Causal attention of each span's rows to its sequence's pages, grouped queries sharing a key head.
pub(super) fn decoder(
    meter: &Arc<Meter>,
    q: &Buffer,
    cache: &Cache,
    layer: usize,
    spans: &[Span],
    out: &mut Buffer,
) {
    let (kv_heads, width) = (cache.shape.kv_heads, cache.shape.head_dim);
    let group = q.cols() / width / kv_heads;
    let scale = 1.0 / (width as f32).sqrt();
    let (context, block_rows) = largest(spans);
    let tasks = spans.len() * kv_heads;
    let _scratch = meter.charge(Purpose::Workspace, decoder_scratch(cache.shape, spans));
    let (cols, base) = (out.cols(), Columns::of(out));
    each_task(
        tasks,
        || {
            let keys_or_values = || vec![0.0f32; context * width];
            (keys_or_values(), keys_or_values(), vec![0.0f32; context * block_rows])
        },
        |(k, v, block), task| {
            let (span, kv_head) = (&spans[task / kv_heads], task % kv_heads);
            let context = span.context();
            cache.read(layer, &span.pages, kv_head, false, &mut k[..context * width]);
            cache.read(layer, &span.pages, kv_head, true, &mut v[..context * width]);
            let k = View::new(k, context, width, width);
            let v = View::new(v, context, width, width);
            for head in kv_head * group..(kv_head + 1) * group {
                for first in (0..span.rows).step_by(BLOCK) {
                    let rows = BLOCK.min(span.rows - first);
                    // Keys that the last query of the block may see; earlier ones see fewer.
                    let seen = span.slot + first + rows;
                    let query = head_of(q, span.row + first, rows, head, width);
                    similarities(query, k.rows(0, seen), scale, block);
                    for (i, row) in block[..rows * seen].chunks_exact_mut(seen).enumerate() {
                        let (visible, hidden) = row.split_at_mut(span.slot + first + i + 1);
                        softmax(visible);
                        hidden.fill(0.0);
                    }
                    let start = (span.row + first) * cols + head * width;
                    // SAFETY: these rows of this span and these columns of this head are this task's alone.
                    unsafe { mix(block, rows, v.rows(0, seen), base.get().add(start), cols) };
                }
            }
        },
    );
}

/// Bytes of scratch of [`last_row`]: one head's keys, and its weights and their sum.
pub(crate) fn last_row_scratch(cache: kv::Shape, keys: usize) -> usize {
    keys * (cache.head_dim + 2) * size_of::<f32>()
}

/// Softmax of the last row's query over all keys of its sequence, summed over heads: one number for each key.
pub(super) fn last_row(
    meter: &Arc<Meter>,
    q: &Buffer,
    cache: &Cache,
    layer: usize,
    span: &Span,
) -> Vec<f32> {
    let (kv_heads, width) = (cache.shape.kv_heads, cache.shape.head_dim);
    let (keys, group) = (span.context(), q.cols() / width / kv_heads);
    let scale = 1.0 / (width as f32).sqrt();
    let _scratch = meter.charge(Purpose::Workspace, last_row_scratch(cache.shape, keys));
    let mut k = vec![0.0f32; keys * width];
    let (mut weights, mut sums) = (vec![0.0f32; keys], vec![0.0f32; keys]);
    for head in 0..kv_heads * group {
        if head % group == 0 {
            cache.read(layer, &span.pages, head / group, false, &mut k);
        }
        let query = head_of(q, span.row + span.rows - 1, 1, head, width);
        similarities(query, View::new(&k, keys, width, width), scale, &mut weights);
        softmax(&mut weights);
        sums.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += weight);
    }
    sums
}
