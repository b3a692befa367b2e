//! The operations that executors implement: the only interface that [`crate::model`] uses.
//!
//! Two executors compute ([`cpu::Cpu`] and `cuda::Cuda`); one only counts work and memory ([`count::Counter`]). Buffers
//! are row-major matrices of activations; weights are as the checkpoint stores them, `[out, in]`. Every operation
//! allocates its result, so that counting allocations counts the memory.

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

/// The most sequences decoded together. Up to this number of rows, an executor computes every row of a matrix product
/// with the same bits as the row alone.
pub const DECODE_ROWS: usize = 8;

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Factor of a matrix product, or table of rows: stays in its format.
    Matrix,
    /// Bias, norm, position or newline: small, so widened to f32 once.
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
    /// Number of the span's first row in the batch.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Slot of the first row in the sequence's cache; the others follow it.
    pub slot: usize,
    /// Position of the first row in its sequence, for the rotary embedding. It exceeds `slot` by the number of the
    /// sequence's rows that are not in this cache. The other rows have the positions after it, except in a batch of
    /// [`FastvOps::retained_batch`], whose rows keep their original positions.
    pub position: usize,
    /// The sequence's pages, enough for `slot + rows` slots.
    pub pages: Vec<u32>,
}

impl Span {
    /// Number of keys that the last row of the span attends to, its own included.
    pub fn context(&self) -> usize {
        self.slot + self.rows
    }
}

/// Rows and columns of a tensor as a matrix: its first dimension, and the product of the others; a vector is one row.
fn extent(shape: &[usize]) -> (usize, usize) {
    match shape {
        [rows, rest @ ..] if !rest.is_empty() => (*rows, rest.iter().product()),
        _ => (1, shape.iter().product()),
    }
}

/// Size of a buffer.
pub trait Extent {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Numbers in a row.
    fn cols(&self) -> usize;
}

/// The number of layers in a cache.
pub trait Layered {
    /// Number of layers.
    fn layers(&self) -> usize;
}

/// A batch of rows, on the host.
#[derive(Debug)]
pub struct Batch {
    /// One id for each span, for embedding; or none.
    pub tokens: Vec<u32>,
    /// The sequences' spans.
    pub spans: Vec<Span>,
    /// Rotary position of each row.
    pub positions: Vec<usize>,
}

impl Batch {
    /// A batch whose rows have the positions of their spans.
    pub fn new(tokens: Vec<u32>, spans: Vec<Span>) -> Self {
        let positions = spans.iter().flat_map(|s| s.position..s.position + s.rows).collect();
        Self { tokens, spans, positions }
    }
}
