//! What a launch is: decided by pure functions, carried out by the queue.

use super::abi::{HIRED_NORM_KEPT, HIRED_NORM_THREADS, HIRED_ROW_THREADS};
use crate::format::{Dtype, Format, Formats};
use crate::ops::cost::{self, Cost};
use crate::{Error, Result};

/// Who makes large matrix products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gemm {
    /// cuBLAS for f16 on cards with tensor cores that mma reaches (code path 75 and newer) where it is installed and
    /// passes a trial, else the kernels of this crate.
    #[default]
    Auto,
    /// The kernels of this crate.
    Own,
    /// cuBLAS.
    Cublas,
}

impl Gemm {
    /// Whether the library multiplies in these formats; `None`: on some GPUs, where it is installed and works.
    ///
    /// # Errors
    /// [`Error::Request`] when it is asked for what it is not used for.
    #[doc(hidden)]
    pub fn library(self, formats: Formats) -> Result<Option<bool>> {
        let serves = (formats.weights, formats.activations) == (Format::F16, Dtype::F16);
        match self {
            Self::Own => Ok(Some(false)),
            Self::Auto => Ok(if serves { None } else { Some(false) }),
            Self::Cublas if serves => Ok(Some(true)),
            Self::Cublas => Err(Error::Request(
                "cuBLAS makes products in f16 only, f32 is the parity mode: use --gemm own or --dtype f16".into(),
            )),
        }
    }
}

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
    /// The same launch, whose cost is told by who asks for it.
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

/// LayerNorm or RMSNorm (`op`) of `rows` rows of `cols` numbers.
pub fn norm(op: &str, dtype: Dtype, rows: usize, cols: usize) -> Launch {
    let kept = HIRED_NORM_KEPT as usize;
    let vector = is_vector(dtype, cols, cols) && cols <= kept * HIRED_NORM_THREADS as usize;
    let threads = if vector { cols.div_ceil(kept) } else { cols.div_ceil(4) };
    let block = (threads as u32).clamp(1, HIRED_NORM_THREADS).next_multiple_of(WARP);
    Launch {
        file: "norm",
        kernel: format!("{op}_{}_{}", variant(vector), dtype.name()),
        grid: [rows as u32, 1, 1],
        block,
        shared: 0,
        cost: cost::pass(rows * cols, dtype.size()),
    }
}

/// Rotation and append of `rows` rows with so many heads of queries, keys and values together.
pub fn rope(dtype: Dtype, rows: usize, heads: usize, head_dim: usize) -> Launch {
    let half = head_dim / 2;
    let vector = is_vector(dtype, half, half);
    let lanes = if vector { dtype.lanes() } else { 1 };
    let tasks = (heads * half / lanes).max(1) as u32;
    let block = tasks.min(HIRED_ROW_THREADS).next_multiple_of(WARP);
    // A few rows alone would leave most of a card idle.
    let share = if rows < 32 { tasks.div_ceil(block) } else { 1 };
    Launch {
        file: "rope",
        kernel: format!("rope_append_{}_{}", variant(vector), dtype.name()),
        grid: [rows as u32, share, 1],
        block,
        shared: (half * size_of::<[f32; 2]>()) as u32,
        cost: cost::pass(rows * heads * head_dim, dtype.size()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_keep_what_their_threads_can_hold() {
        let names = |cols| {
            let launch = norm("rms_norm", Dtype::F16, 7, cols);
            (launch.kernel, launch.grid[0], launch.block)
        };
        assert_eq!(names(4096), ("rms_norm_vector_f16".into(), 7, 256));
        assert_eq!(names(8192), ("rms_norm_vector_f16".into(), 7, 512));
        assert_eq!(names(8200), ("rms_norm_guarded_f16".into(), 7, 512));
        assert_eq!(names(36), ("rms_norm_guarded_f16".into(), 7, 32));
        assert_eq!(norm("layer_norm", Dtype::F32, 1, 36).kernel, "layer_norm_vector_f32");
    }

    #[test]
    fn rotation_shares_few_rows_between_blocks() {
        let many = rope(Dtype::F16, 640, 96, 128);
        assert_eq!(
            (many.kernel.as_str(), many.grid, many.block),
            ("rope_append_vector_f16", [640, 1, 1], 256)
        );
        let one = rope(Dtype::F16, 1, 96, 128);
        assert_eq!((one.grid, one.shared), ([1, 3, 1], 512));
        assert_eq!(rope(Dtype::F16, 1, 3, 6).kernel, "rope_append_guarded_f16");
    }
}
