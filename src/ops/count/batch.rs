//! Batches of rows, decode steps and sampling on the counting executor.

use super::{Cache, Counter, Rows, Size};
use crate::Result;
use crate::ops::sample::Sampling;
use crate::ops::{Batch, BatchOps, SampleOps, Span, Work};

impl BatchOps for Counter {
    fn batch(&mut self, _: &Cache, tokens: Vec<u32>, spans: Vec<Span>) -> Result<Rows> {
        let batch = Batch::new(tokens, spans);
        let hold = self.footprint.batch(&batch).map(|bytes| self.hold(bytes));
        Ok(Rows { batch, _hold: hold })
    }

    fn step(
        &mut self,
        _: &[Rows],
        caches: &mut [Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<Size> {
        work(self, caches)
    }
}

impl SampleOps for Counter {
    fn sample(&mut self, logits: &Size, how: &[(Sampling, usize)]) -> Result<Vec<u32>> {
        self.whole = false;
        drop(self.footprint.sample_scratch(logits.cols, how).map(|bytes| self.hold(bytes)));
        Ok(vec![0; how.len()])
    }
}
