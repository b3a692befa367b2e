//! A client's handle to its request.

use super::queue::Queue;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Handle to a request of a [`Scheduler`](super::Scheduler). Dropping it cancels the request.
#[must_use = "dropping the ticket cancels the request: keep it, or detach it"]
#[derive(Debug)]
pub struct Ticket {
    cancelled: Arc<AtomicBool>,
    queue: Weak<Queue>,
    detached: bool,
}

impl Ticket {
    pub(super) fn new(queue: &Arc<Queue>) -> Self {
        Self { cancelled: Arc::default(), queue: Arc::downgrade(queue), detached: false }
    }

    /// The flag through which the engine learns of a cancellation.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        self.cancelled.clone()
    }

    /// Cancels the request, waiting or running; without effect if it has ended. It ends at its next layer or token:
    /// before its first token with [`Update::Failed`](super::Update::Failed) of
    /// [`Error::Cancelled`](crate::Error::Cancelled), later with the answer generated so far.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        if let Some(queue) = self.queue.upgrade() {
            queue.wake();
        }
    }

    /// Drops the handle without cancelling the request.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.detached {
            self.cancel();
        }
    }
}
