//! Events on a stream, and the time between them by the device's clock.

use crate::Result;
use crate::ops::cuda::driver::error::refused;
use cudarc::driver::CudaContext;
use cudarc::driver::result::event;
use cudarc::driver::sys::{CUevent, CUevent_flags, CUstream};
use std::sync::Arc;
use std::time::Duration;

/// An event: a point in the work of a queue.
#[derive(Debug)]
pub struct Event {
    context: Arc<CudaContext>,
    event: CUevent,
}

// SAFETY: events belong to the context, not to a thread.
unsafe impl Send for Event {}

impl Event {
    /// Records an event after everything enqueued on a stream of the context, which must be current.
    ///
    /// # Errors
    /// When the driver refuses an event.
    pub fn record(context: &Arc<CudaContext>, stream: CUstream) -> Result<Self> {
        let event =
            event::create(CUevent_flags::CU_EVENT_DEFAULT).map_err(|e| refused("an event", e))?;
        let event = Self { context: context.clone(), event };
        // SAFETY: both handles are alive.
        unsafe { event::record(event.event, stream) }
            .map_err(|e| refused("to record an event", e))?;
        Ok(event)
    }

    /// Time from `earlier` to this event, once the queue has been synchronized.
    ///
    /// # Errors
    /// When one of them has not been reached.
    pub fn since(&self, earlier: &Self) -> Result<Duration> {
        // SAFETY: both events were recorded.
        let milliseconds = unsafe { event::elapsed(earlier.event, self.event) }
            .map_err(|e| refused("to read the time between events", e))?;
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1e3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // A context that cannot be bound is lost, and its events with it.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: created by `record`; the driver keeps an event in use until it has completed.
            let _ = unsafe { event::destroy(self.event) };
        }
    }
}
