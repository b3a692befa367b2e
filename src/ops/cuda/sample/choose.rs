//! The launch that samples tokens: [`crate::ops::sample`] on the device.
//!
//! A block computes one row. Taking the most likely token of 32064 takes some 3 µs on an H200; more blocks for a row
//! would need a second launch, which costs as much. Drawing ranks the tokens by the bits of their logits: 16 passes
//! over all of them for each of top-k, top-p and the draw itself. By the latency of L2 and the reductions, that is some
//! 50 µs each, where a token takes 2.8 ms on an H200 and 39 ms on a P40.

use crate::ops::cost::Cost;
use crate::ops::cuda::abi;
#[cfg(feature = "cuda")]
use crate::ops::cuda::driver::queue::Queue;
use crate::ops::cuda::launch::Launch;
use crate::ops::sample::Sampling;
use crate::{Error, Result};
use std::ffi::c_void;
use std::ops::Range;

/// Offsets of the arrays of a sampling launch, in bytes from the start of its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `[rows]` of 32 bits: the sampled tokens.
    pub tokens: Range<usize>,
    /// `[rows]` of 32 bits: errors in the logits. Zero before the launch.
    pub flags: Range<usize>,
    /// `[rows]`: sampling settings of each row, see [`Choosing::how`]. Empty where all rows take the most likely token.
    pub how: Range<usize>,
    weights: Range<usize>,
}

impl Layout {
    /// Bytes of the block, which must start at a multiple of 8.
    pub fn bytes(&self) -> usize {
        self.weights.end
    }

    /// The bytes to read back: tokens, then flags.
    pub fn outcome(&self) -> Range<usize> {
        self.tokens.start..self.flags.end
    }
}

/// The parameters of one of the kernels.
#[derive(Debug, Clone, Copy)]
pub enum Params {
    /// `sample_greedy_f32`.
    Greedy(abi::SampleGreedyParams),
    /// `sample_draw_f32`.
    Draw(abi::SampleDrawParams),
}

impl Params {
    /// Address of the struct.
    pub fn pointer(&self) -> *const c_void {
        match self {
            Self::Greedy(p) => (&raw const *p).cast(),
            Self::Draw(p) => (&raw const *p).cast(),
        }
    }

    /// Enqueues the kernel.
    ///
    /// # Safety
    /// As [`Queue::launch`].
    ///
    /// # Errors
    /// As [`Queue::launch`].
    #[cfg(feature = "cuda")]
    pub(super) unsafe fn launch(&self, queue: &Queue, launch: &Launch) -> Result<()> {
        match self {
            // SAFETY: upheld by this function's own contract.
            Self::Greedy(p) => unsafe { queue.launch(launch, p) },
            // SAFETY: as above.
            Self::Draw(p) => unsafe { queue.launch(launch, p) },
        }
    }
}

/// A sampling launch for rows of logits, before it has a block.
#[derive(Debug, Clone)]
pub struct Choosing {
    rows: usize,
    cols: usize,
    layout: Layout,
}

impl Choosing {
    /// For logits `[rows, cols]` in f32; `greedy`: all rows take the most likely token.
    pub fn new(rows: usize, cols: usize, greedy: bool) -> Self {
        let words = size_of::<u32>() * rows;
        let how = if greedy { 0 } else { size_of::<abi::SampleHow>() * rows };
        let weights = if greedy { 0 } else { size_of::<u64>() * rows * cols };
        let end = |range: &Range<usize>, bytes: usize| range.end..range.end + bytes;
        let tokens = 0..words;
        let flags = end(&tokens, words);
        let how = end(&flags, how);
        let weights = end(&how, weights);
        Self { rows, cols, layout: Layout { tokens, flags, how, weights } }
    }

    /// Whether all rows take the most likely token.
    pub fn is_greedy(how: &[(Sampling, usize)]) -> bool {
        how.iter().all(|(sampling, _)| sampling.temperature == 0.0)
    }

