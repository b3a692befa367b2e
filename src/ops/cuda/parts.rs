//! Division of a region of device memory into arrays.

use crate::ops::arena::rounded;

/// Arrays in one region, each aligned as a region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<const N: usize> {
    offsets: [usize; N],
    bytes: usize,
}

impl<const N: usize> Parts<N> {
    /// Arrays of these sizes in bytes, in this order.
    pub fn of(sizes: [usize; N]) -> Self {
        let mut bytes = 0;
        let offsets = sizes.map(|size| {
            let offset = bytes;
            bytes += rounded(size);
            offset
        });
        Self { offsets, bytes }
    }

    /// Offset of an array.
    pub fn offset(&self, part: usize) -> usize {
        self.offsets[part]
    }

    /// Bytes of all arrays, with the padding between them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
