//! The highest throughput of a device: what measured work is compared with.

use super::cost::{Cost, Roof};
use serde::Serialize;
use std::time::Duration;

/// The ceilings of a device for one number format.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceiling {
    /// Bytes per second: of a large copy (read and written) on a GPU, of reading by all threads on a CPU.
    pub bytes_per_second: f64,
    /// Operations per second, a multiply-add counting as two; `None` where unknown.
    pub flops_per_second: Option<f64>,
    /// Whether the operations were measured; otherwise they are computed from cores and clock, as data sheets do.
    pub flops_measured: bool,
}

impl Ceiling {
    /// The lower bound of the time that a cost takes, see [`Roof::time`].
    pub fn time(&self, cost: Cost) -> Duration {
        let flops = self.flops_per_second.unwrap_or(f64::INFINITY);
        let roof = Roof { flops, bandwidth: self.bytes_per_second };
        Duration::try_from_secs_f64(roof.time(cost)).unwrap_or_default()
    }

    /// The fraction of the ceiling that was reached, 0 to 1; `None` for a cost of zero.
    pub fn share(&self, cost: Cost, took: Duration) -> Option<f64> {
        let least = self.time(cost);
        (!least.is_zero() && !took.is_zero()).then(|| least.as_secs_f64() / took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_traffic_and_arithmetic_counts() {
        let ceiling = Ceiling {
            bytes_per_second: 100.0,
            flops_per_second: Some(1000.0),
            flops_measured: false,
        };
        let second = Duration::from_secs(1);
        assert_eq!(ceiling.share(Cost { flops: 500, bytes: 20 }, second), Some(0.5));
        assert_eq!(ceiling.share(Cost { flops: 500, bytes: 80 }, second), Some(0.8));
        assert_eq!(ceiling.share(Cost::default(), second), None);
        assert_eq!(ceiling.share(Cost::bytes(1), Duration::ZERO), None);
        let unknown = Ceiling { flops_per_second: None, ..ceiling };
        assert_eq!(unknown.time(Cost { flops: 1 << 40, bytes: 100 }), second);
    }
}
