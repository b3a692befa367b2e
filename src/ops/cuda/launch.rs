//! Kernel launches as data: computed by pure functions, executed by the queue.

use crate::format::Dtype;
use crate::ops::cost::Cost;
use crate::ops::cuda::abi::HIRED_ROW_THREADS;

/// Threads of a warp.
pub const WARP: u32 = 32;

/// A kernel, its grid, its shared memory and its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The source file in `kernels/`, without extension.
    pub file: &'static str,
    /// The kernel's name.
    pub kernel: String,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads per block.
    pub block: u32,
    /// Bytes of dynamic shared memory per block.
    pub shared: u32,
    /// Lower bound of its work, see [`crate::ops::cost`].
    pub cost: Cost,
}

/// Whether every number can be accessed in units of 16 bytes, in rows that are `stride` numbers apart and start at
/// multiples of 16 bytes.
pub fn is_vector(dtype: Dtype, cols: usize, stride: usize) -> bool {
    let lanes = dtype.lanes();
    cols.is_multiple_of(lanes) && stride.is_multiple_of(lanes)
}

/// The part of a kernel's name for vector access or single numbers.
pub fn variant(vector: bool) -> &'static str {
    if vector { "vector" } else { "guarded" }
}

impl Launch {
    /// Sets the cost estimate.
    pub fn costing(self, cost: Cost) -> Self {
        Self { cost, ..self }
    }

    /// A block for each row, whose threads each take `lanes` of `cols` numbers at a time: for the kernels of vision,
    /// rows and activation.
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
