//! The executor that computes nothing: it adds up operations, bytes and memory of what would run.
//!
//! Model code runs on it unchanged, so that the prediction cannot drift from the work.

use super::clock::{Clock, Stage};
use super::cost::{self, Cost, Kind};
use super::cpu::{copied_bytes, decoder_scratch, extent, linear_scratch, vision_scratch};
use super::memory::{Charge, Meter, Purpose};
use super::sample::Sampling;
use super::{Chosen, Extent, Linear, Norm, Ops, Span, Storage, Visual};
use crate::Result;
use crate::checkpoint::{DType, Tensor};
use crate::config::Activation;
use crate::image::{Normalization, Tiles};
use crate::kv;
use crate::select;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counts for the CPU executor: activations in f32.
#[derive(Debug, Default)]
pub struct Counter {
    meter: Arc<Meter>,
    clock: Clock,
    costs: BTreeMap<(Stage, Kind), Cost>,
    half_cache: bool,
}

const ACTIVATION: usize = size_of::<f32>();

impl Counter {
    /// A counter for a CPU executor with a cache of f16 or f32.
    pub fn new(half_cache: bool) -> Self {
        Self { half_cache, ..Self::default() }
    }

    /// What was counted of one kind in one stage.
    pub fn cost(&self, stage: Stage, kind: Kind) -> Cost {
        self.costs.get(&(stage, kind)).copied().unwrap_or_default()
    }

    /// Operations counted in some stages.
    pub fn flops_in(&self, stages: &[Stage]) -> u64 {
        self.costs.iter().filter(|((s, _), _)| stages.contains(s)).map(|(_, c)| c.flops).sum()
    }

    /// A weight of a checkpoint that does not exist.
    pub fn imagine(&mut self, shape: &[usize], dtype: DType, storage: Storage) -> Shape {
        let (rows, cols) = extent(shape);
        let charge = match storage {
            Storage::Matrix => {
                self.meter.map(rows * cols * dtype.size());
                None
            }
            Storage::Vector => {
                let bytes = rows * cols * size_of::<f32>();
                Some(self.meter.charge(Purpose::Weights, bytes))
            }
        };
        Shape { rows, cols, stored: dtype.size(), _charge: charge }
    }

    fn cache_bytes(&self) -> usize {
        if self.half_cache { 2 } else { 4 }
    }

    fn buffer(&self, rows: usize, cols: usize) -> Size {
        let charge = self.meter.charge(Purpose::Workspace, rows * cols * ACTIVATION);
        Size { rows, cols, _charge: charge }
    }

    fn count(&mut self, kind: Kind, cost: Cost) {
        *self.costs.entry((self.clock.stage(), kind)).or_default() += cost;
    }

    fn pass(&mut self, numbers: usize) {
        self.count(Kind::Other, Cost { flops: 0, bytes: (2 * numbers * ACTIVATION) as u64 });
    }

    fn product(&mut self, x: &Size, layer: &Linear<Shape>) {
        let (m, w) = (x.rows, &layer.weight);
        let stored_f32 = w.stored == size_of::<f32>();
        drop(self.meter.charge(Purpose::Workspace, linear_scratch(m, w.rows, w.cols, stored_f32)));
        let bytes = w.rows * w.cols * w.stored;
        self.count(Kind::Linear, cost::linear(m, w.rows, w.cols, ACTIVATION, bytes));
    }
}

/// A buffer that is not there.
#[derive(Debug)]
pub struct Size {
    rows: usize,
    cols: usize,
    _charge: Charge,
}

impl Extent for Size {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

/// A weight that is not there.
#[derive(Debug)]
pub struct Shape {
    rows: usize,
    cols: usize,
    /// Bytes of a stored number.
    stored: usize,
    _charge: Option<Charge>,
}

/// A cache that is not there.
#[derive(Debug)]
pub struct Cache {
    shape: kv::Shape,
    _charge: Charge,
}

/// A selection before its scores: sizes as planned.
#[derive(Debug)]
pub struct Planned {
    kept: usize,
    newlines: usize,
}

impl Chosen for Planned {
    fn kept(&self) -> usize {
        self.kept
    }

    fn slots(&self) -> usize {
        self.kept + self.newlines
    }
}

impl Ops for Counter {
    type Buffer = Size;
    type Weight = Shape;
    type Cache = Cache;
    type Kept = Planned;

    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Shape> {
        let (rows, cols) = extent(&tensor.shape);
        let copied = copied_bytes(tensor, storage);
        if copied == 0 {
            self.meter.map(tensor.bytes().len());
        }
        let charge = (copied > 0).then(|| self.meter.charge(Purpose::Weights, copied));
        Ok(Shape { rows, cols, stored: tensor.dtype.size(), _charge: charge })
    }

    fn cache(&mut self, shape: kv::Shape) -> Result<Cache> {
        let charge = self.meter.charge(Purpose::Kv, shape.elements() * self.cache_bytes());
        Ok(Cache { shape, _charge: charge })
    }

