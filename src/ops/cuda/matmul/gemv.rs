//! Chooses kernel and grid of a GEMV: a product of 1 to 8 rows with weights, in decode steps and for the last row of a
//! prompt.
//!
//! The lower bound of its time is the bytes of the weights over the GPU's bandwidth: 4096 by 4096 in fp16, 33.6 MB,
//! take 97 µs on a P40 (346 GB/s), 105 µs on a T4 (320) and 7.0 µs on an H200 (4800). By Little's law, bandwidth ·
//! latency bytes must be in flight at any time. By the kernels' code a warp has 2 to 4 KB in flight. 12 to 16 warps of
//! the FMA kernels fit on a multiprocessor, and 24 of those on tensor cores, of which an H200 has 16 for 4096 columns:
//!
//! | GPU, kernels | multiprocessors | latency | needed on each | in flight: 1, 2 rows | 3 to 8 rows |
//! |---|---|---|---|---|---|
//! | P40, FMA | 30 | 500 ns | 5.8 KB | 64 KB | 24 KB |
//! | T4, tensor cores | 40 | 500 ns | 4.0 KB | 48 to 96 KB | the same |
//! | H200, tensor cores | 132 | 700 ns | 25 KB | 32 to 96 KB | the same |
//!
//! Issue slots are no limit either. For each 2 KB of weights and 8 rows, a warp of the FMA kernels executes 660
//! instructions with the norm and 490 without. On a P40's four schedulers that is 166 clocks, and the conversions from
//! fp16 take 190, where its memory needs 270. On tensor cores the number of rows does not matter: 155 and 45
//! instructions on an H200, 39 and 12 clocks of 97; 176 and 51 on a T4, 44 and 13 clocks of 380. So all kernels should
//! come near the lower bound for any number of rows, the more so the longer a product takes: of the 7 µs for 4096
//! columns on an H200, the latency of the first bytes is a tenth.

use super::Factors;
use crate::format::Dtype;
use crate::ops::DECODE_ROWS;
use crate::ops::cost::Cost;
use crate::ops::cuda::abi::HIRED_GEMV_ROWS;
use crate::ops::cuda::launch::Launch;

/// The largest number of rows of these kernels.
pub const ROWS: usize = DECODE_ROWS;
const _: () = assert!(ROWS == HIRED_GEMV_ROWS as usize);

/// Threads of a block of the FMA kernels, four warps: small blocks distribute the columns evenly.
const THREADS: u32 = 128;

/// Columns of a warp of the FMA kernels.
const COLS: usize = 4;

/// Threads of a block of the tensor-core kernels.
const MMA_THREADS: u32 = 256;

/// Columns of a block of the tensor-core kernels.
const MMA_COLS: usize = 16;

/// How a GEMV multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By fp32 multiply-add.
    Fma,
    /// By tensor cores, except where accesses of 16 bytes do not fit.
    Mma,
    /// int8 by dp4a.
    Dp4a,
    /// As [`Way::Fma`], with weights whose codes share scales in groups, by the kernels of this file.
    Groups(&'static str),
}

/// The epilogue of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// f(x·Wᵀ + b), or out += x·Wᵀ + b; up to three weights.
    Linear,
    /// silu(x·Gᵀ) · (x·Uᵀ).
    Gate,
    /// x·Wᵀ + b in fp32, whatever the format of x.
    Logits,
}

/// The shape of products that share their rows.
#[derive(Debug, Clone, Copy)]
pub struct Gemv {
    /// The epilogue.
    pub form: Form,
    /// Rows of x, 1 to [`ROWS`].
    pub rows: usize,
    /// Columns of x and of the weights.
    pub inner: usize,
    /// Rows of each weight; 0 for no weight.
    pub cols: [usize; 3],
    /// Distance between rows of x, in numbers.
    pub x_stride: usize,
    /// Distance between rows of each weight.
    pub w_stride: usize,
    /// Whether x, the weights and the norm's weight start at multiples of 16 bytes.
    pub aligned: bool,
}

impl Gemv {
    /// Whether the rows can be accessed in units of 16 bytes, without a rest.
    fn is_vector(&self, factors: Factors) -> bool {
        self.aligned && factors.fit([self.inner, self.w_stride], [self.inner, self.x_stride])
    }

    /// Tiles of a warp or block for `cols` columns of one weight, or of gate and up together.
    fn tiles(&self, cols: usize) -> usize {
        match self.form {
            Form::Gate => self.cols[0].div_ceil(cols / 2),
            Form::Linear | Form::Logits => self.cols.iter().map(|n| n.div_ceil(cols)).sum(),
        }
    }
}

