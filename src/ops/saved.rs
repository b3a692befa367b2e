//! Activations that were copied to the host, to be restored later.

use super::Extent;
#[cfg(feature = "cuda")]
use half::f16;

/// A host copy of a buffer of activations, in the buffer's format.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    rows: usize,
    cols: usize,
    pub(super) numbers: Numbers,
}

/// The numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Numbers {
    F32(Vec<f32>),
    /// The format of a GPU's activations.
    #[cfg(feature = "cuda")]
    F16(Vec<f16>),
}

impl Saved {
    pub(super) fn new(rows: usize, cols: usize, numbers: Numbers) -> Self {
        Self { rows, cols, numbers }
    }

    /// Bytes of the copy.
    pub fn bytes(&self) -> usize {
        match &self.numbers {
            Numbers::F32(numbers) => size_of_val(&numbers[..]),
            #[cfg(feature = "cuda")]
            Numbers::F16(numbers) => size_of_val(&numbers[..]),
        }
    }
}

impl Extent for Saved {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}
