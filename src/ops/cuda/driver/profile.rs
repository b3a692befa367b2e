//! What a queue has run, piece by piece, timed by the device.
//!
//! Two events lie around each piece, so a piece's time holds what the device takes to begin it, a microsecond or two.

use crate::Result;
use crate::ops::clock::Stage;
use crate::ops::cost::Cost;
use crate::ops::cuda::driver::event::Event;
use crate::ops::cuda::driver::queue::Queue;
use crate::ops::cuda::executor::Cuda;
use crate::ops::profile::Entry;
use std::borrow::Cow;
use std::sync::atomic::Ordering::Relaxed;

/// Pieces of work since somebody wants to know.
#[derive(Debug)]
pub struct Profile {
    start: Event,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    name: Cow<'static, str>,
    stage: Stage,
    layer: Option<usize>,
    cost: Cost,
    begin: Event,
    end: Event,
}

impl Queue {
    /// Notes every piece of work from now on.
    ///
    /// # Errors
    /// When the driver refuses an event.
    pub fn profile(&self) -> Result<()> {
        let start = Event::record(self)?;
        self.known().profile = Some(Profile { start, pieces: Vec::new() });
        self.is_noting.store(true, Relaxed);
        Ok(())
    }

    /// Whether pieces are noted.
    pub fn is_profiled(&self) -> bool {
        self.is_noting.load(Relaxed)
    }

    /// The pieces noted, in order; from now on none are.
    ///
    /// # Errors
    /// When one of them has failed.
    pub fn profiled(&self) -> Result<Vec<Entry>> {
        self.is_noting.store(false, Relaxed);
        let Some(Profile { start, pieces }) = self.known().profile.take() else {
            return Ok(Vec::new());
        };
        self.wait()?;
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

    /// Enqueues a piece of work, and notes it if somebody wants to know.
    ///
    /// # Errors
    /// Those of `enqueue`, or when the driver refuses an event.
    pub fn noting(
        &self,
        name: impl FnOnce() -> Cow<'static, str>,
        cost: Cost,
        enqueue: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if !self.is_profiled() {
            return enqueue();
        }
        let begin = Event::record(self)?;
        enqueue()?;
        let end = Event::record(self)?;
        let mut known = self.known();
        let (stage, layer) = known.place;
        if let Some(profile) = &mut known.profile {
            profile.pieces.push(Piece { name: name(), stage, layer, cost, begin, end });
        }
        Ok(())
    }

    /// What is enqueued from now on belongs there.
    pub fn place(&self, stage: Stage, layer: Option<usize>) {
        self.known().place = (stage, layer);
    }
}

impl Cuda {
    /// What is enqueued from now on belongs to `stage`.
    pub(in crate::ops::cuda) fn enter_stage(&mut self, stage: Stage) -> Result<()> {
        self.queue.place(stage, None);
        self.watch.enter(&self.queue, stage)
    }

    /// What is enqueued from now on belongs to a layer of the stage, or to none.
    pub(in crate::ops::cuda) fn enter_layer(&mut self, index: Option<usize>) {
        self.queue.place(self.watch.stage(), index);
        self.watch.ranges.layer(index);
    }
}
