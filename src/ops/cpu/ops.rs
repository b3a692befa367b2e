//! The operations, each in a timed step.

use super::buffer::{Buffer, Kept, Scores, Weight};
use super::cache::Cache;
use super::linear::Epilogue;
use super::retain::Retained;
use super::{Cpu, NUMBER, attention, cache, ceiling, rows, system};
use crate::checkpoint::Tensor;
use crate::config::{Activation, Rope};
use crate::image::{Normalization, Tiles};
use crate::kv;
use crate::ops::ceiling::Ceiling;
use crate::ops::clock::{Clock, Stage};
use crate::ops::cost::{self, Cost};
use crate::ops::memory::{Meter, Purpose};
use crate::ops::profile::Entry;
use crate::ops::sample::{self, Sampling};
use crate::ops::{Batch, Evidence, Extent, Linear, Norm, Ops, Span, Storage, Visual, Work};
use crate::select;
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

impl Ops for Cpu {
    type Buffer = Buffer;
    type Weight = Weight;
    type Cache = Cache;
    type Scores = Scores;
    type Kept = Kept;
    type Batch = Batch;
    type Retained = Retained;

    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Weight> {
        Ok(Weight::new(&self.meter, tensor, storage))
    }

    /// The system gives memory piece by piece.
    fn reserve(&mut self, _: Purpose, _: usize) -> Result<()> {
        Ok(())
    }

    fn cache(&mut self, shape: kv::Shape) -> Result<Cache> {
        Cache::new(&self.meter, shape, self.cache)
    }

    fn patches(&mut self, tiles: &Tiles, norm: &Normalization, patch: usize) -> Result<Buffer> {
        let grid = tiles.layout.side / patch;
        self.pass("patches", tiles.partitions() * grid * grid, 3 * patch * patch, |out| {
            rows::patches(tiles, norm, patch, out);
            Ok(())
        })
    }

    fn vision_tokens(
        &mut self,
        patches: &Buffer,
        class: &Weight,
        position: &Weight,
        partitions: usize,
    ) -> Result<Buffer> {
        self.pass("vision_tokens", patches.rows() + partitions, patches.cols(), |out| {
            rows::vision_tokens(patches, class, position, partitions, out)
        })
    }

    fn layer_norm(&mut self, x: &Buffer, norm: &Norm<Weight>) -> Result<Buffer> {
        self.pass("layer_norm", x.rows(), x.cols(), |out| rows::layer_norm(x, norm, out))
    }

    fn linear(
        &mut self,
        x: &Buffer,
        layer: &Linear<Weight>,
        activation: Option<Activation>,
    ) -> Result<Buffer> {
        let mut out = self.buffer(x.rows(), layer.weight.rows);
        self.product(x, layer, &mut out, Epilogue::Store(activation))?;
        Ok(out)
    }

