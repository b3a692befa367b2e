//! Numbers in the formats of checkpoint and cache, and the rows of weights. This is the only place of the CPU executor
//! that distinguishes the formats of weights.

use super::grouped::Grouped;
use super::q8::Q8;
use super::simd::Isa;
use crate::format::Format;
use half::{bf16, f16};
use std::ops::Range;

/// Activations that stay in the level-1 cache beside what is read of the weights: 16 KiB of them. Up to there one stored
/// row at a time is quicker, since the processor's prefetcher then follows one stream.
const NEAR: usize = 4096;

/// Consecutive numbers in their stored format.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// bfloat16: the upper half of single precision.
    Bf16(&'a [bf16]),
}

impl<'a> Numbers<'a> {
    /// Views bytes as numbers of a format; `None` if its numbers share scales. The bytes must start at a multiple of
    /// [`Format::align`].
    pub fn of(format: Format, bytes: &'a [u8]) -> Option<Self> {
        match format {
            Format::F32 => Some(Self::F32(bytemuck::cast_slice(bytes))),
            Format::F16 => Some(Self::F16(bytemuck::cast_slice(bytes))),
            Format::Bf16 => Some(Self::Bf16(bytemuck::cast_slice(bytes))),
            _ => None,
        }
    }

    /// A part of the numbers.
    pub fn part(self, range: Range<usize>) -> Numbers<'a> {
        match self {
            Self::F32(x) => Numbers::F32(&x[range]),
            Self::F16(x) => Numbers::F16(&x[range]),
            Self::Bf16(x) => Numbers::Bf16(&x[range]),
        }
    }
}

/// A weight in its stored format, row by row.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// Floating-point numbers, and how many make a row.
    Dense(Numbers<'a>, usize),
    /// int8 with a scale for each row.
    Q8(Q8<'a>),
    /// Integers with a scale for each group of a row.
    Grouped(Grouped<'a>),
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `cols` numbers. Their bytes must start at a multiple of [`Format::align`].
    pub fn new(format: Format, bytes: &'a [u8], rows: usize, cols: usize) -> Self {
        match format {
            Format::F32 => Self::Dense(Numbers::F32(bytemuck::cast_slice(bytes)), cols),
            Format::F16 => Self::Dense(Numbers::F16(bytemuck::cast_slice(bytes)), cols),
            Format::Bf16 => Self::Dense(Numbers::Bf16(bytemuck::cast_slice(bytes)), cols),
            Format::Q8 => Self::Q8(Q8::new(bytes, rows, cols)),
            Format::Q4 { group } | Format::Awq { group } | Format::W8A16 { group } => {
                Self::Grouped(Grouped::new(format, bytes, rows, cols, group))
            }
        }
    }

    /// The rows without a copy, if they are stored as f32.
    pub fn in_place(&self, rows: Range<usize>) -> Option<&'a [f32]> {
        match self {
            Self::Dense(Numbers::F32(x), cols) => Some(&x[rows.start * cols..rows.end * cols]),
            _ => None,
        }
    }

    /// Widens rows to f32.
    pub fn widen(&self, isa: Isa, rows: Range<usize>, out: &mut [f32]) {
        match self {
            Self::Dense(numbers, cols) => {
                isa.widen(numbers.part(rows.start * cols..rows.end * cols), out);
            }
            Self::Q8(matrix) => matrix.widen(rows, out),
            Self::Grouped(matrix) => matrix.widen(rows, out),
        }
    }

    /// sums\[n·m + i\] = Σ x\[i·stride + j\] · row\[j\] for the `m` rows of `x` and each stored row of the range, which has
    /// `sums.len() / m` of them. `wide` is scratch for a row that must be widened first.
    pub fn dots(
        &self,
        isa: Isa,
        rows: Range<usize>,
        x: &[f32],
        stride: usize,
        sums: &mut [f32],
        wide: &mut Vec<f32>,
    ) {
        let m = sums.len() / rows.len();
        if let Self::Dense(numbers, cols) = *self
            && m == 1
            && cols > NEAR
        {
            let stored = numbers.part(rows.start * cols..rows.end * cols);
            return isa.stored_row_dots(stored, &x[..cols], sums);
        }
        for (row, sums) in rows.zip(sums.chunks_exact_mut(m)) {
            self.row_dots(isa, row, x, stride, sums, wide);
        }
    }

    fn row_dots(
        &self,
        isa: Isa,
        row: usize,
        x: &[f32],
        stride: usize,
        sums: &mut [f32],
        wide: &mut Vec<f32>,
    ) {
        if let Self::Dense(numbers, cols) = self {
            return isa.dots(numbers.part(row * cols..(row + 1) * cols), x, stride, sums);
        }
        if let Self::Grouped(matrix) = self
            && matrix.dots(isa, row, x, stride, sums)
        {
            return;
        }
        wide.resize(stride, 0.0);
        self.widen(isa, row..row + 1, wide);
        isa.dots(Numbers::F32(wide), x, stride, sums);
    }
}