    /// The layout of the arrays.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The bytes of [`Layout::how`]: settings of each row and the index of the token in its answer.
    pub fn how(&self, how: &[(Sampling, usize)]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.layout.how.len());
        for &(Sampling { temperature, top_k, top_p, seed, .. }, step) in how {
            // As the struct lies in memory; it has no padding.
            bytes.extend(seed.to_ne_bytes());
            bytes.extend((step as u64).to_ne_bytes());
            bytes.extend(temperature.to_ne_bytes());
            bytes.extend(top_p.to_ne_bytes());
            bytes.extend((top_k.min(self.cols) as u32).to_ne_bytes());
            bytes.extend(0u32.to_ne_bytes());
        }
        bytes
    }

    /// The launch and its parameters, for a block at address `block` whose flags are zero, and for the address of the
    /// logits.
    pub fn launch(&self, block: u64, logits: u64) -> (Launch, Params) {
        let at = |range: &Range<usize>| block + range.start as u64;
        let Layout { tokens, flags, how, weights } = &self.layout;
        let (tokens, flags) = (at(tokens) as *mut u32, at(flags) as *mut u32);
        let (logits, cols) = (logits as *const f32, self.cols as u32);
        let (name, params) = if how.is_empty() {
            let params = abi::SampleGreedyParams { logits, tokens, flags, cols, reserved: 0 };
            ("greedy", Params::Greedy(params))
        } else {
            let (how, weights) = (at(how) as *const abi::SampleHow, at(weights) as *mut u64);
            let params =
                abi::SampleDrawParams { logits, how, weights, tokens, flags, cols, reserved: 0 };
            ("draw", Params::Draw(params))
        };
        // A small vocabulary does not need the largest block.
        let threads = self.cols.div_ceil(32).clamp(1, abi::HIRED_SAMPLE_THREADS as usize / 32) * 32;
        let launch = Launch {
            file: "sample",
            kernel: format!("sample_{name}_f32"),
            grid: [self.rows as u32, 1, 1],
            block: threads as u32,
            shared: 0,
            cost: Cost::bytes(self.rows * self.cols * size_of::<f32>()),
        };
        (launch, params)
    }

    /// The tokens, given the words of [`Layout::outcome`].
    ///
    /// # Errors
    /// [`Error::Numeric`] when a logit is not finite.
    pub fn tokens(&self, outcome: &[u32]) -> Result<Vec<u32>> {
        let (tokens, flags) = outcome.split_at(self.rows);
        if flags.iter().any(|&flags| flags != 0) {
            return Err(Error::Numeric(
                "the logits are not finite: numbers overflowed (f16 ends at 65504: try f32, --dtype f32), or the \
                 checkpoint's weights hold NaN or infinity"
                    .into(),
            ));
        }
        Ok(tokens.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_lie_side_by_side() {
        let greedy = Choosing::new(3, 100, true);
        assert_eq!(greedy.layout().outcome(), 0..24);
        assert_eq!(greedy.layout().bytes(), 24);
        let draw = Choosing::new(3, 100, false);
        assert_eq!(draw.layout().bytes(), 24 + 3 * 32 + 3 * 100 * 8);
        assert_eq!(size_of::<abi::SampleHow>(), 32);
        let how = [(Sampling { seed: 7, ..Sampling::default() }, 5); 3];
        assert!(Choosing::is_greedy(&how));
        assert_eq!(draw.how(&how).len(), draw.layout().how.len());
    }

    #[test]
    fn blocks_are_whole_warps() {
        let launch = |cols| Choosing::new(2, cols, true).launch(8, 0).0;
        assert_eq!((launch(1).block, launch(33).block), (32, 64));
        assert_eq!((launch(32064).block, launch(32064).grid), (1024, [2, 1, 1]));
        assert_eq!(Choosing::new(1, 9, false).launch(8, 0).0.kernel, "sample_draw_f32");
    }

    #[test]
    fn a_raised_flag_is_an_error() {
        let choosing = Choosing::new(2, 9, true);
        assert_eq!(choosing.tokens(&[4, 5, 0, 0]).unwrap(), [4, 5]);
        assert!(choosing.tokens(&[4, 5, 0, abi::HIRED_WRONG_LOGITS]).is_err());
    }
}
