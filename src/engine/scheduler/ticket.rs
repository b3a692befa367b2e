//! A client's hold on its request.

use super::queue::Queue;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// A request that was put into a [`Scheduler`](super::Scheduler). Dropping it cancels the request.
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

    /// Where the engine looks whether the request is cancelled.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        self.cancelled.clone()
    }

    /// Cancels the request, wherever it is; nothing if it has ended. It ends at its next layer or token: with
    /// [`Update::Failed`](super::Update::Failed) of [`Error::Cancelled`](crate::Error::Cancelled) before its first token,
    /// later with the answer as far as it has come.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        if let Some(queue) = self.queue.upgrade() {
            queue.wake();
        }
    }

    /// Lets the request go on without a ticket.
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
