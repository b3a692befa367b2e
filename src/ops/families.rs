//! What an executor computes, one trait for each family of operations. The implementations are arranged alike: an
//! executor has a file or a folder for each family, and an operation has one name from here down to its kernel.

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

/// What an executor works on.
pub trait Executor {
    /// A matrix of activations.
    type Buffer: Extent;
    /// A weight, ready for use.
    type Weight;
    /// Keys and values of consecutive layers.
    type Cache: Layered;
    /// Attention of class tokens to patches, for [`SelectionOps::select`].
    type Scores;
    /// Which patches are kept and where they go, and the scores that decided it.
    type Kept: Chosen;
    /// Rows of sequences that go through the decoder together.
    type Batch;
    /// Rows of a prompt that go on where others are dropped.
    type Retained;
}

/// A decode step in terms of an executor: from its caches to logits.
pub type Work<'a, O> =
    dyn FnMut(&mut O, &mut [<O as Executor>::Cache]) -> Result<<O as Executor>::Buffer> + 'a;

/// Weights, caches and memory.
pub trait MemoryOps: Executor {
    /// Makes a weight of a tensor of the checkpoint.
    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Self::Weight>;
    /// Makes a weight that is in no file.
    fn synthesize(&mut self, recipe: &Recipe, storage: Storage) -> Result<Self::Weight> {
        self.upload(&recipe.tensor()?, storage)
    }
    /// Allocates memory that was predicted to be needed: `bytes` more for weights, or a workspace of at least `bytes` in
    /// all (0 frees it). So an executor can allocate once.
    fn reserve(&mut self, purpose: Purpose, bytes: usize) -> Result<()>;
    /// Allocates a cache.
    fn cache(&mut self, shape: kv::Shape) -> Result<Self::Cache>;
    /// A copy for the host, row-major.
    fn download(&mut self, x: &Self::Buffer) -> Result<Vec<f32>>;
    /// A copy for the host to keep.
    fn save(&mut self, x: &Self::Buffer) -> Result<Saved>;
    /// The buffer that was saved, bit for bit.
    fn restore(&mut self, saved: &Saved) -> Result<Self::Buffer>;
    /// Memory in use, and the most so far.
    fn meter(&self) -> &Arc<Meter>;
    /// Bytes that are free, where that is known.
    fn available(&self) -> Option<usize>;
}

/// Matrix products with weights.
pub trait MatmulOps: Executor {
    /// f(x·Wᵀ + b).
    fn linear(
        &mut self,
        x: &Self::Buffer,
        layer: &Linear<Self::Weight>,
        activation: Option<Activation>,
    ) -> Result<Self::Buffer>;
    /// x·Wᵀ + b of each layer, with the bits that [`MatmulOps::linear`] gives to layers of one width.
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
    /// n·Wᵀ in f32, whatever the format of activations; n as in [`MatmulOps::normed_linear`], at most
    /// [`super::DECODE_ROWS`] rows.
    fn logits(
        &mut self,
        x: &Self::Buffer,
        norm: &Norm<Self::Weight>,
        head: &Linear<Self::Weight>,
    ) -> Result<Self::Buffer>;
}

