//! Sampling on the device.

use crate::Result;
use crate::ops::SampleOps;
use crate::ops::cuda::buffer::Buffer;
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::sample::choose::Choosing;
use crate::ops::sample::Sampling;
use std::ops::Range;

const WORD: usize = size_of::<u32>();

impl SampleOps for Cuda {
    fn sample(&mut self, logits: &Buffer, how: &[(Sampling, usize)]) -> Result<Vec<u32>> {
        self.whole = false;
        let choosing = Choosing::new(logits.rows, logits.cols, Choosing::is_greedy(how));
        let layout = choosing.layout();
        let (_region, block) = self.region(layout.bytes())?;
        let at = |range: &Range<usize>| block + range.start as u64;
        let outcome = layout.outcome();
        let (launch, params) = choosing.launch(block, logits.address);
        // SAFETY: the arrays are parts of the region; the logits have the rows and columns of the choice.
        let outcome = unsafe {
            self.queue.clear(at(&layout.flags), layout.flags.len())?;
            if !layout.how.is_empty() {
                self.queue.upload(at(&layout.how), &choosing.how(how))?;
            }
            params.launch(&self.queue, &launch)?;
            self.queue.download(at(&outcome), outcome.len() / WORD)?
        };
        choosing.tokens(&outcome)
    }
}
