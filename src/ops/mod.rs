//! What an executor can compute: the only words in which [`crate::model`] speaks.
//!
//! One executor computes ([`cpu::Cpu`]), one only counts ([`count::Counter`]).
//! Buffers are matrices of activations, row-major; weights are as the checkpoint stores them,
//! `[out, in]`. Every operation allocates its result, so that counting allocations is counting memory.

pub mod arena;
pub mod ceiling;
pub mod clock;
pub mod cost;
pub mod count;
pub mod cpu;
pub mod cuda;
pub mod footprint;
pub mod gpu;
pub mod memory;
pub mod profile;
pub mod sample;

use crate::Result;
use crate::checkpoint::Tensor;
use crate::checkpoint::synth::Recipe;
use crate::config::Activation;
use crate::image::{Normalization, Tiles};
use crate::kv;
use crate::select;
use ceiling::Ceiling;
use clock::{Clock, Stage};
use memory::{Meter, Purpose};
use profile::Entry;
use sample::Sampling;
use std::sync::Arc;

/// Sequences decoded together: up to this many rows an executor gives every row of a matrix product
/// the bits it has alone.
pub const DECODE_ROWS: usize = 8;

/// How a weight is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Factor of a matrix product or table of rows: stays as stored.
    Matrix,
    /// Bias, norm, position or newline: small, widened to f32 once.
    Vector,
}

/// A linear layer, y = x·Wᵀ + b.
#[derive(Debug)]
pub struct Linear<W> {
    /// `[out, in]`.
    pub weight: W,
    /// `[out]`.
    pub bias: Option<W>,
}

/// LayerNorm (with bias) or RMSNorm (without).
#[derive(Debug)]
pub struct Norm<W> {
    /// `[width]`.
    pub weight: W,
    /// `[width]`.
    pub bias: Option<W>,
    /// Added to the variance, or to the mean square.
    pub eps: f32,
}

/// Consecutive positions of one sequence inside a batch of rows.
#[derive(Debug, Clone)]
pub struct Span {
    /// First row of the batch that belongs to the sequence.
    pub row: usize,
    /// Rows.
    pub rows: usize,
    /// Position of the first row in its sequence.
    pub position: usize,
    /// The sequence's pages, long enough for `position + rows`.
    pub pages: Vec<u32>,
}

impl Span {
    /// Positions that the last row of the span may see, itself included.
    pub fn context(&self) -> usize {
        self.position + self.rows
    }
}

/// The visual rows of one prompt.
pub struct Visual<'a, O: Ops + ?Sized> {
    /// `[rows, hidden]`, projected, as [`Ops::gather_kept`] has them.
    pub rows: &'a O::Buffer,
    /// Where each of them goes.
    pub kept: &'a O::Kept,
    /// `[hidden]`, put wherever the order has a newline.
    pub newline: Option<&'a O::Weight>,
}

/// What a selection looks at, as far as it does: see [`select::Evidence`].
pub struct Evidence<'a, O: Ops + ?Sized> {
    /// Attention of the full image's class token.
    pub init: Option<&'a O::Scores>,
    /// Attention of every partition's class token.
    pub last: Option<&'a O::Scores>,
    /// `[P, D]`: queries of the class tokens.
    pub queries: Option<&'a O::Buffer>,
    /// `[P·(T+1), D]`: keys of the same block.
    pub keys: Option<&'a O::Buffer>,
    /// Heads that a row of keys is cut into.
    pub heads: usize,
    /// `[P·(T+1), D]`.
    pub features: Option<&'a O::Buffer>,
    /// `[V, H]`: the valid patches, partition after partition.
    pub projected: Option<&'a O::Buffer>,
}

impl<O: Ops + ?Sized> Default for Evidence<'_, O> {
    fn default() -> Self {
        Self {
            init: None,
            last: None,
            queries: None,
            keys: None,
            heads: 0,
            features: None,
            projected: None,
        }
    }
}

impl<O: Ops + ?Sized> Evidence<'_, O> {
    /// Numbers in its rows.
    pub fn widths(&self) -> Widths {
        let cols = |x: Option<&O::Buffer>| x.map_or(0, Extent::cols);
        Widths {
            heads: self.heads,
            keys: cols(self.keys),
            features: cols(self.features),
            projected: cols(self.projected),
        }
    }
}

