//! Time by stage, told by the device: its events, not the host's clock, which runs ahead of it.

use super::device::refused;
use super::nvtx::Ranges;
use super::queue::Queue;
use crate::Result;
use crate::ops::clock::{Clock, Stage};
use cudarc::driver::result::event;
use cudarc::driver::sys::{CUevent, CUevent_flags};
use std::time::Duration;

/// A stop-watch on a queue.
#[derive(Debug)]
pub struct Watch {
    /// The same for a profiler.
    pub ranges: Ranges,
    clock: Clock,
    /// When each stage began.
    marks: Vec<(Stage, CUevent)>,
}

// SAFETY: events belong to the context, not to a thread.
unsafe impl Send for Watch {}

impl Watch {
    /// A stop-watch with all readings zero.
    pub fn new() -> Self {
        Self { ranges: Ranges::new(), clock: Clock::default(), marks: Vec::new() }
    }

    /// What is enqueued from now on belongs to `stage`.
    ///
    /// # Errors
    /// When the driver refuses an event.
    pub fn enter(&mut self, queue: &Queue, stage: Stage) -> Result<()> {
        let current = self.marks.last().map_or(Stage::Idle, |(stage, _)| *stage);
        if stage == current {
            return Ok(());
        }
        self.ranges.stage(stage);
        let stream = queue.stream()?;
        let mark =
            event::create(CUevent_flags::CU_EVENT_DEFAULT).map_err(|e| refused("an event", e))?;
        // SAFETY: both handles are alive.
        if let Err(error) = unsafe { event::record(mark, stream) } {
            destroy(mark);
            return Err(refused("to record an event", error));
        }
        self.marks.push((stage, mark));
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
                // SAFETY: both events were recorded on the stream, which has been waited for.
                let milliseconds = unsafe { event::elapsed(*begin, *end) }
                    .map_err(|e| refused("to read the time between events", e))?;
                self.clock.add(*stage, Duration::from_secs_f32(milliseconds.max(0.0) / 1e3));
            }
            let last = self.marks.len() - 1;
            for (_, mark) in self.marks.drain(..last) {
                destroy(mark);
            }
        }
        Ok(&mut self.clock)
    }
}

fn destroy(mark: CUevent) {
    // SAFETY: created by `enter`; the driver keeps an event that is under way until it is done.
    let _ = unsafe { event::destroy(mark) };
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.marks.drain(..).for_each(|(_, mark)| destroy(mark));
    }
}
