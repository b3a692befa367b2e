//! Where the arrays of a selection lie.

use super::super::abi;
use crate::select::Plan;
use std::ops::Range;

/// Where the arrays of a selection lie, in words from the start of its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// One word: what is wrong with the scores. Zero before the launches.
    pub flags: Range<usize>,
    /// `[P + 1]`: first kept row of each partition, and their number at the end.
    pub offsets: Range<usize>,
    /// `[P]`: tokens allotted to each partition.
    pub allocation: Range<usize>,
    /// `[rows]`: patches kept, ascending in each partition.
    pub patches: Range<usize>,
    /// `[rows, each]`: where they are taken from, [`Plan::rows_of`].
    pub rows: Range<usize>,
    /// `[rows + newlines]`: kept row for each row of the prompt, or [`NEWLINE`].
    pub slots: Range<usize>,
    /// `[P]` and `[P·T]`: kept patches of each partition; place of each patch among them.
    pub(super) counts: Range<usize>,
    pub(super) ranks: Range<usize>,
    /// `[rows, 2]`, where rows are combinations: where the sources of each begin and end.
    pub(super) spans: Range<usize>,
    /// Rows that they are made of, and f32: what each is multiplied by.
    pub(super) sources: Range<usize>,
    pub(super) weights: Range<usize>,
    /// `[T]`, f32: the full image's content scores, the heads become one, if the plan needs them.
    pub init: Range<usize>,
    /// `[P, T]`, f32: the ranking scores, likewise.
    pub last: Range<usize>,
}

/// In the slots: a newline.
pub const NEWLINE: u32 = abi::HIRED_NEWLINE;

impl Layout {
    pub(super) fn new(plan: &Plan) -> Self {
        let (partitions, patches) = (plan.geometry.partitions(), plan.geometry.patches());
        let [init, last] = plan.scores();
        let mut end = 0;
        let mut take = |words: usize| {
            let start = end;
            end += words;
            start..end
        };
        // Flags and offsets first: one copy brings both.
        Self {
            flags: take(1),
            offsets: take(partitions + 1),
            allocation: take(partitions),
            patches: take(plan.rows),
            rows: take(plan.rows * plan.rows_each()),
            slots: take(plan.rows + plan.newlines),
            counts: take(partitions),
            ranks: take(partitions * patches),
            spans: take(if plan.sources > 0 { 2 * plan.rows } else { 0 }),
            sources: take(plan.sources),
            weights: take(plan.sources),
            init: take(init),
            last: take(last),
        }
    }

    /// The words of the block.
    pub fn words(&self) -> usize {
        self.last.end
    }

    /// What has to be read back where something is: the flags and the offsets.
    pub fn head(&self) -> Range<usize> {
        self.flags.start..self.offsets.end
    }

    /// All that the host needs to know the outcome, the head among it.
    pub fn outcome(&self) -> Range<usize> {
        self.flags.start..self.patches.end
    }

    /// What rows that are combinations are made of.
    pub fn mix(&self) -> Range<usize> {
        self.spans.start..self.weights.end
    }
}

/// A selection's arrays at an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub layout: &'a Layout,
    pub block: u64,
}

impl Block<'_> {
    /// Where an array begins.
    pub fn word(&self, range: &Range<usize>) -> *mut u32 {
        (self.block + (size_of::<u32>() * range.start) as u64) as *mut u32
    }
}
