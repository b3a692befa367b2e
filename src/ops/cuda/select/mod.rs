//! The launches that select patches: what [`crate::select::choose`] and [`crate::select::order`] do, on the device.
//!
//! All arrays are of 32-bit words and lie in one block of memory, so that a selection is one allocation and every
//! address is known before any score is. Nothing is read back for a plan whose number of kept patches is known; for
//! the others, and to look for wrong scores, one copy of the first words serves.
//!
//! There are kernels for HiRED's counting, its ranks and their order. What else there is to look at goes to the host,
//! which chooses by the same functions and sends the block.
//!
//! Four small launches, none of which reads more than the heads of the scores, which it sums first: some 20 µs beside the
//! milliseconds of the encoder.

mod launches;

pub use launches::{ClsHeads, Params};

use super::abi;
use crate::select::{Heads, Kept, Plan, Ranking, Scores, Slot, order};
use crate::{Error, Result};
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
    /// `[rows]`: where they are taken from, [`Plan::rows_of`].
    pub rows: Range<usize>,
    /// `[rows + newlines]`: kept row for each row of the prompt, or [`NEWLINE`].
    pub slots: Range<usize>,
    /// `[P]` and `[P·T]`: kept patches of each partition; place of each patch among them.
    counts: Range<usize>,
    ranks: Range<usize>,
    /// `[T]`, f32: the full image's content scores, the heads become one, if the plan needs them.
    pub init: Range<usize>,
    /// `[P, T]`, f32: the ranking scores, likewise.
    pub last: Range<usize>,
}

/// In the slots: a newline.
pub const NEWLINE: u32 = abi::HIRED_NEWLINE;

impl Layout {
    fn new(plan: &Plan) -> Self {
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
            rows: take(plan.rows),
            slots: take(plan.rows + plan.newlines),
            counts: take(partitions),
            ranks: take(partitions * patches),
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
}

/// A selection on the device, before it has an address.
#[derive(Debug, Clone)]
pub struct Selecting {
    plan: Plan,
    layout: Layout,
}

impl Selecting {
    /// Prepares what the plan says.
    ///
    /// # Errors
    /// [`Error::Request`] for more sub-images or patches than the kernels take.
    pub fn new(plan: &Plan) -> Result<Self> {
        let (partitions, patches) = (plan.geometry.partitions(), plan.geometry.patches());
        let most = [abi::HIRED_SUB_IMAGES, abi::HIRED_PATCHES].map(|n| n as usize);
        let selecting = Self { plan: plan.clone(), layout: Layout::new(plan) };
        if selecting.ranking().is_none() {
            return Ok(selecting);
        }
        if partitions - 1 > most[0] {
            return Err(Error::Request(format!(
                "{} sub-images: on a CUDA device an image may have {} (use the CPU, --device cpu, or smaller pinpoints)",
                partitions - 1,
                most[0]
            )));
        }
        if patches > most[1] {
            return Err(Error::Request(format!(
                "{patches} patches in a partition: on a CUDA device it may have {} (use the CPU, --device cpu)",
                most[1]
            )));
        }
        Ok(selecting)
    }

    /// What the kernels do; `None`: the host chooses. Their scores are sums over heads.
    pub fn ranking(&self) -> Option<&Ranking> {
        self.plan.ranking.as_ref().filter(|_| self.plan.needs.heads == Heads::Sum)
    }

    /// Whether nothing is looked at.
    pub fn is_known(&self) -> bool {
        self.plan.needs.nothing()
    }

    /// The words of the allocation, where they are known before the launches.
    pub fn allocation(&self) -> Option<Vec<u32>> {
        let known = self.ranking()?.allocation.as_ref()?;
        Some(known.iter().map(|&count| count as u32).collect())
    }

    /// What is planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where the arrays lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The block for an outcome and its scores; without flags.
    pub fn block(&self, kept: &Kept, scores: &Scores) -> Vec<u32> {
        let patches = self.plan.geometry.patches();
        let mut block = vec![0; self.layout.words()];
        let mut put = |range: &Range<usize>, values: &mut dyn Iterator<Item = u32>| {
            block[range.clone()].iter_mut().zip(values).for_each(|(to, value)| *to = value);
        };
        let counts = || kept.indices.iter().map(|indices| indices.len() as u32);
        let offsets: Vec<u32> = (0..=kept.indices.len()).map(|i| counts().take(i).sum()).collect();
        let rows = self.plan.rows_of(&kept.indices).into_iter().map(|row| row as u32);
        let mut ranks = vec![abi::HIRED_DROPPED; self.layout.ranks.len()];
        for (partition, indices) in kept.indices.iter().enumerate() {
            for (rank, &patch) in indices.iter().enumerate() {
                ranks[partition * patches + patch as usize] = rank as u32;
            }
        }
        let slots = order(&self.plan, kept).into_iter().map(|slot| match slot {
            Slot::Newline => NEWLINE,
            Slot::Merged(added) => (kept.count() + added) as u32,
            Slot::Patch { partition, patch } => {
                offsets[partition] + ranks[partition * patches + patch as usize]
            }
        });
        put(&self.layout.slots, &mut { slots });
        put(&self.layout.allocation, &mut kept.allocation.iter().map(|&n| n as u32));
        put(&self.layout.patches, &mut kept.indices.iter().flatten().copied());
        put(&self.layout.rows, &mut { rows });
        put(&self.layout.counts, &mut counts());
        put(&self.layout.offsets, &mut offsets.iter().copied());
        put(&self.layout.ranks, &mut ranks.iter().copied());
        put(&self.layout.init, &mut scores.init.iter().map(|score| score.to_bits()));
        put(&self.layout.last, &mut scores.last.iter().map(|score| score.to_bits()));
        block
    }

