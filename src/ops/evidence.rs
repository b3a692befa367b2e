//! The evidence by which visual rows are chosen, the choice, and the rows themselves.

use super::{Executor, Extent};

/// The visual rows of one prompt.
pub struct Visual<'a, O: Executor + ?Sized> {
    /// `[rows, hidden]`, projected, as [`super::SelectionOps::gather_kept`] has them.
    pub rows: &'a O::Buffer,
    /// Where each of them goes.
    pub kept: &'a O::Kept,
    /// `[hidden]`, put wherever the order has a newline.
    pub newline: Option<&'a O::Weight>,
}

/// The scores and rows that a selection needs: see [`crate::select::Evidence`].
pub struct Evidence<'a, O: Executor + ?Sized> {
    /// Attention of the full image's class token.
    pub init: Option<&'a O::Scores>,
    /// Attention of every partition's class token.
    pub last: Option<&'a O::Scores>,
    /// `[P, D]`: queries of the class tokens.
    pub queries: Option<&'a O::Buffer>,
    /// `[P·(T+1), D]`: keys of the same block.
    pub keys: Option<&'a O::Buffer>,
    /// Heads that a row of keys is cut into.
    pub heads: usize,
    /// `[P·(T+1), D]`.
    pub features: Option<&'a O::Buffer>,
    /// `[V, H]`: the valid patches, partition after partition.
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
    /// Numbers in its rows.
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

/// Numbers in the rows of [`Evidence`]; 0 where it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Widths {
    /// Heads that a row of keys is cut into.
    pub heads: usize,
    /// Of keys and queries.
    pub keys: usize,
    /// Of features.
    pub features: usize,
    /// Of projected features.
    pub projected: usize,
}

impl Widths {
    /// The widest row.
    pub fn widest(&self) -> usize {
        self.keys.max(self.features).max(self.projected)
    }
}

/// The outcome of a selection, wherever it lives.
pub trait Chosen {
    /// Rows kept, over all partitions: patches, and rows beside them.
    fn rows(&self) -> usize;
    /// Rows they and their newlines take in the decoder's prompt.
    fn slots(&self) -> usize;
    /// Whether a device had to wait for the host, to choose or to learn how many rows there are.
    fn synchronized(&self) -> bool;
}
