//! Points in the work of a queue, and the time between them by the device's clock.

use super::device::refused;
use super::queue::Queue;
use crate::Result;
use cudarc::driver::result::event;
use cudarc::driver::sys::{CUevent, CUevent_flags};
use std::time::Duration;

/// A point in the work of a queue.
#[derive(Debug)]
pub struct Event(CUevent);

// SAFETY: events belong to the context, not to a thread.
unsafe impl Send for Event {}

impl Event {
    /// The point behind everything enqueued so far.
    ///
    /// # Errors
    /// When the driver refuses an event.
    pub fn record(queue: &Queue) -> Result<Self> {
        let stream = queue.stream()?;
        let event =
            event::create(CUevent_flags::CU_EVENT_DEFAULT).map_err(|e| refused("an event", e))?;
        let event = Self(event);
        // SAFETY: both handles are alive.
        unsafe { event::record(event.0, stream) }.map_err(|e| refused("to record an event", e))?;
        Ok(event)
    }

    /// Time from `earlier` to this point; the queue must have been waited for.
    ///
    /// # Errors
    /// When one of them has not been reached.
    pub fn since(&self, earlier: &Self) -> Result<Duration> {
        // SAFETY: both events were recorded.
        let milliseconds = unsafe { event::elapsed(earlier.0, self.0) }
            .map_err(|e| refused("to read the time between events", e))?;
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1e3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created by `record`; the driver keeps an event that is under way until it is done.
        let _ = unsafe { event::destroy(self.0) };
    }
}