    /// How many patches are kept, from the words of [`Layout::head`].
    ///
    /// # Errors
    /// [`Error::Numeric`] for scores that no attention can be.
    pub fn delivered(&self, head: &[u32]) -> Result<usize> {
        check(head[self.layout.flags.start])?;
        Ok(head[self.layout.offsets.end - 1] as usize)
    }

    /// The outcome, from the words of [`Layout::outcome`].
    ///
    /// # Errors
    /// [`Error::Numeric`] for scores that no attention can be.
    pub fn kept(&self, outcome: &[u32]) -> Result<Kept> {
        self.delivered(outcome)?;
        let offsets = &outcome[self.layout.offsets.clone()];
        let patches = &outcome[self.layout.patches.clone()];
        let indices = offsets.windows(2).map(|w| patches[w[0] as usize..w[1] as usize].to_vec());
        let allocation = outcome[self.layout.allocation.clone()].iter().map(|&n| n as usize);
        Ok(Kept { allocation: allocation.collect(), indices: indices.collect(), mix: None })
    }
}

/// What the flags say.
///
/// # Errors
/// [`Error::Numeric`] for scores that no attention can be.
pub fn check(flags: u32) -> Result<()> {
    let name = match flags {
        0 => return Ok(()),
        f if f & abi::HIRED_WRONG_INIT != 0 => "an init score",
        f if f & abi::HIRED_WRONG_FINAL != 0 => "a final score",
        _ => {
            return Err(Error::Numeric(
                "the content scores of the full image are too large to be CLS attention, which sums to at most 1 for \
                 each head: check the checkpoint's weights"
                    .into(),
            ));
        }
    };
    Err(Error::Numeric(format!(
        "{name} is negative or not finite, which no attention can be: the vision tower overflowed or its weights are \
         damaged; try f32 or another copy of the checkpoint"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image;
    use crate::select::{Budget, Evidence, Geometry, Rule, Selection, choose, plan};

    fn geometry(grid: (usize, usize), side: usize) -> Geometry {
        let (width, height) = (grid.1 * side, grid.0 * side);
        let layout = image::Layout { width, height, side, grid: Some(grid), fit: (height, width) };
        Geometry::new(&layout, 1).unwrap()
    }

    fn selecting(rule: Rule, budget: Budget) -> Selecting {
        let selection = Selection { rule, budget, ..Selection::default() };
        Selecting::new(&plan(&geometry((2, 2), 24), &selection).unwrap()).unwrap()
    }

    #[test]
    fn arrays_lie_side_by_side() {
        let selecting = selecting(Rule::Exact, Budget::Count(100));
        let layout = selecting.layout();
        assert_eq!(layout.head(), 0..7);
        assert_eq!(layout.outcome(), 0..7 + 5 + 100);
        assert_eq!(layout.words(), 7 + 5 + 3 * 100 + 5 + 5 * 576 + 6 * 576);
        let heads = ClsHeads { weights: 512, sums: 1024, heads: 16 };
        let launches = selecting.launches(4096, heads, heads);
        let names: Vec<_> = launches.iter().map(|(launch, _)| launch.kernel.as_str()).collect();
        assert_eq!(names, ["select_exact", "select_topk", "select_rows", "select_order"]);
        assert_eq!(launches[0].0.shared, 48);
        let Params::Topk(topk) = launches[1].1 else { panic!("{launches:?}") };
        assert_eq!(topk.scores.weights as u64, 512);
        assert_eq!(topk.scores.out as u64, 4096 + 4 * (layout.words() - 5 * 576) as u64);
        let Params::Order(order) = launches[3].1 else { panic!("{launches:?}") };
        assert_eq!(order.offsets as u64, 4096 + 4);
        assert_eq!(order.slots as u64, 4096 + 4 * layout.slots.start as u64);
    }

    #[test]
    fn what_needs_no_score_needs_no_launch() {
        let selecting = selecting(Rule::Exact, Budget::Full);
        let none = ClsHeads::default();
        assert!(selecting.launches(0, none, none).is_empty());
        let chosen = choose(selecting.plan(), &Evidence::default()).unwrap();
        let block = selecting.block(&chosen, &Scores::default());
        assert_eq!(selecting.delivered(&block[selecting.layout().head()]).unwrap(), 5 * 576);
        let kept = selecting.kept(&block[selecting.layout().outcome()]).unwrap();
        assert_eq!(kept, chosen);
        assert_eq!(block[selecting.layout().slots.end - 1], NEWLINE);
    }

    #[test]
    fn flags_are_errors() {
        let message = |flags| check(flags).unwrap_err().to_string();
        check(0).unwrap();
        assert!(message(abi::HIRED_WRONG_INIT | abi::HIRED_WRONG_FINAL).contains("init score"));
        assert!(message(abi::HIRED_WRONG_FINAL).contains("final score"));
        assert!(message(abi::HIRED_LARGE_INIT).contains("too large"));
    }

    #[test]
    fn more_than_the_kernels_take_is_refused() {
        let new = |grid, side| {
            Selecting::new(&plan(&geometry(grid, side), &Selection::default()).unwrap())
        };
        new((40, 100), 2).unwrap();
        let error = new((3, 1334), 2).unwrap_err().to_string();
        assert!(error.contains("4002 sub-images") && error.contains("4000"), "{error}");
        new((1, 1), 256).unwrap();
        let error = new((1, 1), 257).unwrap_err().to_string();
        assert!(error.contains("66049 patches") && error.contains("65536"), "{error}");
    }
}
