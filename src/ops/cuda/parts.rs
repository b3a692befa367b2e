//! Parts of a region of device memory.

use crate::ops::arena::rounded;

/// Parts of one region, each aligned as a region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<const N: usize> {
    offsets: [usize; N],
    bytes: usize,
}

impl<const N: usize> Parts<N> {
    /// Parts of these sizes, in this order.
    pub fn of(sizes: [usize; N]) -> Self {
        let mut bytes = 0;
        let offsets = sizes.map(|size| {
            let offset = bytes;
            bytes += rounded(size);
            offset
        });
        Self { offsets, bytes }
    }

    /// Where a part begins.
    pub fn offset(&self, part: usize) -> usize {
        self.offsets[part]
    }

    /// All parts together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
