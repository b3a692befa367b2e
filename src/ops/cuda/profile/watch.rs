//! Time by stage, measured by events of the device: the host's clock runs ahead of it.

use crate::Result;
use crate::ops::clock::{Clock, Stage};
use crate::ops::cuda::driver::event::Event;
use crate::ops::cuda::driver::queue::Queue;
use crate::ops::cuda::profile::nvtx::Ranges;

/// A stop-watch on a queue.
#[derive(Debug)]
pub struct Watch {
    /// The same for a profiler.
    pub ranges: Ranges,
    clock: Clock,
    /// When each stage began.
    marks: Vec<(Stage, Event)>,
}

impl Watch {
    /// A stop-watch with all readings zero.
    pub fn new() -> Self {
        Self { ranges: Ranges::new(), clock: Clock::default(), marks: Vec::new() }
    }

    /// The stage that runs.
    pub fn stage(&self) -> Stage {
        self.marks.last().map_or(Stage::Idle, |(stage, _)| *stage)
    }

    /// What is enqueued from now on belongs to `stage`.
    ///
    /// # Errors
    /// When the driver refuses an event.
    pub fn enter(&mut self, queue: &Queue, stage: Stage) -> Result<()> {
        if stage == self.stage() {
            return Ok(());
        }
        self.ranges.stage(stage);
        self.marks.push((stage, queue.mark()?));
        Ok(())
    }

    /// The clock with all that has ended; the stage that runs stays.
    ///
    /// # Errors
    /// When work before has failed.
    pub fn read(&mut self, queue: &Queue) -> Result<&mut Clock> {
        if self.marks.len() > 1 {
            queue.wait()?;
            for pair in self.marks.windows(2) {
                let [(stage, begin), (_, end)] = pair else { continue };
                self.clock.add(*stage, end.since(begin)?);
            }
            self.marks.drain(..self.marks.len() - 1);
        }
        Ok(&mut self.clock)
    }
}
