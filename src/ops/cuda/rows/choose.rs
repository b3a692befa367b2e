//! Chooses the kernels for norms and rotary embedding.

use crate::format::Dtype;
use crate::ops::cost;
use crate::ops::cuda::abi::{HIRED_NORM_KEPT, HIRED_NORM_THREADS, HIRED_ROW_THREADS};
use crate::ops::cuda::launch::{Launch, WARP, is_vector, variant};

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

/// The launch that rotates and appends `rows` rows, where queries, keys and values have `heads` heads together, and `turned`
/// pairs of each head turn.
pub fn rope(dtype: Dtype, rows: usize, heads: usize, head_dim: usize, turned: usize) -> Launch {
    let half = head_dim / 2;
    let vector = is_vector(dtype, half, turned);
    let lanes = if vector { dtype.lanes() } else { 1 };
    let tasks = (heads * half / lanes).max(1) as u32;
    let block = tasks.min(HIRED_ROW_THREADS).next_multiple_of(WARP);
    // With a few rows, a block for each row would leave most of a GPU idle, so the heads of a row are divided.
    let share = if rows < 32 { tasks.div_ceil(block) } else { 1 };
    Launch {
        file: "rope",
        kernel: format!("rope_append_{}_{}", variant(vector), dtype.name()),
        grid: [rows as u32, share, 1],
        block,
        shared: (turned * size_of::<[f32; 2]>()) as u32,
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
        let many = rope(Dtype::F16, 640, 96, 128, 64);
        assert_eq!(
            (many.kernel.as_str(), many.grid, many.block),
            ("rope_append_vector_f16", [640, 1, 1], 256)
        );
        let one = rope(Dtype::F16, 1, 96, 128, 64);
        assert_eq!((one.grid, one.shared), ([1, 3, 1], 512));
        assert_eq!(rope(Dtype::F16, 1, 3, 6, 3).kernel, "rope_append_guarded_f16");
        let some = |head_dim, turned| rope(Dtype::F16, 1, 3, head_dim, turned).kernel;
        assert_eq!(some(80, 16), "rope_append_vector_f16");
        assert_eq!(some(80, 20), "rope_append_guarded_f16");
    }
}
