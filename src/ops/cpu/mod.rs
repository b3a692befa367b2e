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

pub use buffer::{Buffer, Kept, Weight};
pub use cache::Cache;

pub(crate) use attention::{decoder_scratch, vision_scratch};
pub(crate) use buffer::{copied_bytes, extent};
pub(crate) use linear::scratch_bytes as linear_scratch;

use super::clock::{Clock, Stage};
use super::memory::Meter;
use super::sample::{self, Sampling};
use super::{Extent, Linear, Norm, Ops, Span, Storage, Visual};
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
}

fn numbers(x: Option<&Buffer>) -> &[f32] {
    x.map_or(&[], |x| &x.data)
}

impl Ops for Cpu {
    type Buffer = Buffer;
    type Weight = Weight;
    type Cache = Cache;
    type Kept = Kept;

    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Weight> {
        Ok(Weight::new(&self.meter, tensor, storage))
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

    fn rms_norm(&mut self, x: &Buffer, norm: &Norm<Weight>) -> Result<Buffer> {
        let mut out = self.buffer(x.rows(), x.cols());
        rows::rms_norm(x, norm, &mut out)?;
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

    fn swiglu(&mut self, x: &Buffer, gate: &Linear<Weight>, up: &Linear<Weight>) -> Result<Buffer> {
        let mut out = self.linear(x, gate, Some(Activation::Silu))?;
        let up = self.linear(x, up, None)?;
        for (out, up) in out.data.iter_mut().zip(&up.data) {
            *out *= up;
        }
        Ok(out)
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
        let kept = select::choose(plan, numbers(init), numbers(scores))?;
        Ok(Kept::new(plan, kept))
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

    fn rope_append(
        &mut self,
        q: &mut Buffer,
        k: &mut Buffer,
        v: &Buffer,
        cache: &mut Cache,
        layer: usize,
        spans: &[Span<'_>],
        theta: f32,
    ) -> Result<()> {
        let width = cache.shape.head_dim;
        cache::rope(q, spans, width, theta);
        cache::rope(k, spans, width, theta);
        for span in spans {
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
        spans: &[Span<'_>],
    ) -> Result<Buffer> {
        let mut out = self.buffer(q.rows(), q.cols());
        attention::decoder(&self.meter, q, cache, layer, spans, &mut out);
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

    fn enter(&mut self, stage: Stage) {
        self.clock.enter(stage);
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}