    fn patches(&mut self, tiles: &Tiles, _: &Normalization, patch: usize) -> Result<Size> {
        let grid = tiles.layout.side / patch;
        let out = self.buffer(tiles.partitions() * grid * grid, 3 * patch * patch);
        self.pass(out.rows * out.cols);
        Ok(out)
    }

    fn vision_tokens(
        &mut self,
        patches: &Size,
        _: &Shape,
        _: &Shape,
        partitions: usize,
    ) -> Result<Size> {
        self.pass(patches.rows * patches.cols);
        Ok(self.buffer(patches.rows + partitions, patches.cols))
    }

    fn layer_norm(&mut self, x: &Size, _: &Norm<Shape>) -> Result<Size> {
        self.pass(x.rows * x.cols);
        Ok(self.buffer(x.rows, x.cols))
    }

    fn rms_norm(&mut self, x: &Size, norm: &Norm<Shape>) -> Result<Size> {
        self.layer_norm(x, norm)
    }

    fn linear(&mut self, x: &Size, layer: &Linear<Shape>, _: Option<Activation>) -> Result<Size> {
        let out = self.buffer(x.rows, layer.weight.rows);
        self.product(x, layer);
        Ok(out)
    }

    fn linear_add(&mut self, _: &mut Size, x: &Size, layer: &Linear<Shape>) -> Result<()> {
        self.product(x, layer);
        Ok(())
    }

    fn swiglu(&mut self, x: &Size, gate: &Linear<Shape>, up: &Linear<Shape>) -> Result<Size> {
        let out = self.linear(x, gate, None)?;
        self.linear(x, up, None)?;
        Ok(out)
    }

    fn cls_scores(
        &mut self,
        _: &Size,
        _: usize,
        k: &Size,
        _: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Size> {
        self.count(Kind::Scores, cost::scores(partitions * (patches + 1), k.cols, ACTIVATION));
        Ok(self.buffer(partitions, patches))
    }

    fn vision_attention(
        &mut self,
        q: &Size,
        k: &Size,
        _: &Size,
        heads: usize,
        partitions: usize,
        _: Option<&Planned>,
    ) -> Result<Size> {
        let keys = k.rows / partitions;
        let out = self.buffer(q.rows, q.cols);
        drop(self.meter.charge(Purpose::Workspace, vision_scratch(partitions * heads, keys)));
        let bytes = ACTIVATION * 2 * (q.rows + k.rows) * q.cols;
        self.count(Kind::Attention, cost::attention(q.rows * keys, q.cols, bytes));
        Ok(out)
    }

    fn select(
        &mut self,
        plan: &select::Plan,
        _: Option<&Size>,
        _: Option<&Size>,
    ) -> Result<Planned> {
        Ok(Planned { kept: plan.kept, newlines: plan.newlines })
    }

    fn gather_kept(&mut self, x: &Size, kept: &Planned) -> Result<Size> {
        self.pass(kept.kept * x.cols);
        Ok(self.buffer(kept.kept, x.cols))
    }

    fn gather(&mut self, x: &Size, rows: &[usize]) -> Result<Size> {
        self.pass(rows.len() * x.cols);
        Ok(self.buffer(rows.len(), x.cols))
    }

    fn interleave(
        &mut self,
        table: &Shape,
        before: &[u32],
        visual: Option<Visual<'_, Self>>,
        after: &[u32],
    ) -> Result<Size> {
        let slots = visual.map_or(0, |v| v.kept.slots());
        let out = self.buffer(before.len() + slots + after.len(), table.cols);
        self.pass(out.rows * out.cols);
        Ok(out)
    }

    fn rope_append(
        &mut self,
        q: &mut Size,
        k: &mut Size,
        _: &Size,
        _: &mut Cache,
        _: usize,
        _: &[Span<'_>],
        _: f32,
    ) -> Result<()> {
        self.pass(q.rows * q.cols + 2 * k.rows * k.cols);
        Ok(())
    }

    fn attention(&mut self, q: &Size, cache: &Cache, _: usize, spans: &[Span<'_>]) -> Result<Size> {
        let out = self.buffer(q.rows, q.cols);
        drop(self.meter.charge(Purpose::Workspace, decoder_scratch(cache.shape, spans)));
        let pairs = spans.iter().map(|s| cost::causal_pairs(s.position, s.rows)).sum();
        let context: usize = spans.iter().map(Span::context).sum();
        let row = 2 * cache.shape.kv_heads * cache.shape.head_dim * self.cache_bytes();
        let bytes = context * row + 2 * q.rows * q.cols * ACTIVATION;
        self.count(Kind::Attention, cost::attention(pairs, q.cols, bytes));
        Ok(out)
    }

    fn sample(&mut self, _: &Size, how: &[(Sampling, usize)]) -> Result<Vec<u32>> {
        Ok(vec![0; how.len()])
    }

    fn download(&mut self, x: &Size) -> Result<Vec<f32>> {
        Ok(vec![0.0; x.rows * x.cols])
    }

    fn kept(&mut self, _: &Planned) -> Result<select::Kept> {
        Ok(select::Kept { allocation: Vec::new(), indices: Vec::new() })
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
