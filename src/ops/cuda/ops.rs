//! The executor's side of [`Ops`]: shapes to launches.

use super::abi::{InterleaveParams, PatchesParams, RopeAppendParams, TokensParams};
use super::buffer::{Batch, Buffer, Cache, Scores, Weight, part};
use super::executor::Cuda;
use super::launch::{Launch, is_vector, rope, variant};
use super::scratch;
use super::select::fastv::Retained;
use super::select::ops::Kept;
use crate::checkpoint::Tensor;
use crate::checkpoint::synth::Recipe;
use crate::config::{Activation, Rope};
use crate::format::Format;
use crate::image::{Normalization, Tiles};
use crate::kv;
use crate::ops::ceiling::Ceiling;
use crate::ops::clock::{Clock, Stage};
use crate::ops::cost::{self, Cost};
use crate::ops::memory::{Meter, Purpose};
use crate::ops::profile::Entry;
use crate::ops::sample::Sampling;
use crate::ops::{Evidence, Linear, Norm, Ops, Span, Storage, Visual, Work};
use crate::select;
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

impl Ops for Cuda {
    type Buffer = Buffer;
    type Weight = Weight;
    type Cache = Cache;
    type Scores = Scores;
    type Kept = Kept;
    type Batch = Batch;
    type Retained = Retained;

    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Weight> {
        self.take_weight(tensor, storage)
    }

    fn synthesize(&mut self, recipe: &Recipe, storage: Storage) -> Result<Weight> {
        self.draw_weight(recipe, storage)
    }

    fn reserve(&mut self, purpose: Purpose, bytes: usize) -> Result<()> {
        match purpose {
            Purpose::Weights => self.reserve_weights(bytes),
            Purpose::Workspace => self.reserve_workspace(bytes),
            // Taken by `cache`.
            Purpose::Kv => Ok(()),
        }
    }

    fn cache(&mut self, shape: kv::Shape) -> Result<Cache> {
        self.take_cache(shape)
    }

    fn patches(&mut self, tiles: &Tiles, norm: &Normalization, patch: usize) -> Result<Buffer> {
        let (partitions, side) = (tiles.partitions(), tiles.layout.side);
        let (grid, cols) = (side / patch, 3 * patch * patch);
        let dtype = self.options.formats.activations;
        let stride = Format::from(dtype).stride(cols);
        let out = self.strided(partitions * grid * grid, cols, stride, dtype)?;
        let parts = scratch::patches(tiles.pixels.len());
        let (_region, address) = self.region(parts.bytes())?;
        let (lut, pixels) = (part(address, &parts, 0), part(address, &parts, 1));
        let vector = stride.is_multiple_of(4);
        let kernel = format!("patches_{}_{}", variant(vector), out.dtype.name());
        let launch = Launch::rows("vision", kernel, out.rows, stride, if vector { 4 } else { 1 });
        let written = out.rows * stride * out.dtype.size();
        let launch = launch.costing(Cost::bytes(tiles.pixels.len() + written));
        let params = PatchesParams {
            pixels: pixels as *const u8,
            lut: lut as *const f32,
            out: out.pointer(),
            partitions: partitions as u32,
            side: side as u32,
            patch: patch as u32,
            stride: stride as u32,
        };
        let stage = self.watch.stage();
        self.enter_stage(Stage::Upload)?;
        // SAFETY: the region holds the table and the bytes; `patch` divides `side` as the configuration says.
        unsafe {
            self.queue.upload(lut, norm.lut.as_flattened())?;
            self.queue.upload(pixels, &tiles.pixels)?;
            self.enter_stage(stage)?;
            self.queue.launch(&launch, &params)?;
        }
        Ok(out)
    }

    fn vision_tokens(
        &mut self,
        patches: &Buffer,
        class: &Weight,
        position: &Weight,
        partitions: usize,
    ) -> Result<Buffer> {
        let cols = patches.cols;
        let out = self.buffer(patches.rows + partitions, cols)?;
        let vector = is_vector(out.dtype, cols, cols);
        let kernel = format!("vision_tokens_{}_{}", variant(vector), out.dtype.name());
        let launch = Launch::rows("vision", kernel, out.rows, cols, self.lanes(vector))
            .costing(cost::pass(out.rows * cols, out.dtype.size()));
        let params = TokensParams {
            patches: patches.pointer(),
            class_token: class.vector(),
            position: position.vector(),
            out: out.pointer(),
            partitions: partitions as u32,
            patch_count: (patches.rows / partitions) as u32,
            cols: cols as u32,
            reserved: 0,
        };
        // SAFETY: shapes as the model has checked them; all operands are alive.
        unsafe { self.queue.launch(&launch, &params)? };
        Ok(out)
    }

