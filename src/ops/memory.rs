//! Memory accounting: a meter that counts allocations by purpose.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a piece of memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Weights copied out of the checkpoint.
    Weights = 0,
    /// Pages of keys and values.
    Kv = 1,
    /// Activations and scratch memory.
    Workspace = 2,
}

/// Bytes in use now and the maximum so far, by purpose and in total.
#[derive(Debug, Default)]
pub struct Meter {
    held: [AtomicUsize; 3],
    most: [AtomicUsize; 3],
    peak: AtomicUsize,
    mapped: AtomicUsize,
}

/// Counted bytes; the count goes down again when this is dropped.
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

    /// Counts weight bytes that are used in the mapped file, without a copy.
    pub fn map(&self, bytes: usize) {
        self.mapped.fetch_add(bytes, Relaxed);
    }

    /// Bytes in use now for `purpose`.
    pub fn held(&self, purpose: Purpose) -> usize {
        self.held[purpose as usize].load(Relaxed)
    }

    /// The maximum of bytes in use for `purpose` since the last [`Meter::restart`].
    pub fn most(&self, purpose: Purpose) -> usize {
        self.most[purpose as usize].load(Relaxed)
    }

    /// The maximum of the total of bytes in use since the last [`Meter::restart`].
    pub fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    /// Weight bytes used in the mapped file.
    pub fn mapped(&self) -> usize {
        self.mapped.load(Relaxed)
    }

    /// Resets the maxima to what is in use now.
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

/// Displays a number of bytes in a unit that suits its size.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // 1023.95 would be rounded to 1024.0.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
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

    #[test]
    fn sizes_have_four_digits_at_most() {
        let shown: Vec<String> = [0, 1023, 1024, 1536, (1 << 20) - 1, 15 << 30, 2048 << 40]
            .map(|b| Size(b).to_string())
            .into();
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "15.0 GiB", "2048.0 TiB"];
        assert_eq!(shown, expected);
    }
}
