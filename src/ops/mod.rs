//! What an executor can compute: the only interface that [`crate::model`] uses.
//!
//! Two executors compute ([`cpu::Cpu`] and `cuda::Cuda`), one only counts ([`count::Counter`]).
//! Buffers are matrices of activations, row-major; weights are as the checkpoint stores them,
//! `[out, in]`. Every operation allocates its result, so that counting allocations is counting memory.

pub mod arena;
pub mod ceiling;
pub mod clock;
pub mod cost;
pub mod count;
pub mod cpu;
pub mod cuda;
mod evidence;
mod families;
pub mod footprint;
pub mod gpu;
pub mod memory;
pub mod profile;
pub mod sample;
mod saved;
pub mod shares;

pub use evidence::{Chosen, Evidence, Visual, Widths};
pub use families::{
    AttentionOps, BatchOps, Executor, FastvOps, MatmulOps, MeasureOps, MemoryOps, Ops, RowOps,
    SampleOps, SelectionOps, Work,
};
pub use saved::Saved;

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

/// Consecutive rows of one sequence inside a batch of rows.
#[derive(Debug, Clone)]
pub struct Span {
    /// First row of the batch that belongs to the sequence.
    pub row: usize,
    /// Rows.
    pub rows: usize,
    /// Place of the first row in the sequence's cache, where the others follow it.
    pub slot: usize,
    /// Position of the first row in its sequence, by which it is rotated. It is beyond `slot` by the rows of the sequence
    /// that this cache has never seen. The others follow it, but in the batch of [`FastvOps::retained_batch`], whose rows
    /// keep the positions they had.
    pub position: usize,
    /// The sequence's pages, long enough for `slot + rows`.
    pub pages: Vec<u32>,
}

impl Span {
    /// Keys that the last row of the span may see, its own included.
    pub fn context(&self) -> usize {
        self.slot + self.rows
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

/// Layers of a cache.
pub trait Layered {
    /// Their number.
    fn layers(&self) -> usize;
}

/// Rows of sequences on the host.
#[derive(Debug)]
pub struct Batch {
    /// Ids to embed, one for each span; or none.
    pub tokens: Vec<u32>,
    /// The sequences' rows.
    pub spans: Vec<Span>,
    /// Of each row: the position that it is rotated by.
    pub positions: Vec<usize>,
}

impl Batch {
    /// Rows at the positions that the spans name.
    pub fn new(tokens: Vec<u32>, spans: Vec<Span>) -> Self {
        let positions = spans.iter().flat_map(|s| s.position..s.position + s.rows).collect();
        Self { tokens, spans, positions }
    }
}
