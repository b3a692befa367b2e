//! Attention and the KV cache on the CPU.

mod blocks;
mod scores;

pub(super) use blocks::last_row;
pub(crate) use blocks::last_row_scratch;
pub(crate) use blocks::{decoder_scratch, vision_scratch};

use super::buffer::{Buffer, Kept, Scores};
use super::cache::Cache;
use super::{Cpu, NUMBER, cache};
use crate::Result;
use crate::config::Rope;
use crate::ops::cost;
use crate::ops::{AttentionOps, Batch, Extent};

impl AttentionOps for Cpu {
    fn cls_scores(
        &mut self,
        q: &Buffer,
        q_stride: usize,
        k: &Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        let cost = || cost::scores(partitions * (patches + 1), k.cols(), NUMBER);
        self.timed("cls_scores", cost, |cpu| {
            let mut out = cpu.buffer(partitions * heads, patches);
            scores::query_scores(q, q_stride, k, heads, patches + 1, &mut out);
            Ok(Scores { rows: out, heads })
        })
    }

    fn probe_scores(
        &mut self,
        q: &Buffer,
        k: &Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        let cost = || cost::scores(partitions * patches, k.cols(), NUMBER);
        self.timed("probe_scores", cost, |cpu| {
            let mut out = cpu.buffer(partitions * heads, patches);
            scores::query_scores(q, 0, k, heads, patches, &mut out);
            Ok(Scores { rows: out, heads })
        })
    }

    fn received_scores(
        &mut self,
        q: &Buffer,
        k: &Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        let tokens = q.rows() / partitions;
        let cost = || cost::received(q.rows(), tokens, k.cols(), NUMBER);
        self.timed("received_scores", cost, |cpu| {
            let mut out = cpu.buffer(partitions * heads, patches);
            scores::received_scores(&cpu.meter, q, k, heads, tokens, &mut out);
            Ok(Scores { rows: out, heads })
        })
    }

    fn vision_attention(
        &mut self,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
        heads: usize,
        partitions: usize,
        kept: Option<&Kept>,
    ) -> Result<Buffer> {
        let keys = k.rows() / partitions;
        let bytes = NUMBER * 2 * (q.rows() + k.rows()) * q.cols();
        let cost = || cost::attention(q.rows() * keys, q.cols(), bytes);
        self.timed("vision_attention", cost, |cpu| {
            let mut out = cpu.buffer(q.rows(), q.cols());
            blocks::vision(&cpu.meter, [q, k, v], heads, partitions, kept, &mut out);
            Ok(out)
        })
    }

    fn rope_append(
        &mut self,
        q: &mut Buffer,
        k: &mut Buffer,
        v: &Buffer,
        cache: &mut Cache,
        layer: usize,
        batch: &Batch,
        rope: &Rope,
    ) -> Result<()> {
        let width = cache.shape.head_dim;
        let numbers = q.rows() * (q.cols() + 2 * k.cols());
        self.timed(
            "rope_append",
            || cost::pass(numbers, NUMBER),
            |_| {
                cache::rope(q, &batch.positions, width, rope);
                cache::rope(k, &batch.positions, width, rope);
                for span in &batch.spans {
                    cache.write(layer, span, false, k);
                    cache.write(layer, span, true, v);
                }
                Ok(())
            },
        )
    }

    fn attention(
        &mut self,
        q: &Buffer,
        cache: &Cache,
        layer: usize,
        batch: &Batch,
    ) -> Result<Buffer> {
        let stored = cache.dtype().size();
        let cost = || cost::decoder(&batch.spans, q.cols(), NUMBER, cache.shape, stored);
        self.timed("attention", cost, |cpu| {
            let mut out = cpu.buffer(q.rows(), q.cols());
            blocks::decoder(&cpu.meter, q, cache, layer, &batch.spans, &mut out);
            if cpu.attended.is_some() {
                let heads = (q.cols() / cache.shape.head_dim) as f32;
                let sums = last_row(&cpu.meter, q, cache, layer, &batch.spans[0]);
                let mean = sums.iter().map(|sum| sum / heads).collect();
                cpu.attended.get_or_insert_default().push(mean);
            }
            Ok(out)
        })
    }
}
