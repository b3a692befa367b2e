//! Layout of the arrays of a selection.

use super::super::abi;
use crate::select::Plan;
use std::ops::Range;

/// Offsets of the arrays of a selection, in words from the start of its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// One word: errors in the scores. Zero before the launches.
    pub flags: Range<usize>,
    /// `[P + 1]`: first kept row of each partition, then the number of all kept rows.
    pub offsets: Range<usize>,
    /// `[P]`: tokens allotted to each partition.
    pub allocation: Range<usize>,
    /// `[rows]`: patches kept, ascending in each partition.
    pub patches: Range<usize>,
    /// `[rows, each]`: their source rows, see [`Plan::rows_of`].
    pub rows: Range<usize>,
    /// `[rows + newlines]`: the kept row for each visual row of the prompt, or [`NEWLINE`].
    pub slots: Range<usize>,
    /// `[P]` and `[P·T]`: number of kept patches in each partition; rank of each patch among them.
    pub(super) counts: Range<usize>,
    pub(super) ranks: Range<usize>,
    /// `[rows, 2]`, if rows are weighted sums: where the sources of each begin and end.
    pub(super) spans: Range<usize>,
    /// Source rows, and their factors in f32.
    pub(super) sources: Range<usize>,
    pub(super) weights: Range<usize>,
    /// `[T]`, f32: the full image's content scores, reduced over the heads, if the plan needs them.
    pub init: Range<usize>,
    /// `[P, T]`, f32: the ranking scores, reduced over the heads, if the plan needs them.
    pub last: Range<usize>,
}

/// The value that stands for a newline in the slots.
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
        // Flags and offsets come first, so that one copy reads both.
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

    /// Number of words in the block.
    pub fn words(&self) -> usize {
        self.last.end
    }

    /// The words that are read back to learn the number of rows: flags and offsets.
    pub fn head(&self) -> Range<usize> {
        self.flags.start..self.offsets.end
    }

    /// All words that the host needs to know the outcome, including the head.
    pub fn outcome(&self) -> Range<usize> {
        self.flags.start..self.patches.end
    }

    /// The words that describe weighted sums.
    pub fn mix(&self) -> Range<usize> {
        self.spans.start..self.weights.end
    }
}

/// The arrays of a selection, at an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub layout: &'a Layout,
    pub block: u64,
}

impl Block<'_> {
    /// Address of an array.
    pub fn word(&self, range: &Range<usize>) -> *mut u32 {
        (self.block + (size_of::<u32>() * range.start) as u64) as *mut u32
    }
}
