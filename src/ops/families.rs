//! The operations of an executor, one trait for each family. Every executor implements a family in a file or folder of
//! its own, and an operation keeps one name from its trait down to its kernel.

use super::ceiling::Ceiling;
use super::clock::{Clock, Stage};
use super::memory::{Meter, Purpose};
use super::profile::Entry;
use super::sample::Sampling;
use super::{Chosen, Evidence, Extent, Layered, Linear, Norm, Saved, Span, Storage, Visual};
use crate::Result;
use crate::checkpoint::Tensor;
use crate::checkpoint::synth::Recipe;
use crate::config::{Activation, Rope};
use crate::image::{Normalization, Tiles};
use crate::kv;
use crate::select;
use std::ops::Range;
use std::sync::Arc;

/// The types that an executor computes with.
pub trait Executor {
    /// A matrix of activations.
    type Buffer: Extent;
    /// A weight, stored where the executor can multiply with it.
    type Weight;
    /// Keys and values of consecutive layers.
    type Cache: Layered;
    /// Attention of class tokens to patches, for [`SelectionOps::select`].
    type Scores;
    /// Which patches are kept, where they go in the prompt, and the scores that decided it.
    type Kept: Chosen;
    /// Rows of one or more sequences that go through the decoder together.
    type Batch;
    /// The rows of a prompt that remain when FastV drops the others.
    type Retained;
}

/// A decode step on an executor: computes logits from its caches.
pub type Work<'a, O> =
    dyn FnMut(&mut O, &mut [<O as Executor>::Cache]) -> Result<<O as Executor>::Buffer> + 'a;

/// Weights, caches and memory.
pub trait MemoryOps: Executor {
    /// Makes a weight from a tensor of the checkpoint.
    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Self::Weight>;
    /// Makes a synthetic weight, which is in no file.
    fn synthesize(&mut self, recipe: &Recipe, storage: Storage) -> Result<Self::Weight> {
        self.upload(&recipe.tensor()?, storage)
    }
    /// Allocates memory that was predicted to be needed, so that an executor can allocate once: `bytes` more for
    /// weights, or a workspace of at least `bytes` in all (0 frees it).
    fn reserve(&mut self, purpose: Purpose, bytes: usize) -> Result<()>;
    /// Allocates a cache.
    fn cache(&mut self, shape: kv::Shape) -> Result<Self::Cache>;
    /// Copies a buffer to the host, row-major, as f32.
    fn download(&mut self, x: &Self::Buffer) -> Result<Vec<f32>>;
    /// Copies a buffer to the host in its own format, for [`MemoryOps::restore`].
    fn save(&mut self, x: &Self::Buffer) -> Result<Saved>;
    /// Makes a buffer from a saved one, bit for bit.
    fn restore(&mut self, saved: &Saved) -> Result<Self::Buffer>;
    /// Memory in use, and its maximum so far.
    fn meter(&self) -> &Arc<Meter>;
    /// Bytes of free memory, where known.
    fn available(&self) -> Option<usize>;
}

/// Matrix products with weights.
pub trait MatmulOps: Executor {
    /// f(x·Wᵀ + b), f being the activation if there is one.
    fn linear(
        &mut self,
        x: &Self::Buffer,
        layer: &Linear<Self::Weight>,
        activation: Option<Activation>,
    ) -> Result<Self::Buffer>;
    /// x·Wᵀ + b of each layer. Layers of one width get the bits that [`MatmulOps::linear`] gives.
    fn linears<const N: usize>(
        &mut self,
        x: &Self::Buffer,
        layers: [&Linear<Self::Weight>; N],
    ) -> Result<[Self::Buffer; N]>;
    /// sum += x·Wᵀ + b.
    fn linear_add(
        &mut self,
        sum: &mut Self::Buffer,
        x: &Self::Buffer,
        layer: &Linear<Self::Weight>,
    ) -> Result<()>;
    /// n·Wᵀ + b of each layer, where n = x / √(mean of squares + ε) · w, row by row.
    fn normed_linear<const N: usize>(
        &mut self,
        x: &Self::Buffer,
        norm: &Norm<Self::Weight>,
        layers: [&Linear<Self::Weight>; N],
    ) -> Result<[Self::Buffer; N]>;
    /// silu(n·Gᵀ) · (n·Uᵀ), n as in [`MatmulOps::normed_linear`].
    fn normed_swiglu(
        &mut self,
        x: &Self::Buffer,
        norm: &Norm<Self::Weight>,
        gate: &Linear<Self::Weight>,
        up: &Linear<Self::Weight>,
    ) -> Result<Self::Buffer>;
    /// n·Wᵀ + b in f32, whatever the format of activations; n as in [`MatmulOps::normed_linear`], or x where there is no
    /// norm, at most [`super::DECODE_ROWS`] rows.
    fn logits(
        &mut self,
        x: &Self::Buffer,
        norm: Option<&Norm<Self::Weight>>,
        head: &Linear<Self::Weight>,
    ) -> Result<Self::Buffer>;
}