/// The launch of a product, see [`super::choose::Kernels::gemv`].
pub(super) fn launch(way: Way, factors: Factors, product: &Gemv) -> Launch {
    assert!((1..=ROWS).contains(&product.rows), "{} rows are no product of few", product.rows);
    let form = match (product.form, factors.activations) {
        (Form::Gate, _) => "gate_",
        (Form::Logits, Dtype::F16) => "logits_",
        (Form::Logits, Dtype::F32) | (Form::Linear, _) => "",
    };
    let warps = (THREADS / 32) as usize;
    let by_threads =
        |file, variant: String| (file, variant, product.tiles(COLS).div_ceil(warps), THREADS);
    let rows = product.rows.next_power_of_two();
    let vector = product.is_vector(factors);
    let (file, variant, blocks, block) = match way {
        Way::Dp4a => by_threads("gemv_q8", format!("rows{rows}")),
        Way::Groups(file) => by_threads(file, format!("rows{rows}")),
        Way::Fma | Way::Mma if !vector => by_threads("gemv", "guarded".to_owned()),
        Way::Fma => by_threads("gemv", format!("vector_rows{rows}")),
        Way::Mma => ("gemv_mma", "mma".to_owned(), product.tiles(MMA_COLS), MMA_THREADS),
    };
    let (form, factors) = match (way, product.form) {
        // The names of these kernels contain the format of the result only.
        (Way::Dp4a, Form::Logits) => ("", Factors { activations: Dtype::F32, ..factors }),
        _ => (form, factors),
    };
    Launch {
        file,
        kernel: format!("gemv_{form}{variant}_{}", factors.name()),
        grid: [blocks as u32, 1, 1],
        block,
        shared: 0,
        cost: Cost::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::choose::Kernels;
    use super::*;

    const QKV: Gemv = Gemv {
        form: Form::Linear,
        rows: 1,
        inner: 4096,
        cols: [4096, 1024, 1024],
        x_stride: 4096,
        w_stride: 4096,
        aligned: true,
    };

    fn gemv(path: u32, dtype: Dtype, product: &Gemv) -> Launch {
        Kernels::of(path, dtype.into()).unwrap().gemv(product)
    }

    fn name(path: u32, product: Gemv, dtype: Dtype) -> String {
        gemv(path, dtype, &product).kernel
    }

    #[test]
    fn rows_choose_the_variant() {
        for path in [61, 75, 80] {
            let dtype = if path == 61 { Dtype::F16 } else { Dtype::F32 };
            let names: Vec<_> =
                (1..=8).map(|rows| name(path, Gemv { rows, ..QKV }, dtype)).collect();
            for (rows, variant) in [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)] {
                let dtype = dtype.name();
                assert_eq!(names[rows - 1], format!("gemv_vector_rows{variant}_{dtype}"));
            }
        }
    }

    #[test]
    fn tensor_cores_make_any_rows_alike() {
        for (path, rows) in [75, 80].into_iter().flat_map(|path| (1..=8).map(move |n| (path, n))) {
            let launch = gemv(path, Dtype::F16, &Gemv { rows, ..QKV });
            assert_eq!((launch.file, launch.kernel.as_str()), ("gemv_mma", "gemv_mma_f16"));
            assert_eq!((launch.grid, launch.block), ([384, 1, 1], 256));
        }
    }

    #[test]
    fn forms_have_their_kernels() {
        let gate = Gemv { form: Form::Gate, cols: [11008, 11008, 0], ..QKV };
        assert_eq!(name(61, gate, Dtype::F16), "gemv_gate_vector_rows1_f16");
        assert_eq!(name(75, gate, Dtype::F16), "gemv_gate_mma_f16");
        let logits = Gemv { form: Form::Logits, cols: [32064, 0, 0], rows: 3, ..QKV };
        assert_eq!(name(61, logits, Dtype::F16), "gemv_logits_vector_rows4_f16");
        assert_eq!(name(80, logits, Dtype::F16), "gemv_logits_mma_f16");
        assert_eq!(name(80, logits, Dtype::F32), "gemv_vector_rows4_f32");
    }

    #[test]
    fn what_no_vector_reaches_is_guarded() {
        for wrong in [
            Gemv { inner: 4100, ..QKV },
            Gemv { x_stride: 4100, ..QKV },
            Gemv { w_stride: 4100, ..QKV },
            Gemv { aligned: false, ..QKV },
        ] {
            for path in [61, 75, 80] {
                assert_eq!(name(path, wrong, Dtype::F16), "gemv_guarded_f16", "{wrong:?}");
            }
        }
        // A vector of f32 has four numbers.
        let odd = Gemv { inner: 4100, ..QKV };
        assert_eq!(name(61, odd, Dtype::F32), "gemv_vector_rows1_f32");
    }

    #[test]
    fn blocks_cover_the_columns() {
        let grid = |path, product: Gemv| gemv(path, Dtype::F16, &product).grid[0];
        let gate = Gemv { form: Form::Gate, cols: [11, 11, 0], ..QKV };
        for (path, blocks) in [(61, [1536 / 4, 1, 2, 2]), (80, [384, 2, 3, 2])] {
            assert_eq!(grid(path, QKV), blocks[0]);
            assert_eq!(grid(path, Gemv { cols: [1, 5, 0], ..QKV }), blocks[1]);
            assert_eq!(grid(path, Gemv { cols: [9, 5, 4], ..QKV }), blocks[2]);
            assert_eq!(grid(path, gate), blocks[3]);
        }
    }
}
