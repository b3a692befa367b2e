//! What is counted instead of being there.

use crate::format::Format;
use crate::kv;
use crate::ops::footprint::Hold;
use crate::ops::memory::Charge;
use crate::ops::{Batch, Chosen, Extent, Layered};

/// A buffer that is not there.
#[derive(Debug)]
pub struct Size {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) _hold: Hold,
}

impl Extent for Size {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

/// A weight that is not there.
#[derive(Debug)]
pub struct Shape {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) format: Format,
    pub(super) _charge: Option<Charge>,
}

/// A cache that is not there.
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

/// Scores that are not there.
#[derive(Debug)]
pub struct Scores {
    pub(super) _hold: Hold,
}

/// A selection before its scores: sizes as planned.
#[derive(Debug)]
pub struct Planned {
    pub(super) rows: usize,
    /// Rows that each is taken from.
    pub(super) each: usize,
    pub(super) newlines: usize,
    /// Of combinations at most.
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

/// A batch that is not there.
#[derive(Debug)]
pub struct Rows {
    pub(super) batch: Batch,
    pub(super) _hold: Option<Hold>,
}

/// Retained rows: their number, as planned.
#[derive(Debug)]
pub struct Retained {
    pub(super) rows: usize,
    pub(super) _hold: Option<Hold>,
}