/// Attention and the cache that it reads.
pub trait AttentionOps: Executor {
    /// Softmax of the class token's query over all T+1 keys of its partition, head by head. The heads are reduced
    /// later, by the selection.
    ///
    /// `q` has the class query of partition p in row `p · q_stride`; `k` is `[≥ partitions·(T+1), D]`.
    fn cls_scores(
        &mut self,
        q: &Self::Buffer,
        q_stride: usize,
        k: &Self::Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Self::Scores>;
    /// Attention of one query, `[1, D]`, to the patches of each partition, head by head: of a tower's pooling head, which has no
    /// class token. `k` is `[partitions·T, D]`, or more rows.
    fn probe_scores(
        &mut self,
        q: &Self::Buffer,
        k: &Self::Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Self::Scores>;
    /// Attention that each patch receives: the mean over all queries of its partition, head by head. `q` has the rows
    /// of these partitions, `[partitions·T, D]` or with a class token `[partitions·(T+1), D]`, `k` at least as many.
    /// The class token counts as a query; the attention that it receives itself is left out.
    fn received_scores(
        &mut self,
        q: &Self::Buffer,
        k: &Self::Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Self::Scores>;
    /// Bidirectional attention inside each partition; `q` has all rows `[P·(T+1), D]`, or only the kept ones `[kept,
    /// D]`.
    fn vision_attention(
        &mut self,
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
        heads: usize,
        partitions: usize,
        kept: Option<&Self::Kept>,
    ) -> Result<Self::Buffer>;
    /// Rotates `q` and `k` by their positions, of each head as many numbers as [`Rope::width`] says, and puts `k` and `v` into
    /// a layer of the cache; `k` is undefined afterwards.
    #[allow(clippy::too_many_arguments)]
    fn rope_append(
        &mut self,
        q: &mut Self::Buffer,
        k: &mut Self::Buffer,
        v: &Self::Buffer,
        cache: &mut Self::Cache,
        layer: usize,
        batch: &Self::Batch,
        rope: &Rope,
    ) -> Result<()>;
    /// Causal attention of every row to its sequence's cache: `[rows, heads · head_dim]`.
    fn attention(
        &mut self,
        q: &Self::Buffer,
        cache: &Self::Cache,
        layer: usize,
        batch: &Self::Batch,
    ) -> Result<Self::Buffer>;
    /// [`AttentionOps::rope_append`] and [`AttentionOps::attention`] of a decode step, which has one new row of each
    /// sequence. `q` and `k` are undefined afterwards.
    #[allow(clippy::too_many_arguments)]
    fn step_attention(
        &mut self,
        q: &mut Self::Buffer,
        k: &mut Self::Buffer,
        v: &Self::Buffer,
        cache: &mut Self::Cache,
        layer: usize,
        batch: &Self::Batch,
        rope: &Rope,
    ) -> Result<Self::Buffer> {
        self.rope_append(q, k, v, cache, layer, batch, rope)?;
        self.attention(q, cache, layer, batch)
    }
}

/// Operations on rows: pixels, norms and copies.
pub trait RowOps: Executor {
    /// Normalised pixels of every patch: `[P·T, 3·patch²]`, channel first, then row, then column.
    fn patches(
        &mut self,
        tiles: &Tiles,
        norm: &Normalization,
        patch: usize,
    ) -> Result<Self::Buffer>;
    /// Puts the class token, if there is one, before each partition's patches `[P·T, D]` and adds positions:
    /// `[P·(T+1), D]`, or `[P·T, D]`.
    fn vision_tokens(
        &mut self,
        patches: &Self::Buffer,
        class: Option<&Self::Weight>,
        position: &Self::Weight,
        partitions: usize,
    ) -> Result<Self::Buffer>;
    /// (x − mean) / √(variance + ε) · w + b, row by row.
    fn layer_norm(&mut self, x: &Self::Buffer, norm: &Norm<Self::Weight>) -> Result<Self::Buffer>;
    /// RMSNorm of each head, in place: x / √(mean of squares + ε) · w, where a head is as wide as w.
    fn head_norm(&mut self, x: &mut Self::Buffer, norm: &Norm<Self::Weight>) -> Result<()>;
    /// sum += factors ⊙ x, with one factor for each column.
    fn scaled_add(
        &mut self,
        sum: &mut Self::Buffer,
        x: &Self::Buffer,
        factors: &Self::Weight,
    ) -> Result<()>;
    /// x + w ∗ x + b, where the rows are a square, row by row: of each column the convolution with its own 3 × 3 numbers of
    /// `weight` `[cols, 1, 3, 3]` (as torch has it: no kernel is turned), zeros around the square.
    fn convolve(
        &mut self,
        x: &Self::Buffer,
        weight: &Self::Weight,
        bias: &Self::Weight,
    ) -> Result<Self::Buffer>;
    /// Views each `each` consecutive rows of `x` as one row, without moving them.
    fn join(&mut self, x: Self::Buffer, each: usize) -> Self::Buffer;
    /// Copies the given rows of `x`.
    fn gather(&mut self, x: &Self::Buffer, rows: &[usize]) -> Result<Self::Buffer>;
    /// Rows of the prompt: for each image the embeddings of the ids before it and its visual rows in decoder order, then
    /// the embeddings of `after`.
    fn interleave(
        &mut self,
        table: &Self::Weight,
        images: &[(&[u32], Visual<'_, Self>)],
        after: &[u32],
    ) -> Result<Self::Buffer>;
    /// Embeddings of a batch's tokens: `[spans, width]`.
    fn embed(&mut self, table: &Self::Weight, batch: &Self::Batch) -> Result<Self::Buffer>;
}

/// The choice of visual rows before the decoder.
pub trait SelectionOps: Executor {
    /// Chooses the rows to keep, by the scores and rows that the plan needs.
    fn select(&mut self, plan: &select::Plan, evidence: Evidence<'_, Self>) -> Result<Self::Kept>;
    /// Restores a choice that was made by this plan before, without its scores. Its rows are not gathered again.
    fn recall(&mut self, plan: &select::Plan, kept: &select::Kept) -> Result<Self::Kept>;
    /// The kept rows of `x` `[P·(T+1), D]` (of `[V, D]` where the plan uses projected rows): `[rows, D]`, patches
    /// partition after partition, then rows that the method adds. Each is a copy, or a weighted sum where the method
    /// merges. A cell of several patches gives their rows one after the other.
    fn gather_kept(&mut self, x: &Self::Buffer, kept: &Self::Kept) -> Result<Self::Buffer>;
    /// Weighted sums of rows of `x`.
    fn mix(&mut self, x: &Self::Buffer, mix: &select::Mix) -> Result<Self::Buffer>;
    /// Copies the choice to the host.
    fn kept(&mut self, kept: &Self::Kept) -> Result<select::Kept>;
    /// Copies the scores that the selection used, reduced over the heads, to the host.
    fn scores(&mut self, kept: &Self::Kept) -> Result<select::Scores>;
}

/// The choice of visual rows after a layer of the decoder (FastV).
pub trait FastvOps: Executor {
    /// Chooses the rows of a prompt that remain after a layer: the `keep` rows of `among` that its last row attends to
    /// most, and all rows outside `among`. A row's score is its softmax weight over all keys, summed over the heads
    /// (which ranks as their mean does); ties go to the lower row. The prompt is the only span of `batch` and starts
    /// its sequence; `q` is rotated and its keys are in the cache. `keep` ≤ length of `among`.
    fn retain(
        &mut self,
        q: &Self::Buffer,
        cache: &Self::Cache,
        layer: usize,
        batch: &Self::Batch,
        among: Range<usize>,
        keep: usize,
    ) -> Result<Self::Retained>;
    /// The retained rows of `x`, in their order.
    fn gather_retained(
        &mut self,
        x: &Self::Buffer,
        retained: &Self::Retained,
    ) -> Result<Self::Buffer>;
    /// The batch of retained rows for the layers of a cache in which the sequence has these `pages`: in slots from 0
    /// on, at their original positions. `retained` must live as long as the batch is used.
    fn retained_batch(&mut self, retained: &Self::Retained, pages: Vec<u32>)
    -> Result<Self::Batch>;
    /// Copies the retained rows' numbers in the prompt, ascending, to the host.
    fn retained(&mut self, retained: &Self::Retained) -> Result<Vec<u32>>;
}

/// Batches of rows, and decode steps.
pub trait BatchOps: Executor {
    /// Prepares a batch of rows for the layers of a cache. In a decode step every span has one row, and `tokens` holds
    /// the id of each. Otherwise `tokens` is empty, and each span's positions are its slots.
    fn batch(
        &mut self,
        cache: &Self::Cache,
        tokens: Vec<u32>,
        spans: Vec<Span>,
    ) -> Result<Self::Batch>;
    /// Runs a decode step: logits `[spans, vocabulary]`. There is one batch for each cache, all with the same tokens.
    ///
    /// `work` must do the same for all batches with as many tokens, wait for nothing and upload nothing, so that an
    /// executor may record it once and replay the recording.
    fn step(
        &mut self,
        batches: &[Self::Batch],
        caches: &mut [Self::Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<Self::Buffer>;
}

/// The choice of the next token.
pub trait SampleOps: Executor {
    /// Draws one token for each row of logits; each pair holds the settings and the token's index in its answer.
    fn sample(&mut self, logits: &Self::Buffer, how: &[(Sampling, usize)]) -> Result<Vec<u32>>;
}

/// Time by stage, profiles of single operations, and ceilings.
pub trait MeasureOps: Executor {
    /// Attributes the work that follows to `stage`.
    fn enter(&mut self, stage: Stage) -> Result<()>;
    /// Attributes the work that follows to this layer, until the next layer or stage: for a profiler.
    fn layer(&mut self, _: Option<usize>) {}
    /// Starts recording every kernel, copy or operation with its time, for tables and timelines. Decode steps are not
    /// replayed meanwhile.
    fn profile(&mut self) -> Result<()>;
    /// Ends the recording and returns what was recorded, in order.
    fn profiled(&mut self) -> Result<Vec<Entry>>;
    /// Starts recording the attention of the first sequence's last row in every layer of the decoder, for studies. This
    /// takes memory that no plan counts; decode steps are not replayed meanwhile.
    fn record_attention(&mut self);
    /// Ends the recording of attention and returns it, layer after layer and pass after pass: the softmax weight of
    /// every key, as the mean over heads.
    fn recorded_attention(&mut self) -> Vec<Vec<f32>>;
    /// Measures the highest throughput of the device.
    fn ceiling(&mut self) -> Result<Ceiling>;
    /// Time spent by stage, for stages that have ended and whose work is done.
    fn clock(&mut self) -> Result<&mut Clock>;
}

/// All families: what [`crate::model`] runs on.
pub trait Ops:
    MemoryOps
    + MatmulOps
    + AttentionOps
    + RowOps
    + SelectionOps
    + FastvOps
    + BatchOps
    + SampleOps
    + MeasureOps
{
}

impl<T> Ops for T where
    T: MemoryOps
        + MatmulOps
        + AttentionOps
        + RowOps
        + SelectionOps
        + FastvOps
        + BatchOps
        + SampleOps
        + MeasureOps
{
}
