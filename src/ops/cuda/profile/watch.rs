//! Time by stage, measured with events on the device, because the host's clock runs ahead of the device.

use crate::Result;
use crate::ops::clock::{Clock, Stage};
use crate::ops::cuda::driver::event::Event;
use crate::ops::cuda::driver::queue::Queue;
use crate::ops::cuda::profile::nvtx::Ranges;

/// A stopwatch on a queue.
#[derive(Debug)]
pub struct Watch {
    /// The same stages as ranges for a profiler.
    pub ranges: Ranges,
    clock: Clock,
    /// When each stage began.
    marks: Vec<(Stage, Event)>,
}

impl Watch {
    /// A stopwatch with all readings zero.
    pub fn new() -> Self {
        Self { ranges: Ranges::new(), clock: Clock::default(), marks: Vec::new() }
    }

    /// The current stage.
    pub fn stage(&self) -> Stage {
        self.marks.last().map_or(Stage::Idle, |(stage, _)| *stage)
    }

    /// Attributes what is enqueued from now on to `stage`.
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

    /// Readings of all stages that have ended; the current one continues.
    ///
    /// # Errors
    /// When some of the work has failed.
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