/// Numbers in the rows of [`Evidence`]; 0 where it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Widths {
    /// Heads that a row of keys is cut into.
    pub heads: usize,
    /// Of keys and queries.
    pub keys: usize,
    /// Of features.
    pub features: usize,
    /// Of projected features.
    pub projected: usize,
}

impl Widths {
    /// The widest row.
    pub fn widest(&self) -> usize {
        self.keys.max(self.features).max(self.projected)
    }
}

/// A tensor as a matrix: the first dimension by all others; a vector is one row.
fn extent(shape: &[usize]) -> (usize, usize) {
    match shape {
        [rows, rest @ ..] if !rest.is_empty() => (*rows, rest.iter().product()),
        _ => (1, shape.iter().product()),
    }
}

/// Size of a buffer.
pub trait Extent {
    /// Rows.
    fn rows(&self) -> usize;
    /// Numbers in a row.
    fn cols(&self) -> usize;
}

/// Rows of sequences on the host.
#[derive(Debug)]
pub struct Batch {
    /// Ids to embed, one for each span; or none.
    pub tokens: Vec<u32>,
    /// The sequences' rows.
    pub spans: Vec<Span>,
}

/// The outcome of a selection, wherever it lives.
pub trait Chosen {
    /// Rows kept, over all partitions: patches, and rows beside them.
    fn rows(&self) -> usize;
    /// Rows they and their newlines take in the decoder's prompt.
    fn slots(&self) -> usize;
    /// Whether a device had to wait for the host, to choose or to learn how many rows there are.
    fn waited(&self) -> bool;
}

/// A decode step in the words of an executor: from its cache to logits.
pub type Work<'a, O> = dyn FnMut(&mut O, &mut <O as Ops>::Cache) -> Result<<O as Ops>::Buffer> + 'a;

/// An executor.
pub trait Ops {
    /// A matrix of activations.
    type Buffer: Extent;
    /// A weight, ready for use.
    type Weight;
    /// Keys and values of all layers.
    type Cache;
    /// Attention of class tokens to patches, for [`Ops::select`].
    type Scores;
    /// Which patches are kept and where they go, and the scores that decided it.
    type Kept: Chosen;
    /// Rows of sequences that go through the decoder together.
    type Batch;

    /// Takes a tensor of the checkpoint.
    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Self::Weight>;
    /// Takes a tensor that nobody has yet: makes it.
    fn synthesize(&mut self, recipe: &Recipe, storage: Storage) -> Result<Self::Weight> {
        self.upload(&recipe.tensor(), storage)
    }
    /// Takes memory that is about to be needed: `bytes` more for weights, or a workspace of at least `bytes`
    /// in all (0 gives it back). What was predicted, so that an executor can take it once.
    fn reserve(&mut self, purpose: Purpose, bytes: usize) -> Result<()>;
    /// Allocates a cache.
    fn cache(&mut self, shape: kv::Shape) -> Result<Self::Cache>;

    /// Normalised pixels of every patch: `[P·T, 3·patch²]`, channel first, then row, then column.
    fn patches(
        &mut self,
        tiles: &Tiles,
        norm: &Normalization,
        patch: usize,
    ) -> Result<Self::Buffer>;
    /// Puts the class token before each partition's patches `[P·T, D]` and adds positions: `[P·(T+1), D]`.
    fn vision_tokens(
        &mut self,
        patches: &Self::Buffer,
        class: &Self::Weight,
        position: &Self::Weight,
        partitions: usize,
    ) -> Result<Self::Buffer>;
    /// (x − mean) / √(variance + ε) · w + b, row by row.
    fn layer_norm(&mut self, x: &Self::Buffer, norm: &Norm<Self::Weight>) -> Result<Self::Buffer>;
    /// f(x·Wᵀ + b).
    fn linear(
        &mut self,
        x: &Self::Buffer,
        layer: &Linear<Self::Weight>,
        activation: Option<Activation>,
    ) -> Result<Self::Buffer>;
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
    /// silu(n·Gᵀ) · (n·Uᵀ), n as in [`Ops::normed_linear`].
    fn normed_swiglu(
        &mut self,
        x: &Self::Buffer,
        norm: &Norm<Self::Weight>,
        gate: &Linear<Self::Weight>,
        up: &Linear<Self::Weight>,
    ) -> Result<Self::Buffer>;
    /// n·Wᵀ in f32, whatever the format of activations; n as in [`Ops::normed_linear`], at most
    /// [`DECODE_ROWS`] rows.
    fn logits(
        &mut self,
        x: &Self::Buffer,
        norm: &Norm<Self::Weight>,
        head: &Linear<Self::Weight>,
    ) -> Result<Self::Buffer>;

