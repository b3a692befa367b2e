//! The evidence by which visual rows are chosen, the choice, and the rows themselves.

use super::{Executor, Extent};

/// The visual rows of one prompt.
pub struct Visual<'a, O: Executor + ?Sized> {
    /// `[rows, hidden]`, projected, as [`super::SelectionOps::gather_kept`] has them.
    pub rows: &'a O::Buffer,
    /// Where each of the rows goes in the prompt.
    pub kept: &'a O::Kept,
    /// `[hidden]`, inserted wherever the order has a newline.
    pub newline: Option<&'a O::Weight>,
}

/// The scores and rows that a selection needs: see [`crate::select::Evidence`].
pub struct Evidence<'a, O: Executor + ?Sized> {
    /// Class-token attention in the full image.
    pub init: Option<&'a O::Scores>,
    /// Class-token attention in every partition.
    pub last: Option<&'a O::Scores>,
    /// `[P, D]`: queries of the class tokens.
    pub queries: Option<&'a O::Buffer>,
    /// `[P·(T+1), D]`: keys of the same block.
    pub keys: Option<&'a O::Buffer>,
    /// Heads into which a row of keys is divided.
    pub heads: usize,
    /// `[P·(T+1), D]`: output rows of the vision tower.
    pub features: Option<&'a O::Buffer>,
    /// `[V, H]`: projected rows of the valid patches, partition after partition.
    pub projected: Option<&'a O::Buffer>,
}

impl<O: Executor + ?Sized> Default for Evidence<'_, O> {
    fn default() -> Self {
        Self {
            init: None,
            last: None,
            queries: None,
            keys: None,
            heads: 0,
            features: None,
            projected: None,
        }
    }
}

impl<O: Executor + ?Sized> Evidence<'_, O> {
    /// The row lengths of the evidence.
    pub fn widths(&self) -> Widths {
        let cols = |x: Option<&O::Buffer>| x.map_or(0, Extent::cols);
        Widths {
            heads: self.heads,
            keys: cols(self.keys),
            features: cols(self.features),
            projected: cols(self.projected),
        }
    }
}

/// Row lengths of [`Evidence`] in numbers; 0 where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Widths {
    /// Heads into which a row of keys is divided.
    pub heads: usize,
    /// Row length of keys and queries.
    pub keys: usize,
    /// Row length of features.
    pub features: usize,
    /// Row length of projected features.
    pub projected: usize,
}

impl Widths {
    /// The widest row.
    pub fn widest(&self) -> usize {
        self.keys.max(self.features).max(self.projected)
    }
}

/// The outcome of a selection, on the host or on a device.
pub trait Chosen {
    /// Rows kept over all partitions: patches, and the rows that a method adds.
    fn rows(&self) -> usize;
    /// Length in the decoder's prompt: the rows and their newlines.
    fn slots(&self) -> usize;
    /// Whether the device had to synchronize with the host, to choose or to learn the number of rows.
    fn synchronized(&self) -> bool;
}