    fn linears<const N: usize>(
        &mut self,
        x: &Buffer,
        layers: [&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        let mut outs = layers.map(|layer| self.buffer(x.rows(), layer.weight.rows));
        for (layer, out) in layers.into_iter().zip(&mut outs) {
            self.product(x, layer, out, Epilogue::Store(None))?;
        }
        Ok(outs)
    }

    fn linear_add(&mut self, sum: &mut Buffer, x: &Buffer, layer: &Linear<Weight>) -> Result<()> {
        self.product(x, layer, sum, Epilogue::Add)
    }

    fn normed_linear<const N: usize>(
        &mut self,
        x: &Buffer,
        norm: &Norm<Weight>,
        layers: [&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        let n = self.rms_norm(x, norm)?;
        self.linears(&n, layers)
    }

    fn normed_swiglu(
        &mut self,
        x: &Buffer,
        norm: &Norm<Weight>,
        gate: &Linear<Weight>,
        up: &Linear<Weight>,
    ) -> Result<Buffer> {
        let n = self.rms_norm(x, norm)?;
        let mut out = self.linear(&n, gate, Some(Activation::Silu))?;
        let up = self.linear(&n, up, None)?;
        let numbers = out.data.len();
        self.timed(
            "multiply",
            || Cost::bytes(3 * numbers * NUMBER),
            |_| {
                for (out, up) in out.data.iter_mut().zip(&up.data) {
                    *out *= up;
                }
                Ok(out)
            },
        )
    }

    fn logits(&mut self, x: &Buffer, norm: &Norm<Weight>, head: &Linear<Weight>) -> Result<Buffer> {
        let [logits] = self.normed_linear(x, norm, [head])?;
        Ok(logits)
    }

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
            attention::cls_scores(q, q_stride, k, heads, &mut out);
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
            attention::vision(&cpu.meter, [q, k, v], heads, partitions, kept, &mut out);
            Ok(out)
        })
    }

    fn select(&mut self, plan: &select::Plan, evidence: Evidence<'_, Self>) -> Result<Kept> {
        self.choose(plan, evidence)
    }

    fn gather_kept(&mut self, x: &Buffer, kept: &Kept) -> Result<Buffer> {
        match &kept.kept.mix {
            None => self.gather(x, &kept.rows),
            Some(mix) => self.mix(x, mix),
        }
    }

    fn gather(&mut self, x: &Buffer, rows: &[usize]) -> Result<Buffer> {
        self.pass("gather", rows.len(), x.cols(), |out| {
            rows::gather(x, rows, out);
            Ok(())
        })
    }

    fn interleave(
        &mut self,
        table: &Weight,
        before: &[u32],
        visual: Option<Visual<'_, Self>>,
        after: &[u32],
    ) -> Result<Buffer> {
        let slots = visual.as_ref().map_or(0, |v| v.kept.slots.len());
        self.pass("interleave", before.len() + slots + after.len(), table.cols, |out| {
            rows::embed(table, before, 0, out);
            if let Some(visual) = visual {
                rows::arrange(visual.rows, visual.kept, visual.newline, before.len(), out)?;
            }
            rows::embed(table, after, before.len() + slots, out);
            Ok(())
        })
    }

    fn batch(&mut self, _: &Cache, tokens: Vec<u32>, spans: Vec<Span>) -> Result<Batch> {
        Ok(Batch::new(tokens, spans))
    }

    fn embed(&mut self, table: &Weight, batch: &Batch) -> Result<Buffer> {
        self.interleave(table, &batch.tokens, None, &[])
    }

    fn step(
        &mut self,
        _: &[Batch],
        caches: &mut [Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<Buffer> {
        work(self, caches)
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
            attention::decoder(&cpu.meter, q, cache, layer, &batch.spans, &mut out);
            Ok(out)
        })
    }

    fn retain(
        &mut self,
        q: &Buffer,
        cache: &Cache,
        layer: usize,
        batch: &Batch,
        among: Range<usize>,
        keep: usize,
    ) -> Result<Retained> {
        let span = &batch.spans[0];
        let stored = cache.dtype().size();
        let cost = || cost::last_row(span.context(), q.cols(), cache.shape, stored);
        self.timed("retain", cost, |cpu| {
            let scores = attention::last_row(&cpu.meter, q, cache, layer, span);
            Ok(Retained::new(&scores, among, keep))
        })
    }

    fn gather_retained(&mut self, x: &Buffer, retained: &Retained) -> Result<Buffer> {
        self.gather(x, &retained.rows)
    }

    fn retained_batch(&mut self, retained: &Retained, pages: Vec<u32>) -> Result<Batch> {
        Ok(retained.batch(pages))
    }

    fn sample(&mut self, logits: &Buffer, how: &[(Sampling, usize)]) -> Result<Vec<u32>> {
        let draw = |(row, (sampling, step)): (usize, &(Sampling, usize))| {
            sample::draw(logits.row(row), sampling, *step).ok_or_else(|| {
                Error::Numeric(
                    "the logits are not finite: the checkpoint's weights hold NaN or infinity, \
                     or overflow"
                        .into(),
                )
            })
        };
        let bytes = how.len() * logits.cols() * NUMBER;
        self.timed("sample", || Cost::bytes(bytes), |_| how.iter().enumerate().map(draw).collect())
    }

    fn download(&mut self, x: &Buffer) -> Result<Vec<f32>> {
        Ok(x.data.clone())
    }

    fn kept(&mut self, kept: &Kept) -> Result<select::Kept> {
        Ok(kept.kept.clone())
    }

    fn scores(&mut self, kept: &Kept) -> Result<select::Scores> {
        Ok(kept.scores.clone())
    }

    fn retained(&mut self, retained: &Retained) -> Result<Vec<u32>> {
        Ok(retained.rows.iter().map(|&row| row as u32).collect())
    }

    fn enter(&mut self, stage: Stage) -> Result<()> {
        self.clock.enter(stage);
        self.layer = None;
        Ok(())
    }

    fn layer(&mut self, index: Option<usize>) {
        self.layer = index;
    }

    fn profile(&mut self) -> Result<()> {
        self.begin_profile();
        Ok(())
    }

    fn profiled(&mut self) -> Result<Vec<Entry>> {
        Ok(self.end_profile())
    }

    fn ceiling(&mut self) -> Result<Ceiling> {
        Ok(ceiling::measure())
    }

    fn clock(&mut self) -> Result<&mut Clock> {
        Ok(&mut self.clock)
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    fn available(&self) -> Option<usize> {
        system::available()
    }
}
