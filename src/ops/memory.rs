//! Counting memory where it is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a piece of memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Weights copied out of the checkpoint.
    Weights = 0,
    /// Pages of keys and values.
    Kv = 1,
    /// Activations and scratch.
    Workspace = 2,
}

/// Bytes held at this moment and the most held at any moment, by purpose and together.
#[derive(Debug, Default)]
pub struct Meter {
    held: [AtomicUsize; 3],
    most: [AtomicUsize; 3],
    peak: AtomicUsize,
    mapped: AtomicUsize,
}

/// Bytes taken; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    meter: Arc<Meter>,
    purpose: Purpose,
    bytes: usize,
}

impl Meter {
    /// Counts `bytes` until the returned charge is dropped.
    pub fn charge(self: &Arc<Self>, purpose: Purpose, bytes: usize) -> Charge {
        let index = purpose as usize;
        let now = self.held[index].fetch_add(bytes, Relaxed) + bytes;
        self.most[index].fetch_max(now, Relaxed);
        let all = self.held.iter().map(|h| h.load(Relaxed)).sum();
        self.peak.fetch_max(all, Relaxed);
        Charge { meter: self.clone(), purpose, bytes }
    }

    /// Counts weight bytes that are used where the file is mapped.
    pub fn map(&self, bytes: usize) {
        self.mapped.fetch_add(bytes, Relaxed);
    }

    /// Bytes held now for `purpose`.
    pub fn held(&self, purpose: Purpose) -> usize {
        self.held[purpose as usize].load(Relaxed)
    }

    /// The most bytes ever held for `purpose` since the last [`Meter::restart`].
    pub fn most(&self, purpose: Purpose) -> usize {
        self.most[purpose as usize].load(Relaxed)
    }

    /// The most bytes held at one moment for all purposes since the last [`Meter::restart`].
    pub fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    /// Weight bytes used in place.
    pub fn mapped(&self) -> usize {
        self.mapped.load(Relaxed)
    }

    /// Forgets earlier maxima: what is held now is the new floor.
    pub fn restart(&self) {
        let mut all = 0;
        for (most, held) in self.most.iter().zip(&self.held) {
            let held = held.load(Relaxed);
            most.store(held, Relaxed);
            all += held;
        }
        self.peak.store(all, Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.held[self.purpose as usize].fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_is_the_most_held_together_not_the_sum_of_maxima() {
        let meter = Arc::new(Meter::default());
        let weights = meter.charge(Purpose::Weights, 10);
        drop(meter.charge(Purpose::Workspace, 100));
        let kv = meter.charge(Purpose::Kv, 50);
        assert_eq!((meter.peak(), meter.most(Purpose::Workspace)), (110, 100));
        drop(weights);
        meter.restart();
        assert_eq!((meter.peak(), meter.held(Purpose::Kv)), (50, 50));
        drop(kv);
        assert_eq!(meter.held(Purpose::Kv), 0);
    }
}
