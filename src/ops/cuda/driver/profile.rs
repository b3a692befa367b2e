//! A profile of a queue: what it ran, timed by the device.
//!
//! Two events enclose each kernel or copy, so its time includes the microsecond or two that the device takes to start
//! it.

use super::event::Event;
use crate::Result;
use crate::ops::clock::Stage;
use crate::ops::cost::Cost;
use crate::ops::profile::Entry;
use std::borrow::Cow;

/// A recording of kernels and copies.
#[derive(Debug)]
pub struct Profile {
    start: Event,
    pieces: Vec<Piece>,
}

/// A kernel or copy between two events.
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
    /// A recording that starts at this event.
    pub fn new(start: Event) -> Self {
        Self { start, pieces: Vec::new() }
    }

    /// Adds a kernel or copy.
    pub fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    /// The recorded work with its times; all of it must have run.
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