/// Attention, and the cache that it reads.
pub trait AttentionOps: Executor {
    /// Attention of the class token to the patches, softmax over all T+1 keys, head by head: the heads are reduced later,
    /// by the selection.
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
    /// Attention that each patch receives, the mean over all queries of its partition, head by head. `q` has the rows of
    /// these partitions, `[partitions·T, D]` or with a class token `[partitions·(T+1), D]`, `k` at least as many; the class
    /// token asks like the others, what it receives is left out.
    fn received_scores(
        &mut self,
        q: &Self::Buffer,
        k: &Self::Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Self::Scores>;
    /// Bidirectional attention inside each partition; `q` has all rows `[P·(T+1), D]`, or the kept ones `[kept, D]`.
    fn vision_attention(
        &mut self,
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
        heads: usize,
        partitions: usize,
        kept: Option<&Self::Kept>,
    ) -> Result<Self::Buffer>;
    /// Rotates `q` and `k` by their positions and puts `k` and `v` into a layer of the cache; `k` is undefined
    /// afterwards.
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
    /// [`AttentionOps::rope_append`] and [`AttentionOps::attention`] of a decode step: of one new row of each sequence. `q` and `k` are
    /// undefined afterwards.
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
    /// x / √(mean of squares + ε) · w of each head in a row of heads as wide as w, in place.
    fn head_norm(&mut self, x: &mut Self::Buffer, norm: &Norm<Self::Weight>) -> Result<()>;
    /// sum += factors ⊙ x, where the factors are one for each column.
    fn scaled_add(
        &mut self,
        sum: &mut Self::Buffer,
        x: &Self::Buffer,
        factors: &Self::Weight,
    ) -> Result<()>;
    /// Each `each` rows of `x` as one, where they lie.
    fn join(&mut self, x: Self::Buffer, each: usize) -> Self::Buffer;
    /// The given rows of `x`.
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
    /// Chooses what to keep, by the scores and rows that the plan needs.
    fn select(&mut self, plan: &select::Plan, evidence: Evidence<'_, Self>) -> Result<Self::Kept>;
    /// What was chosen by this plan before. Scores are not there any more, and the rows are not gathered again.
    fn recall(&mut self, plan: &select::Plan, kept: &select::Kept) -> Result<Self::Kept>;
    /// The kept rows of `x` `[P·(T+1), D]` (of `[V, D]` where the plan uses projected rows): `[rows, D]`, patches
    /// partition after partition, then rows beside them. Each is a copy, or a combination where the method merges. Of a
    /// cell they are the rows of its patches, one after the other.
    fn gather_kept(&mut self, x: &Self::Buffer, kept: &Self::Kept) -> Result<Self::Buffer>;
    /// Combinations of rows of `x`.
    fn mix(&mut self, x: &Self::Buffer, mix: &select::Mix) -> Result<Self::Buffer>;
    /// The kept patches, for the host.
    fn kept(&mut self, kept: &Self::Kept) -> Result<select::Kept>;
    /// The scores that the selection used, reduced over the heads, for the host.
    fn scores(&mut self, kept: &Self::Kept) -> Result<select::Scores>;
}

/// The choice of visual rows behind a layer of the decoder (FastV).
pub trait FastvOps: Executor {
    /// Rows of a prompt that go on behind a layer: of the rows `among` the `keep` that its last row attends to most,
    /// by the sum over heads (which ranks as their mean does) of the softmax over all keys, ties to the lower row; and
    /// all others. The prompt is the one span of `batch` and begins its sequence; `q` is rotated, its keys are in the
    /// cache. `keep` ≤ rows `among`.
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
    /// Readies retained rows for the layers of a cache that has these `pages` for the sequence: in slots from 0 on, at
    /// the positions that they have had all along. They must stay as long as the batch is used.
    fn retained_batch(&mut self, retained: &Self::Retained, pages: Vec<u32>)
    -> Result<Self::Batch>;
    /// The retained rows' numbers in the prompt, ascending, for the host.
    fn retained(&mut self, retained: &Self::Retained) -> Result<Vec<u32>>;
}

/// Rows of sequences that go through the decoder together.
pub trait BatchOps: Executor {
    /// Readies rows that go through the layers of a cache together. `tokens` are their ids in a decode step, of which
    /// every span has one row: one for each span. Without them every span is at its slots' own positions.
    fn batch(
        &mut self,
        cache: &Self::Cache,
        tokens: Vec<u32>,
        spans: Vec<Span>,
    ) -> Result<Self::Batch>;
    /// Runs a decode step: logits `[spans, vocabulary]`. There is a batch for each cache, of the same tokens.
    ///
    /// `work` does the same with all batches of as many tokens, so an executor may record it once and repeat what it
    /// recorded. It waits for nothing and uploads nothing.
    fn step(
        &mut self,
        batches: &[Self::Batch],
        caches: &mut [Self::Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<Self::Buffer>;
}

/// The choice of the next token.
pub trait SampleOps: Executor {
    /// One token for each row of logits; the pair holds the settings and the token's index in its answer.
    fn sample(&mut self, logits: &Self::Buffer, how: &[(Sampling, usize)]) -> Result<Vec<u32>>;
}

/// Time: by stage, piece by piece, and at most.
pub trait MeasureOps: Executor {
    /// What follows belongs to `stage`.
    fn enter(&mut self, stage: Stage) -> Result<()>;
    /// What follows belongs to this layer of the stage, until the next layer or stage: for a profiler.
    fn layer(&mut self, _: Option<usize>) {}
    /// Records every piece of work from now on, timed one by one: for tables and timelines. Decode steps are not replayed
    /// meanwhile.
    fn profile(&mut self) -> Result<()>;
    /// The recorded pieces, in order; ends the recording.
    fn profiled(&mut self) -> Result<Vec<Entry>>;
    /// Keeps, from now on, what the last row of the first sequence attends to in every layer of the decoder: for studies.
    /// That takes memory which no plan counts; decode steps are not replayed meanwhile.
    fn record_attention(&mut self);
    /// What was kept, layer after layer and pass after pass: of every key the softmax's weight, as the mean over heads.
    /// Ends the recording.
    fn recorded_attention(&mut self) -> Vec<Vec<f32>>;
    /// What the device can do at most, measured now.
    fn ceiling(&mut self) -> Result<Ceiling>;
    /// Time spent by stage, as far as a stage has ended and all its work is done.
    fn clock(&mut self) -> Result<&mut Clock>;
}

/// All of it: what [`crate::model`] runs on.
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