    /// Attention of the class token to the patches, softmax over all T+1 keys, head by head: what becomes of the heads is
    /// the selection's word.
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

    /// Chooses what to keep; what is looked at is the plan's word.
    fn select(&mut self, plan: &select::Plan, evidence: Evidence<'_, Self>) -> Result<Self::Kept>;
    /// The kept rows of `x` `[P·(T+1), D]` (of `[V, D]` where the plan looks at projected rows): `[rows, D]`, patches
    /// partition after partition, then rows beside them. Each is a copy, or a combination where the method merges.
    fn gather_kept(&mut self, x: &Self::Buffer, kept: &Self::Kept) -> Result<Self::Buffer>;
    /// The given rows of `x`.
    fn gather(&mut self, x: &Self::Buffer, rows: &[usize]) -> Result<Self::Buffer>;

    /// Rows of the prompt: embeddings of `before`, the visual rows in decoder order, embeddings of `after`.
    fn interleave(
        &mut self,
        table: &Self::Weight,
        before: &[u32],
        visual: Option<Visual<'_, Self>>,
        after: &[u32],
    ) -> Result<Self::Buffer>;
    /// Readies rows that go through the decoder together. `tokens` are their ids if [`Ops::embed`] is to be asked for
    /// them: one for each span, and every span then has one row.
    fn batch(&mut self, tokens: Vec<u32>, spans: Vec<Span>) -> Result<Self::Batch>;
    /// Embeddings of a batch's tokens: `[spans, width]`.
    fn embed(&mut self, table: &Self::Weight, batch: &Self::Batch) -> Result<Self::Buffer>;
    /// Runs a decode step: logits `[spans, vocabulary]`.
    ///
    /// `work` does the same with every batch of as many tokens, so an executor may record it once and repeat what it
    /// recorded. It waits for nothing and uploads nothing.
    fn step(
        &mut self,
        batch: &Self::Batch,
        cache: &mut Self::Cache,
        work: &mut Work<'_, Self>,
    ) -> Result<Self::Buffer>;
    /// Rotates `q` and `k` by their positions and puts `k` and `v` into the cache; `k` is undefined afterwards.
    #[allow(clippy::too_many_arguments)]
    fn rope_append(
        &mut self,
        q: &mut Self::Buffer,
        k: &mut Self::Buffer,
        v: &Self::Buffer,
        cache: &mut Self::Cache,
        layer: usize,
        batch: &Self::Batch,
        theta: f32,
    ) -> Result<()>;
    /// Causal attention of every row to its sequence's cache: `[rows, heads · head_dim]`.
    fn attention(
        &mut self,
        q: &Self::Buffer,
        cache: &Self::Cache,
        layer: usize,
        batch: &Self::Batch,
    ) -> Result<Self::Buffer>;
    /// One token for each row of logits; the pair says how, and the how-manieth of its answer it is.
    fn sample(&mut self, logits: &Self::Buffer, how: &[(Sampling, usize)]) -> Result<Vec<u32>>;

    /// A copy for the host, row-major.
    fn download(&mut self, x: &Self::Buffer) -> Result<Vec<f32>>;
    /// The kept patches, for the host.
    fn kept(&mut self, kept: &Self::Kept) -> Result<select::Kept>;
    /// The scores that the selection looked at, its heads become one, for the host.
    fn scores(&mut self, kept: &Self::Kept) -> Result<select::Scores>;

    /// What follows belongs to `stage`.
    fn enter(&mut self, stage: Stage) -> Result<()>;
    /// What follows belongs to this layer of the stage, until the next layer or stage: for a profiler.
    fn layer(&mut self, _: Option<usize>) {}
    /// Notes every piece of work from now on, timed one by one: for tables and timelines. Decode steps are not replayed
    /// meanwhile.
    fn profile(&mut self) -> Result<()>;
    /// What was noted, in order; nothing is from now on.
    fn profiled(&mut self) -> Result<Vec<Entry>>;
    /// What the device can do at most, measured now.
    fn ceiling(&mut self) -> Result<Ceiling>;
    /// Time spent by stage, as far as a stage has ended and all its work is done.
    fn clock(&mut self) -> Result<&mut Clock>;
    /// Memory taken so far.
    fn meter(&self) -> &Arc<Meter>;
    /// Bytes that can still be taken, where that is known.
    fn available(&self) -> Option<usize>;
}