    fn layer_norm(&mut self, x: &Buffer, norm: &Norm<Weight>) -> Result<Buffer> {
        self.norm("layer_norm", x, norm)
    }

    fn linear(
        &mut self,
        x: &Buffer,
        layer: &Linear<Weight>,
        activation: Option<Activation>,
    ) -> Result<Buffer> {
        let out = self.buffer(x.rows, layer.weight.rows)?;
        self.product(x, layer, &out, activation)?;
        Ok(out)
    }

    fn linears<const N: usize>(
        &mut self,
        x: &Buffer,
        layers: [&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        self.products(x, layers)
    }

    fn linear_add(&mut self, sum: &mut Buffer, x: &Buffer, layer: &Linear<Weight>) -> Result<()> {
        self.product_add(x, layer, sum)
    }

    fn normed_linear<const N: usize>(
        &mut self,
        x: &Buffer,
        norm: &Norm<Weight>,
        layers: [&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        self.normed_products(x, norm, layers)
    }

    fn normed_swiglu(
        &mut self,
        x: &Buffer,
        norm: &Norm<Weight>,
        gate: &Linear<Weight>,
        up: &Linear<Weight>,
    ) -> Result<Buffer> {
        self.gated_product(x, norm, gate, up)
    }

    fn logits(&mut self, x: &Buffer, norm: &Norm<Weight>, head: &Linear<Weight>) -> Result<Buffer> {
        self.head_product(x, norm, head)
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
        self.class_scores(q, q_stride, k, heads, [partitions, patches])
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
        self.mix_partitions(q, k, v, heads, partitions, kept)
    }

    fn select(&mut self, plan: &select::Plan, evidence: Evidence<'_, Self>) -> Result<Kept> {
        self.whole = !plan.is_exact();
        self.choose(plan, evidence)
    }

    fn gather_kept(&mut self, x: &Buffer, kept: &Kept) -> Result<Buffer> {
        self.take_kept(x, kept)
    }

    fn gather(&mut self, x: &Buffer, rows: &[usize]) -> Result<Buffer> {
        let out = self.strided(rows.len(), x.cols, x.stride, x.dtype)?;
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let (_region, address) = self.region(rows.len() * size_of::<u32>())?;
        // SAFETY: the region holds the indices.
        unsafe { self.queue.upload(address, &rows)? };
        self.gather_rows(x, address, &out)?;
        Ok(out)
    }

    fn interleave(
        &mut self,
        table: &Weight,
        before: &[u32],
        visual: Option<Visual<'_, Self>>,
        after: &[u32],
    ) -> Result<Buffer> {
        let slots = visual.as_ref().map_or(0, |v| v.kept.slot_count);
        let ids = [before, after].concat();
        let out = self.buffer(ids.len() + slots, table.cols)?;
        let (_region, address) = self.region(size_of_val(&ids[..]))?;
        let at = |index: usize| address + (index * size_of::<u32>()) as u64;
        let params = InterleaveParams {
            before: at(0) as *const u32,
            slots: visual.as_ref().map_or(0, |v| v.kept.slots) as *const u32,
            after: at(before.len()) as *const u32,
            visual: visual.as_ref().map_or(std::ptr::null(), |v| v.rows.pointer()),
            newline: visual.and_then(|v| v.newline).map_or(std::ptr::null(), Weight::vector),
            before_count: before.len() as u32,
            slot_count: slots as u32,
            after_count: after.len() as u32,
            ..self.rows_of(table, &out)
        };
        // SAFETY: the region holds the ids, which the engine has checked against the vocabulary.
        unsafe { self.queue.upload(address, &ids)? };
        self.put_rows(&params, &out)?;
        Ok(out)
    }

    fn batch(&mut self, cache: &Cache, tokens: Vec<u32>, spans: Vec<Span>) -> Result<Batch> {
        if tokens.is_empty() {
            return self.prompt_batch(spans);
        }
        self.step_batch(cache, &tokens, spans)
    }

    fn embed(&mut self, table: &Weight, batch: &Batch) -> Result<Buffer> {
        let tokens = batch
            .tokens
            .ok_or_else(|| Error::Device("a batch without tokens has no embeddings".into()))?;
        let out = self.buffer(batch.spans.len(), table.cols)?;
        let params = InterleaveParams {
            before: tokens as *const u32,
            before_count: batch.spans.len() as u32,
            ..self.rows_of(table, &out)
        };
        self.put_rows(&params, &out)?;
        Ok(out)
    }

    fn step(
        &mut self,
        batches: &[Batch],
        caches: &mut [Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<Buffer> {
        self.watch.ranges.step(batches.first().map(|batch| batch.spans.len()));
        let logits = self.replay(batches, caches, work);
        self.watch.ranges.step(None);
        logits
    }

    fn rope_append(
        &mut self,
        q: &mut Buffer,
        k: &mut Buffer,
        v: &Buffer,
        cache: &mut Cache,
        layer: usize,
        batch: &Batch,
        rotary: &Rope,
    ) -> Result<()> {
        let kv::Shape { kv_heads, head_dim, .. } = cache.shape;
        let heads = q.cols / head_dim;
        let launch = rope(q.dtype, q.rows, heads + 2 * kv_heads, head_dim);
        let params = RopeAppendParams {
            q: q.pointer(),
            k: k.pointer(),
            v: v.pointer(),
            cache: cache.layer(layer),
            frequencies: self.frequencies(cache, rotary)?,
            positions: batch.positions as *const u32,
            slots: batch.slots as *const u32,
            sequences: batch.sequences as *const u32,
            tables: batch.tables as *const u32,
            rows: q.rows as u32,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            head_dim: head_dim as u32,
            table_stride: batch.stride as u32,
            reserved: 0,
        };
        // SAFETY: the batch's tables hold the pages of all its slots, which are distinct.
        unsafe { self.queue.launch(&launch, &params) }
    }

    fn attention(
        &mut self,
        q: &Buffer,
        cache: &Cache,
        layer: usize,
        batch: &Batch,
    ) -> Result<Buffer> {
        self.attend_rows(q, cache, layer, batch)
    }

    fn step_attention(
        &mut self,
        q: &mut Buffer,
        k: &mut Buffer,
        v: &Buffer,
        cache: &mut Cache,
        layer: usize,
        batch: &Batch,
        rotary: &Rope,
    ) -> Result<Buffer> {
        let frequencies = self.frequencies(cache, rotary)?;
        self.attend_step([q, k, v], cache, layer, batch, frequencies)
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
        self.rank_rows(q, cache, layer, batch, among, keep)
    }

    fn gather_retained(&mut self, x: &Buffer, retained: &Retained) -> Result<Buffer> {
        let out = self.strided(retained.count, x.cols, x.stride, x.dtype)?;
        self.gather_rows(x, retained.rows, &out)?;
        Ok(out)
    }

    fn retained_batch(&mut self, retained: &Retained, pages: Vec<u32>) -> Result<Batch> {
        self.rows_left(retained, pages)
    }

    fn sample(&mut self, logits: &Buffer, how: &[(Sampling, usize)]) -> Result<Vec<u32>> {
        self.whole = false;
        self.draw(logits, how)
    }

    fn download(&mut self, x: &Buffer) -> Result<Vec<f32>> {
        self.read(x)
    }

    fn kept(&mut self, kept: &Kept) -> Result<select::Kept> {
        self.read_kept(kept)
    }

    fn scores(&mut self, kept: &Kept) -> Result<select::Scores> {
        self.read_scores(kept)
    }

    fn retained(&mut self, retained: &Retained) -> Result<Vec<u32>> {
        // SAFETY: there are so many rows.
        unsafe { self.queue.download(retained.rows, retained.count) }
    }

    fn enter(&mut self, stage: Stage) -> Result<()> {
        self.enter_stage(stage)
    }

    fn layer(&mut self, index: Option<usize>) {
        self.enter_layer(index);
    }

    fn profile(&mut self) -> Result<()> {
        self.queue.profile()
    }

    fn profiled(&mut self) -> Result<Vec<Entry>> {
        self.queue.profiled()
    }

    fn ceiling(&mut self) -> Result<Ceiling> {
        self.measure_ceiling()
    }

    fn clock(&mut self) -> Result<&mut Clock> {
        self.watch.read(&self.queue)
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    fn available(&self) -> Option<usize> {
        self.queue.available()
    }
}
