//! What each operation would take and do.

use super::{Cache, Counter, Planned, Retained, Rows, Scores, Shape, Size};
use crate::checkpoint::Tensor;
use crate::checkpoint::synth::Recipe;
use crate::config::{Activation, Rope};
use crate::format::Format;
use crate::image::{Normalization, Tiles};
use crate::kv;
use crate::ops::ceiling::Ceiling;
use crate::ops::clock::{Clock, Stage};
use crate::ops::cost::{self, Kind};
use crate::ops::memory::{Meter, Purpose};
use crate::ops::profile::Entry;
use crate::ops::sample::Sampling;
use crate::ops::{Batch, Chosen, Evidence, Linear, Norm, Ops, Span, Storage, Visual, Work};
use crate::select::{self, Plan};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

impl Counter {
    /// Causal attention that takes so much beside its result.
    fn attend(&mut self, q: &Size, cache: &Cache, batch: &Rows, scratch: Option<usize>) -> Size {
        let (shape, spans) = (cache.shape, &batch.batch.spans);
        let out = self.buffer(q.rows, q.cols);
        drop(scratch.map(|bytes| self.hold(bytes)));
        let activation = self.footprint.activations().size();
        let stored = self.footprint.cache_format().size();
        self.count(Kind::Attention, cost::decoder(spans, q.cols, activation, shape, stored));
        out
    }
}

impl Ops for Counter {
    type Buffer = Size;
    type Weight = Shape;
    type Cache = Cache;
    type Scores = Scores;
    type Kept = Planned;
    type Batch = Rows;
    type Retained = Retained;

    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Shape> {
        Ok(self.weight(&tensor.shape, tensor.format, storage, tensor.is_aligned()))
    }

    fn synthesize(&mut self, recipe: &Recipe, storage: Storage) -> Result<Shape> {
        Ok(self.weight(&recipe.shape, Format::F16, storage, true))
    }

    fn reserve(&mut self, _: Purpose, _: usize) -> Result<()> {
        Ok(())
    }

    fn cache(&mut self, shape: kv::Shape) -> Result<Cache> {
        let charge = self.meter.charge(Purpose::Kv, self.footprint.cache(shape));
        Ok(Cache { shape, _charge: charge })
    }

