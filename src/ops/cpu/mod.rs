//! The executor that every machine has: f32 arithmetic on weights that stay where the file is mapped.
//!
//! Written to be read: it is the truth every kernel is held against.

mod attention;
mod buffer;
mod cache;
mod columns;
mod dot;
mod linear;
mod rows;
mod system;

pub use buffer::{Buffer, Kept, Weight};
pub use cache::Cache;

pub(crate) use attention::{decoder_scratch, vision_scratch};
pub(crate) use buffer::kept_bytes;
pub(crate) use linear::scratch_bytes as linear_scratch;

use super::clock::{Clock, Stage};
use super::memory::{Meter, Purpose};
use super::sample::{self, Sampling};
use super::{Batch, Extent, Linear, Norm, Ops, Span, Storage, Visual, Work};
use crate::checkpoint::Tensor;
use crate::config::Activation;
use crate::image::{Normalization, Tiles};
use crate::kv;
use crate::select;
use crate::{Error, Result};
use linear::{Epilogue, linear};
use std::sync::Arc;

/// The CPU executor.
#[derive(Debug, Default)]
pub struct Cpu {
    meter: Arc<Meter>,
    clock: Clock,
    half_cache: bool,
}

impl Cpu {
    /// An executor whose cache holds f16 if `half_cache`, else f32.
    pub fn new(half_cache: bool) -> Self {
        Self { half_cache, ..Self::default() }
    }

    fn buffer(&self, rows: usize, cols: usize) -> Buffer {
        Buffer::new(&self.meter, rows, cols)
    }

    fn rms_norm(&self, x: &Buffer, norm: &Norm<Weight>) -> Result<Buffer> {
        let mut out = self.buffer(x.rows(), x.cols());
        rows::rms_norm(x, norm, &mut out)?;
        Ok(out)
    }
}

fn numbers(x: Option<&Buffer>) -> &[f32] {
    x.map_or(&[], |x| &x.data)
}

impl Ops for Cpu {
    type Buffer = Buffer;
    type Weight = Weight;
    type Cache = Cache;
    type Scores = Buffer;
    type Kept = Kept;
    type Batch = Batch;

    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Weight> {
        Ok(Weight::new(&self.meter, tensor, storage))
    }

    /// The system gives memory piece by piece.
    fn reserve(&mut self, _: Purpose, _: usize) -> Result<()> {
        Ok(())
    }

    fn cache(&mut self, shape: kv::Shape) -> Result<Cache> {
        Cache::new(&self.meter, shape, self.half_cache)
    }

    fn patches(&mut self, tiles: &Tiles, norm: &Normalization, patch: usize) -> Result<Buffer> {
        let grid = tiles.layout.side / patch;
        let mut out = self.buffer(tiles.partitions() * grid * grid, 3 * patch * patch);
        rows::patches(tiles, norm, patch, &mut out);
        Ok(out)
    }

    fn vision_tokens(
        &mut self,
        patches: &Buffer,
        class: &Weight,
        position: &Weight,
        partitions: usize,
    ) -> Result<Buffer> {
        let mut out = self.buffer(patches.rows() + partitions, patches.cols());
        rows::vision_tokens(patches, class, position, partitions, &mut out)?;
        Ok(out)
    }

    fn layer_norm(&mut self, x: &Buffer, norm: &Norm<Weight>) -> Result<Buffer> {
        let mut out = self.buffer(x.rows(), x.cols());
        rows::layer_norm(x, norm, &mut out)?;
        Ok(out)
    }

    fn linear(
        &mut self,
        x: &Buffer,
        layer: &Linear<Weight>,
        activation: Option<Activation>,
    ) -> Result<Buffer> {
        let mut out = self.buffer(x.rows(), layer.weight.rows);
        linear(&self.meter, x, layer, &mut out, Epilogue::Store(activation))?;
        Ok(out)
    }

    fn linear_add(&mut self, sum: &mut Buffer, x: &Buffer, layer: &Linear<Weight>) -> Result<()> {
        linear(&self.meter, x, layer, sum, Epilogue::Add)
    }

