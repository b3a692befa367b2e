//! Selection and sampling on the device.

use super::buffer::{Buffer, Home, Scores};
use super::executor::Cuda;
use super::launch::Number;
use super::sample::Choosing;
use super::select::{ClsHeads, Selecting};
use crate::Result;
use crate::ops::sample::Sampling;
use crate::ops::{Chosen, Extent};
use crate::select::{self, Plan};
use std::ops::Range;

/// A selection in device memory.
#[derive(Debug)]
pub struct Kept {
    _place: Home,
    /// First kept row of each partition, then their number.
    pub(super) offsets: u64,
    /// Rows of the vision tower that are kept.
    pub(super) rows: u64,
    /// Kept row, or a newline, of each row in the prompt.
    pub(super) slots: u64,
    pub(super) count: usize,
    pub(super) slot_count: usize,
    /// Where its arrays lie.
    block: u64,
    selecting: Selecting,
}

impl Chosen for Kept {
    fn kept(&self) -> usize {
        self.count
    }

    fn slots(&self) -> usize {
        self.slot_count
    }
}

const WORD: usize = size_of::<u32>();

/// Where a word of a block lies.
fn word(block: u64, index: usize) -> u64 {
    block + (index * WORD) as u64
}

impl Cuda {
    /// Which patches are kept, on the device. The host waits only for a number that the plan does not tell.
    pub(super) fn choose(
        &mut self,
        plan: &Plan,
        init: Option<&Scores>,
        scores: Option<&Scores>,
    ) -> Result<Kept> {
        let selecting = Selecting::new(plan)?;
        let layout = selecting.layout().clone();
        let (place, block) = self.region(layout.words() * WORD)?;
        let at = |range: &Range<usize>| word(block, range.start);
        let heads = |scores: Option<&Scores>| scores.map_or(ClsHeads::default(), |s| s.heads);
        match selecting.known() {
            // SAFETY: the region holds the words.
            Some(words) => unsafe { self.queue.upload(block, &words)? },
            None => {
                // SAFETY: the region holds the flags; the launches' arrays are parts of it.
                unsafe {
                    self.queue.clear(at(&layout.flags), layout.flags.len() * WORD)?;
                    for (launch, params) in selecting.launches(block, heads(init), heads(scores)) {
                        self.queue.launch_with(&launch, params.pointer())?;
                    }
                }
            }
        }
        let count = if plan.is_exact() {
            plan.kept
        } else {
            let head = layout.head();
            // SAFETY: the head is a part of the region.
            selecting.delivered(&unsafe { self.queue.download(at(&head), head.len())? })?
        };
        Ok(Kept {
            offsets: at(&layout.offsets),
            rows: at(&layout.rows),
            slots: at(&layout.slots),
            count,
            slot_count: count + plan.newlines,
            block,
            selecting,
            _place: place,
        })
    }

    /// The selection for the host.
    pub(super) fn read_kept(&mut self, kept: &Kept) -> Result<select::Kept> {
        let outcome = kept.selecting.layout().outcome();
        // SAFETY: the outcome is a part of the selection's region.
        let words = unsafe { self.queue.download(word(kept.block, outcome.start), outcome.len())? };
        kept.selecting.kept(&words)
    }

    /// The scores of a selection, for the host.
    pub(super) fn read_scores(&mut self, kept: &Kept) -> Result<select::Scores> {
        let layout = kept.selecting.layout();
        let read = |scores: &Range<usize>| {
            // SAFETY: the scores are a part of the selection's region.
            unsafe { self.queue.download(word(kept.block, scores.start), scores.len()) }
        };
        Ok(select::Scores { init: read(&layout.init)?, last: read(&layout.last)? })
    }

    /// A token for each row of logits.
    pub(super) fn draw(&mut self, logits: &Buffer, how: &[(Sampling, usize)]) -> Result<Vec<u32>> {
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
            self.queue.launch_with(&launch, params.pointer())?;
            self.queue.download(at(&outcome), outcome.len() / WORD)?
        };
        choosing.tokens(&outcome)
    }

    /// A buffer's numbers, in f32 and without padding.
    pub(super) fn read(&self, x: &Buffer) -> Result<Vec<f32>> {
        let count = x.rows() * x.stride;
        // SAFETY: the buffer has so many numbers.
        let all = unsafe {
            match x.number {
                Number::F32 => self.queue.download::<f32>(x.address, count)?,
                Number::F16 => {
                    let half = self.queue.download::<half::f16>(x.address, count)?;
                    half.iter().map(|x| x.to_f32()).collect()
                }
            }
        };
        if x.stride == x.cols {
            return Ok(all);
        }
        let rows = all.chunks_exact(x.stride.max(1)).flat_map(|row| &row[..x.cols]);
        Ok(rows.copied().collect())
    }
}
