//! What a launch is: decided by pure functions, carried out by the queue.

use crate::format::Dtype;
use crate::ops::cost::Cost;
use crate::ops::cuda::abi::HIRED_ROW_THREADS;

/// Threads of a warp.
pub const WARP: u32 = 32;

/// A kernel and how many threads run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The source file in `kernels/`, without its ending.
    pub file: &'static str,
    /// Its name there.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// What it costs at least, see [`crate::ops::cost`].
    pub cost: Cost,
}

/// Whether whole 16-byte accesses reach every number: of rows `stride` numbers apart, at addresses that are multiples
/// of 16.
pub fn is_vector(dtype: Dtype, cols: usize, stride: usize) -> bool {
    let lanes = dtype.lanes();
    cols.is_multiple_of(lanes) && stride.is_multiple_of(lanes)
}

/// The name's part for the kind of access.
pub fn variant(vector: bool) -> &'static str {
    if vector { "vector" } else { "guarded" }
}

impl Launch {
    /// Sets the cost estimate.
    pub fn costing(self, cost: Cost) -> Self {
        Self { cost, ..self }
    }

    /// A block for each row, each thread `lanes` of `cols` numbers at a time: kernels of vision, rows and activation.
    pub fn rows(
        file: &'static str,
        kernel: String,
        rows: usize,
        cols: usize,
        lanes: usize,
    ) -> Self {
        let threads = cols.div_ceil(lanes).min(HIRED_ROW_THREADS as usize) as u32;
        let block = threads.max(1).next_multiple_of(WARP);
        Self { file, kernel, grid: [rows as u32, 1, 1], block, shared: 0, cost: Cost::default() }
    }
}
