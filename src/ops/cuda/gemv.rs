//! Products of 1 to 8 rows with weights: decoding, and the last row of a prompt.
//!
//! The floor is the bytes of the weights over the card's bandwidth: 4096 by 4096 in fp16, 33.6 MB, take 97 µs on a P40
//! (346 GB/s), 105 µs on a T4 (320) and 7.0 µs on an H200 (4800). By Little's law bandwidth · latency must be under way
//! at any time; by the kernels' code 2 to 4 KB are, of each of 12 to 16 warps on a multiprocessor (their registers):
//!
//! | | multiprocessors | latency | needed on each | under way: 1, 2 rows | 3 to 8 rows |
//! |---|---|---|---|---|---|
//! | P40 | 30 | 500 ns | 5.8 KB | 64 KB | 24 KB |
//! | T4 | 40 | 500 ns | 4.0 KB | 64 KB | 24 KB |
//! | H200 | 132 | 700 ns | 25 KB | 32 to 64 KB | 16 to 24 KB |
//!
//! An H200 has 8 warps on each multiprocessor for 4096 columns and 12 to 16 for more. So P40 and T4 should be at the floor
//! for any number of rows, an H200 for 1 and 2 rows; from 3 rows on 4096 columns may fall to two thirds of its
//! bandwidth. At 8 rows instructions are a limit there too: 570 with the norm and 430 without for each 2 KB of a warp
//! take its four schedulers 142 and 107 clocks, the memory 97. (T4: 107 of 380, P40: 166 and, for the conversions from
//! fp16, 190 of 270.)

use super::abi::HIRED_GEMV_ROWS;
use super::launch::{Launch, Number};
use crate::ops::DECODE_ROWS;
use crate::ops::cost::Cost;

/// Most rows that these kernels take.
pub const ROWS: usize = DECODE_ROWS;
const _: () = assert!(ROWS == HIRED_GEMV_ROWS as usize);

/// Threads of a block, four warps: small blocks share the columns out evenly.
const THREADS: u32 = 128;

/// Columns of a warp.
const COLS: usize = 4;

/// What becomes of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// f(x·Wᵀ + b), or added to what is there; up to three weights.
    Linear,
    /// silu(x·Gᵀ) · (x·Uᵀ).
    Gate,
    /// x·Wᵀ + b in fp32, whatever the format of x.
    Logits,
}

/// The shape of products that share their rows.
#[derive(Debug, Clone, Copy)]
pub struct Gemv {
    /// What becomes of the sums.
    pub form: Form,
    /// Rows of x, 1 to [`ROWS`].
    pub rows: usize,
    /// Columns of x and of the weights.
    pub inner: usize,
    /// Rows of each weight; 0 where there is none.
    pub cols: [usize; 3],
    /// Numbers between the starts of two rows of x.
    pub x_stride: usize,
    /// The same of the weights.
    pub w_stride: usize,
    /// x, the weights and the norm's weight start at multiples of 16 bytes.
    pub aligned: bool,
}

impl Gemv {
    /// Whether accesses of 16 bytes reach all numbers and no others.
    fn is_vector(&self, number: Number) -> bool {
        let lanes = 16 / number.size();
        let sizes = [self.inner, self.x_stride, self.w_stride];
        self.aligned && sizes.iter().all(|size| size.is_multiple_of(lanes))
    }

    /// Warps that share the columns.
    fn warps(&self) -> usize {
        match self.form {
            Form::Gate => self.cols[0].div_ceil(COLS / 2),
            Form::Linear | Form::Logits => self.cols.iter().map(|n| n.div_ceil(COLS)).sum(),
        }
    }

    /// Bytes of the weights, which are read once, and FLOP.
    pub fn cost(&self, number: Number) -> (usize, usize) {
        let weights = self.inner * self.cols.iter().sum::<usize>();
        (weights * number.size(), 2 * weights * self.rows)
    }
}

/// The launch of `product`. The same kernels serve every path; a row's bits do not depend on how many there are.
///
/// # Panics
/// For more rows than [`ROWS`], or none.
pub fn gemv(_path: u32, number: Number, product: &Gemv) -> Launch {
    assert!((1..=ROWS).contains(&product.rows), "{} rows are no product of few", product.rows);
    let form = match (product.form, number) {
        (Form::Gate, _) => "gate_",
        (Form::Logits, Number::F16) => "logits_",
        (Form::Logits, Number::F32) | (Form::Linear, _) => "",
    };
    let variant = match product.is_vector(number) {
        true => format!("vector_rows{}", product.rows.next_power_of_two()),
        false => "guarded".to_owned(),
    };
    let warps = (THREADS / 32) as usize;
    Launch {
        file: "gemv",
        kernel: format!("gemv_{form}{variant}_{}", number.name()),
        grid: [product.warps().div_ceil(warps) as u32, 1, 1],
        block: THREADS,
        shared: 0,
        cost: Cost::default(),
    }
}

#[cfg(test)]
mod tests {
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

    fn name(product: Gemv, number: Number) -> String {
        gemv(61, number, &product).kernel
    }

    #[test]
    fn rows_choose_the_variant() {
        let names: Vec<_> = (1..=8).map(|rows| name(Gemv { rows, ..QKV }, Number::F16)).collect();
        for (rows, variant) in [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)] {
            assert_eq!(names[rows - 1], format!("gemv_vector_rows{variant}_f16"));
        }
    }

    #[test]
    fn forms_have_their_kernels() {
        let gate = Gemv { form: Form::Gate, cols: [11008, 11008, 0], ..QKV };
        assert_eq!(name(gate, Number::F16), "gemv_gate_vector_rows1_f16");
        let logits = Gemv { form: Form::Logits, cols: [32064, 0, 0], rows: 3, ..QKV };
        assert_eq!(name(logits, Number::F16), "gemv_logits_vector_rows4_f16");
        assert_eq!(name(logits, Number::F32), "gemv_vector_rows4_f32");
    }

    #[test]
    fn what_no_vector_reaches_is_guarded() {
        for wrong in [
            Gemv { inner: 4100, ..QKV },
            Gemv { x_stride: 4100, ..QKV },
            Gemv { w_stride: 4100, ..QKV },
            Gemv { aligned: false, ..QKV },
        ] {
            assert_eq!(name(wrong, Number::F16), "gemv_guarded_f16", "{wrong:?}");
        }
        // Four numbers are a vector of f32.
        assert_eq!(name(Gemv { inner: 4100, ..QKV }, Number::F32), "gemv_vector_rows1_f32");
    }

    #[test]
    fn warps_cover_the_columns() {
        let grid = |product: Gemv| gemv(80, Number::F16, &product).grid;
        assert_eq!(grid(QKV), [1536 / 4, 1, 1]);
        assert_eq!(grid(Gemv { cols: [1, 5, 0], ..QKV }), [1, 1, 1]);
        assert_eq!(grid(Gemv { cols: [9, 5, 4], ..QKV }), [2, 1, 1]);
        let gate = Gemv { form: Form::Gate, cols: [11, 11, 0], ..QKV };
        assert_eq!(grid(gate), [2, 1, 1]);
    }
}
