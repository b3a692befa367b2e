//! Numbers as a checkpoint or the cache stores them.

use half::{bf16, f16};
use std::ops::Range;

/// Numbers in their stored format.
#[derive(Debug, Clone, Copy)]
pub enum Stored<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
}

impl<'a> Stored<'a> {
    /// Bytes of all numbers.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(x) => size_of_val(*x),
            Self::F16(x) => size_of_val(*x),
            Self::Bf16(x) => size_of_val(*x),
        }
    }

    /// Some of the numbers.
    pub fn part(self, range: Range<usize>) -> Stored<'a> {
        match self {
            Self::F32(x) => Stored::F32(&x[range]),
            Self::F16(x) => Stored::F16(&x[range]),
            Self::Bf16(x) => Stored::Bf16(&x[range]),
        }
    }
}