    fn patches(&mut self, tiles: &Tiles, _: &Normalization, patch: usize) -> Result<Size> {
        let grid = tiles.layout.side / patch;
        let rows = tiles.partitions() * grid * grid;
        let out = self.buffer(rows, self.footprint.padded(3 * patch * patch));
        let bytes = 3 * tiles.partitions() * tiles.layout.side.pow(2);
        drop(self.footprint.patches_scratch(bytes).map(|bytes| self.hold(bytes)));
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

    fn linear(&mut self, x: &Size, layer: &Linear<Shape>, _: Option<Activation>) -> Result<Size> {
        let out = self.buffer(x.rows, layer.weight.rows);
        self.product(x, layer);
        Ok(out)
    }

    fn linears<const N: usize>(
        &mut self,
        x: &Size,
        layers: [&Linear<Shape>; N],
    ) -> Result<[Size; N]> {
        let outs = layers.map(|layer| self.buffer(x.rows, layer.weight.rows));
        self.products(x, &layers, cost::linear);
        Ok(outs)
    }

    fn linear_add(&mut self, _: &mut Size, x: &Size, layer: &Linear<Shape>) -> Result<()> {
        self.products(x, &[layer], cost::linear_add);
        Ok(())
    }

    fn normed_linear<const N: usize>(
        &mut self,
        x: &Size,
        _: &Norm<Shape>,
        layers: [&Linear<Shape>; N],
    ) -> Result<[Size; N]> {
        let _n = self.norm(x);
        self.linears(x, layers)
    }

    fn normed_swiglu(
        &mut self,
        x: &Size,
        _: &Norm<Shape>,
        gate: &Linear<Shape>,
        up: &Linear<Shape>,
    ) -> Result<Size> {
        let _n = self.norm(x);
        if self.footprint.fuses_gate(x.rows) {
            let out = self.buffer(x.rows, gate.weight.rows);
            self.products(x, &[gate, up], cost::linear);
            return Ok(out);
        }
        let out = self.linear(x, gate, None)?;
        self.linear(x, up, None)?;
        Ok(out)
    }

    fn logits(&mut self, x: &Size, _: &Norm<Shape>, head: &Linear<Shape>) -> Result<Size> {
        let _n = self.norm(x);
        let out = self.wide(x.rows, head.weight.rows);
        self.product(x, head);
        Ok(out)
    }

    fn cls_scores(
        &mut self,
        _: &Size,
        _: usize,
        k: &Size,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        let activation = self.footprint.activations().size();
        self.count(Kind::Scores, cost::scores(partitions * (patches + 1), k.cols, activation));
        let hold = self.hold(self.footprint.scores(partitions, heads, patches));
        Ok(Scores { _hold: hold })
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
        let tasks = partitions * heads;
        let scratch = self.footprint.vision_scratch(tasks, keys, k.cols / heads);
        drop(scratch.map(|bytes| self.hold(bytes)));
        let bytes = self.footprint.activations().size() * 2 * (q.rows + k.rows) * q.cols;
        self.count(Kind::Attention, cost::attention(q.rows * keys, q.cols, bytes));
        Ok(out)
    }

    fn select(&mut self, plan: &Plan, evidence: Evidence<'_, Self>) -> Result<Planned> {
        self.whole = !plan.is_exact();
        let hold = self.hold(self.footprint.selection(plan)?);
        let scratch = self.footprint.choosing(plan, evidence.widths());
        drop(scratch.map(|bytes| self.hold(bytes)));
        let Plan { rows, newlines, sources, .. } = *plan;
        Ok(Planned { rows, newlines, sources, _hold: hold })
    }

    fn gather_kept(&mut self, x: &Size, kept: &Planned) -> Result<Size> {
        match kept.sources {
            0 => self.pass(kept.rows * x.cols),
            sources => {
                let number = self.footprint.activations().size();
                self.count(Kind::Other, cost::mix(kept.rows, sources, x.cols, number));
            }
        }
        Ok(self.buffer(kept.rows, x.cols))
    }

    fn gather(&mut self, x: &Size, rows: &[usize]) -> Result<Size> {
        self.pass(rows.len() * x.cols);
        let out = self.buffer(rows.len(), x.cols);
        drop(self.footprint.indices(rows.len()).map(|bytes| self.hold(bytes)));
        Ok(out)
    }

    fn interleave(
        &mut self,
        table: &Shape,
        before: &[u32],
        visual: Option<Visual<'_, Self>>,
        after: &[u32],
    ) -> Result<Size> {
        let slots = visual.map_or(0, |v| v.kept.slots());
        let ids = before.len() + after.len();
        let out = self.buffer(ids + slots, table.cols);
        drop(self.footprint.indices(ids).map(|bytes| self.hold(bytes)));
        self.pass(out.rows * out.cols);
        Ok(out)
    }

    fn batch(&mut self, _: &Cache, tokens: Vec<u32>, spans: Vec<Span>) -> Result<Rows> {
        let batch = Batch::new(tokens, spans);
        let hold = self.footprint.batch(&batch).map(|bytes| self.hold(bytes));
        Ok(Rows { batch, _hold: hold })
    }

    fn embed(&mut self, table: &Shape, batch: &Rows) -> Result<Size> {
        let out = self.buffer(batch.batch.tokens.len(), table.cols);
        self.pass(out.rows * out.cols);
        Ok(out)
    }

    fn step(
        &mut self,
        _: &[Rows],
        caches: &mut [Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<Size> {
        work(self, caches)
    }

    fn rope_append(
        &mut self,
        q: &mut Size,
        k: &mut Size,
        _: &Size,
        _: &mut Cache,
        _: usize,
        _: &Rows,
        _: &Rope,
    ) -> Result<()> {
        self.pass(q.rows * q.cols + 2 * k.rows * k.cols);
        Ok(())
    }

    fn attention(&mut self, q: &Size, cache: &Cache, _: usize, batch: &Rows) -> Result<Size> {
        let heads = q.cols / cache.shape.head_dim;
        let scratch = self.footprint.attention_scratch(cache.shape, heads, &batch.batch);
        Ok(self.attend(q, cache, batch, scratch))
    }

    fn step_attention(
        &mut self,
        q: &mut Size,
        k: &mut Size,
        _: &Size,
        cache: &mut Cache,
        _: usize,
        batch: &Rows,
        _: &Rope,
    ) -> Result<Size> {
        self.pass(q.rows * q.cols + 2 * k.rows * k.cols);
        let heads = q.cols / cache.shape.head_dim;
        let scratch = self.footprint.step_scratch(cache.shape, heads, &batch.batch);
        Ok(self.attend(q, cache, batch, scratch))
    }

    fn retain(
        &mut self,
        q: &Size,
        cache: &Cache,
        _: usize,
        batch: &Rows,
        among: Range<usize>,
        keep: usize,
    ) -> Result<Retained> {
        let (shape, rows) = (cache.shape, batch.batch.positions.len());
        let dropped = among.len() - keep;
        let hold = self.footprint.indices(rows - dropped).map(|bytes| self.hold(bytes));
        let heads = q.cols / shape.head_dim;
        drop(self.hold(self.footprint.retain_scratch(heads, rows, among.len())));
        let stored = self.footprint.cache_format().size();
        self.count(Kind::Scores, cost::last_row(rows, q.cols, shape, stored));
        Ok(Retained { rows: rows - dropped, _hold: hold })
    }

    fn gather_retained(&mut self, x: &Size, retained: &Retained) -> Result<Size> {
        self.pass(retained.rows * x.cols);
        Ok(self.buffer(retained.rows, x.cols))
    }

    fn retained_batch(&mut self, retained: &Retained, pages: Vec<u32>) -> Result<Rows> {
        let rows = retained.rows;
        let batch =
            Batch::new(Vec::new(), vec![Span { row: 0, rows, slot: 0, position: 0, pages }]);
        let hold = self.footprint.batch(&batch).map(|bytes| self.hold(bytes));
        Ok(Rows { batch, _hold: hold })
    }

    fn sample(&mut self, logits: &Size, how: &[(Sampling, usize)]) -> Result<Vec<u32>> {
        self.whole = false;
        drop(self.footprint.sample_scratch(logits.cols, how).map(|bytes| self.hold(bytes)));
        Ok(vec![0; how.len()])
    }

    fn download(&mut self, x: &Size) -> Result<Vec<f32>> {
        Ok(vec![0.0; x.rows * x.cols])
    }

    fn kept(&mut self, _: &Planned) -> Result<select::Kept> {
        Ok(select::Kept::of(Vec::new()))
    }

    fn scores(&mut self, _: &Planned) -> Result<select::Scores> {
        Ok(select::Scores::default())
    }

    fn retained(&mut self, _: &Retained) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }

    fn enter(&mut self, stage: Stage) -> Result<()> {
        self.clock.enter(stage);
        Ok(())
    }

    fn profile(&mut self) -> Result<()> {
        Ok(())
    }

    fn profiled(&mut self) -> Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn ceiling(&mut self) -> Result<Ceiling> {
        Err(Error::Device("what only counts has no speed".into()))
    }

    fn clock(&mut self) -> Result<&mut Clock> {
        Ok(&mut self.clock)
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    fn available(&self) -> Option<usize> {
        None
    }
}
