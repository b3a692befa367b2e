//! Numbers as a checkpoint or the cache stores them, and how weights are read: the one place of the CPU executor that
//! tells formats of weights apart.

use super::simd::Isa;
use crate::format::Format;
use half::{bf16, f16};
use std::ops::Range;

/// Consecutive numbers in their stored format.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
}

impl<'a> Numbers<'a> {
    /// Bytes as numbers of a format. They must start at a multiple of [`Format::align`].
    pub fn of(format: Format, bytes: &'a [u8]) -> Self {
        match format {
            Format::F32 => Self::F32(bytemuck::cast_slice(bytes)),
            Format::F16 => Self::F16(bytemuck::cast_slice(bytes)),
            Format::Bf16 => Self::Bf16(bytemuck::cast_slice(bytes)),
        }
    }

    /// Some of the numbers.
    pub fn part(self, range: Range<usize>) -> Numbers<'a> {
        match self {
            Self::F32(x) => Numbers::F32(&x[range]),
            Self::F16(x) => Numbers::F16(&x[range]),
            Self::Bf16(x) => Numbers::Bf16(&x[range]),
        }
    }
}

/// A weight as it is stored, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    numbers: Numbers<'a>,
    cols: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `cols` numbers.
    pub fn new(numbers: Numbers<'a>, cols: usize) -> Self {
        Self { numbers, cols }
    }

    fn range(&self, rows: Range<usize>) -> Range<usize> {
        rows.start * self.cols..rows.end * self.cols
    }

    /// Rows that can be used where they lie, because they are f32 already.
    pub fn in_place(&self, rows: Range<usize>) -> Option<&'a [f32]> {
        match self.numbers {
            Numbers::F32(x) => Some(&x[self.range(rows)]),
            Numbers::F16(_) | Numbers::Bf16(_) => None,
        }
    }

    /// Rows as f32.
    pub fn widen(&self, isa: Isa, rows: Range<usize>, out: &mut [f32]) {
        isa.widen(self.numbers.part(self.range(rows)), out);
    }

    /// sums[i] = Σ x[i·stride + j] · row[j].
    pub fn dots(&self, isa: Isa, row: usize, x: &[f32], stride: usize, sums: &mut [f32]) {
        isa.dots(self.numbers.part(self.range(row..row + 1)), x, stride, sums);
    }
}
