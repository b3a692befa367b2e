//! The counting executor's buffers, weights and caches: sizes without content.

use crate::format::Format;
use crate::kv;
use crate::ops::footprint::Hold;
use crate::ops::memory::Charge;
use crate::ops::{Batch, Chosen, Extent, Layered};

/// Size of a buffer.
#[derive(Debug)]
pub struct Size {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) _hold: Hold,
    /// Made by int8 weights.
    pub(super) of_integers: bool,
    /// The same rows as int8.
    pub(super) coded: Option<Hold>,
}

impl Extent for Size {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

/// Size of a weight.
#[derive(Debug)]
pub struct Shape {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) format: Format,
    pub(super) _charge: Option<Charge>,
}

/// Size of a cache.
#[derive(Debug)]
pub struct Cache {
    pub(super) shape: kv::Shape,
    pub(super) _charge: Charge,
}

impl Layered for Cache {
    fn layers(&self) -> usize {
        self.shape.layers
    }
}

/// Size of scores.
#[derive(Debug)]
pub struct Scores {
    pub(super) _hold: Hold,
}

/// Sizes of a planned selection.
#[derive(Debug)]
pub struct Planned {
    pub(super) rows: usize,
    /// Source rows of each kept row.
    pub(super) each: usize,
    pub(super) newlines: usize,
    /// The most source rows of weighted sums.
    pub(super) sources: usize,
    pub(super) _hold: Hold,
}

impl Chosen for Planned {
    fn rows(&self) -> usize {
        self.rows
    }

    fn slots(&self) -> usize {
        self.rows + self.newlines
    }

    fn synchronized(&self) -> bool {
        false
    }
}

/// Size of a batch.
#[derive(Debug)]
pub struct Rows {
    pub(super) batch: Batch,
    pub(super) _hold: Option<Hold>,
}

/// Number of retained rows, as planned.
#[derive(Debug)]
pub struct Retained {
    pub(super) rows: usize,
    pub(super) _hold: Option<Hold>,
}
