//! What a queue has run, piece by piece, timed by the device.
//!
//! Two events lie around each piece, so a piece's time holds what the device takes to begin it, a microsecond or two.

use super::event::Event;
use crate::Result;
use crate::ops::clock::Stage;
use crate::ops::cost::Cost;
use crate::ops::profile::Entry;
use std::borrow::Cow;

/// A recording of pieces of work.
#[derive(Debug)]
pub struct Profile {
    start: Event,
    pieces: Vec<Piece>,
}

/// A piece of work between two points of the queue.
#[derive(Debug)]
pub struct Piece {
    pub name: Cow<'static, str>,
    pub stage: Stage,
    pub layer: Option<usize>,
    pub cost: Cost,
    pub begin: Event,
    pub end: Event,
}

impl Profile {
    /// A recording that begins there.
    pub fn new(start: Event) -> Self {
        Self { start, pieces: Vec::new() }
    }

    /// Adds a piece.
    pub fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    /// The pieces with their times; all must have run.
    ///
    /// # Errors
    /// When one of them has failed.
    pub fn entries(self) -> Result<Vec<Entry>> {
        let Self { start, pieces } = self;
        let entries = pieces.into_iter().map(|piece| {
            Ok(Entry {
                begin: piece.begin.since(&start)?,
                took: piece.end.since(&piece.begin)?,
                name: piece.name,
                stage: piece.stage,
                layer: piece.layer,
                cost: piece.cost,
            })
        });
        entries.collect()
    }
}
