//! Times work on the device, for benchmarks.

use crate::Result;
use crate::ops::MeasureOps;
use crate::ops::cuda::executor::Cuda;
use crate::ops::memory::Purpose;
use std::sync::Arc;
use std::time::Duration;

/// Measured times of repeated work.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Times by the device's clock, ascending.
    pub times: Vec<Duration>,
    /// Names of the kernels of one run, in order.
    pub kernels: Vec<String>,
}

impl Timing {
    /// The median.
    pub fn median(&self) -> Duration {
        self.times[self.times.len() / 2]
    }
}

impl Cuda {
    /// Times `work` repeatedly, after one run that is not counted.
    ///
    /// Before each run `flushed` bytes are written. They should be more than the device's caches hold, so that the work
    /// finds them cold, and take long enough that the host has enqueued the work before the device reaches it.
    ///
    /// # Errors
    /// The errors of `work`, or when the driver refuses memory or events.
    pub fn time(
        &mut self,
        repetitions: usize,
        flushed: usize,
        mut work: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<Timing> {
        let block = self.queue.block(&Arc::default(), Purpose::Workspace, flushed)?;
        self.profile()?;
        let first = work(self);
        let pieces = self.profiled();
        first?;
        let kernels = pieces?.into_iter().filter(|e| !e.is_copy()).map(|e| e.name.into()).collect();
        let mut marks = Vec::with_capacity(repetitions);
        for _ in 0..repetitions {
            // SAFETY: the block has this many bytes.
            unsafe { self.queue.clear(block.address(), block.bytes())? };
            let begin = self.queue.mark()?;
            work(self)?;
            marks.push((begin, self.queue.mark()?));
        }
        self.queue.wait()?;
        let mut times = Vec::with_capacity(repetitions);
        for (begin, end) in &marks {
            times.push(end.since(begin)?);
        }
        times.sort();
        Ok(Timing { times, kernels })
    }

    /// Times a copy of `bytes` bytes inside the device; each of them is read and written.
    ///
    /// # Errors
    /// When the driver refuses the memory.
    pub fn time_copy(&mut self, repetitions: usize, bytes: usize) -> Result<Timing> {
        let meter = Arc::default();
        let from = self.queue.block(&meter, Purpose::Workspace, bytes)?;
        let to = self.queue.block(&meter, Purpose::Workspace, bytes)?;
        // SAFETY: both blocks have this many bytes, and timing waits for the copies.
        unsafe { self.queue.clear(from.address(), bytes)? };
        self.time(repetitions, 1, |cuda| {
            // SAFETY: as above.
            unsafe { cuda.queue.copy(to.address(), from.address(), bytes) }
        })
    }
}