    fn normed_linear<const N: usize>(
        &mut self,
        x: &Buffer,
        norm: &Norm<Weight>,
        layers: [&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        let n = self.rms_norm(x, norm)?;
        let mut outs = layers.map(|layer| self.buffer(n.rows(), layer.weight.rows));
        for (layer, out) in layers.into_iter().zip(&mut outs) {
            linear(&self.meter, &n, layer, out, Epilogue::Store(None))?;
        }
        Ok(outs)
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
        for (out, up) in out.data.iter_mut().zip(&up.data) {
            *out *= up;
        }
        Ok(out)
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
    ) -> Result<Buffer> {
        let mut out = self.buffer(partitions, patches);
        attention::cls_scores(q, q_stride, k, heads, patches, &mut out);
        Ok(out)
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
        let mut out = self.buffer(q.rows(), q.cols());
        attention::vision(&self.meter, [q, k, v], heads, partitions, kept, &mut out);
        Ok(out)
    }

    fn select(
        &mut self,
        plan: &select::Plan,
        init: Option<&Buffer>,
        scores: Option<&Buffer>,
    ) -> Result<Kept> {
        let (init, last) = (numbers(init), numbers(scores));
        let kept = select::choose(plan, init, last)?;
        Ok(Kept::new(&self.meter, plan, kept, init, last))
    }

    fn gather_kept(&mut self, x: &Buffer, kept: &Kept) -> Result<Buffer> {
        self.gather(x, &kept.rows)
    }

    fn gather(&mut self, x: &Buffer, rows: &[usize]) -> Result<Buffer> {
        let mut out = self.buffer(rows.len(), x.cols());
        rows::gather(x, rows, &mut out);
        Ok(out)
    }

    fn interleave(
        &mut self,
        table: &Weight,
        before: &[u32],
        visual: Option<Visual<'_, Self>>,
        after: &[u32],
    ) -> Result<Buffer> {
        let slots = visual.as_ref().map_or(0, |v| v.kept.slots.len());
        let mut out = self.buffer(before.len() + slots + after.len(), table.cols);
        rows::embed(table, before, 0, &mut out);
        if let Some(visual) = visual {
            rows::arrange(visual.rows, visual.kept, visual.newline, before.len(), &mut out)?;
        }
        rows::embed(table, after, before.len() + slots, &mut out);
        Ok(out)
    }

    fn batch(&mut self, tokens: Vec<u32>, spans: Vec<Span>) -> Result<Batch> {
        Ok(Batch { tokens, spans })
    }

    fn embed(&mut self, table: &Weight, batch: &Batch) -> Result<Buffer> {
        self.interleave(table, &batch.tokens, None, &[])
    }

    fn step(&mut self, _: &Batch, cache: &mut Cache, work: &mut Work<'_, Self>) -> Result<Buffer> {
        work(self, cache)
    }

    fn rope_append(
        &mut self,
        q: &mut Buffer,
        k: &mut Buffer,
        v: &Buffer,
        cache: &mut Cache,
        layer: usize,
        batch: &Batch,
        theta: f32,
    ) -> Result<()> {
        let width = cache.shape.head_dim;
        cache::rope(q, &batch.spans, width, theta);
        cache::rope(k, &batch.spans, width, theta);
        for span in &batch.spans {
            cache.write(layer, span, false, k);
            cache.write(layer, span, true, v);
        }
        Ok(())
    }

    fn attention(
        &mut self,
        q: &Buffer,
        cache: &Cache,
        layer: usize,
        batch: &Batch,
    ) -> Result<Buffer> {
        let mut out = self.buffer(q.rows(), q.cols());
        attention::decoder(&self.meter, q, cache, layer, &batch.spans, &mut out);
        Ok(out)
    }

    fn sample(&mut self, logits: &Buffer, how: &[(Sampling, usize)]) -> Result<Vec<u32>> {
        how.iter()
            .enumerate()
            .map(|(row, (sampling, step))| {
                sample::draw(logits.row(row), sampling, *step).ok_or_else(|| {
                    Error::Numeric(
                        "the logits are not finite: the checkpoint's weights hold NaN or infinity, \
                         or overflow"
                            .into(),
                    )
                })
            })
            .collect()
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

    fn enter(&mut self, stage: Stage) -> Result<()> {
        self.clock.enter(stage);
        Ok(())
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
