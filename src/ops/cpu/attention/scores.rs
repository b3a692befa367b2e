//! Attention that scores patches: of one query of each partition, and of all of its queries together.

use super::blocks::{BLOCK, each_task, head_of, scale_down, softmax, vision_scratch};
use crate::matrix::{View, mix, similarities, transpose};
use crate::ops::Extent;
use crate::ops::cpu::buffer::Buffer;
use crate::ops::cpu::columns::Columns;
use crate::ops::cpu::simd::Isa;
use crate::ops::memory::{Meter, Purpose};
use std::sync::Arc;

/// Softmax of one query of each partition, every `q_stride`-th row of `q`, over the partition's `keys`, of which the last are
/// patches: `[partitions · heads, T]`.
pub(in crate::ops::cpu) fn query_scores(
    q: &Buffer,
    q_stride: usize,
    k: &Buffer,
    heads: usize,
    keys: usize,
    out: &mut Buffer,
) {
    let before = keys - out.cols();
    let width = k.cols() / heads;
    let scale = 1.0 / (width as f32).sqrt();
    let isa = Isa::best();
    let mut row = vec![0.0f32; keys];
    for partition in 0..out.rows() / heads {
        for head in 0..heads {
            let query = head_of(q, partition * q_stride, 1, head, width);
            similarities(query, head_of(k, partition * keys, keys, head, width), scale, &mut row);
            softmax(isa, &mut row);
            out.row_mut(partition * heads + head).copy_from_slice(&row[before..]);
        }
    }
}

/// Attention that each patch receives: the softmax over the `keys` of a partition (the patches are the last of them),
/// averaged over its queries: `[partitions · heads, T]`.
pub(in crate::ops::cpu) fn received_scores(
    meter: &Arc<Meter>,
    q: &Buffer,
    k: &Buffer,
    heads: usize,
    keys: usize,
    out: &mut Buffer,
) {
    let (tasks, patches) = (out.rows(), out.cols());
    let width = k.cols() / heads;
    let scale = 1.0 / (width as f32).sqrt();
    let isa = Isa::best();
    let _scratch = meter.charge(Purpose::Workspace, vision_scratch(tasks, keys, width));
    let base = Columns::of(out);
    each_task(
        tasks,
        || (vec![0.0f32; keys * width], vec![0.0f32; keys * BLOCK]),
        |(turned, scores), task| {
            let (first, head) = (task / heads * keys, task % heads);
            transpose(head_of(k, first, keys, head, width), turned, keys);
            let turned = View::new(turned, width, keys, keys);
            // SAFETY: this row is this task's alone.
            let sums =
                unsafe { std::slice::from_raw_parts_mut(base.get().add(task * patches), patches) };
            sums.fill(0.0);
            for block in (0..keys).step_by(BLOCK) {
                let rows = BLOCK.min(keys - block);
                let scores = &mut scores[..rows * keys];
                let q = head_of(q, first + block, rows, head, width);
                // SAFETY: `scores` holds a row of all keys for each query.
                unsafe { mix(q, turned, scale, scores.as_mut_ptr(), keys) };
                for row in scores.chunks_exact_mut(keys) {
                    softmax(isa, row);
                    let of_patches = &row[keys - patches..];
                    sums.iter_mut().zip(of_patches).for_each(|(sum, x)| *sum += *x);
                }
            }
            scale_down(sums, keys as f32);
        },
    );
}
