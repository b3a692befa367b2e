//! Selection on the device: the launches that do what [`crate::select::choose`] and [`crate::select::order`] do on the
//! host.
//!
//! All arrays consist of 32-bit words in one block of memory, so that a selection is one allocation and every address
//! is known before any score is. Nothing is read back for a plan whose number of kept patches is known. Other plans,
//! and checks for wrong scores, read back the first words in one copy.
//!
//! There are kernels for every [`Program`]. Methods whose number of kept rows depends on the scores have no program and
//! run on the host, as do selections with more pairs to compare than the kernels support. The host uses the functions
//! of [`crate::select`] and fills the same block.
//!
//! HiRED needs four small launches. They read the scores of all heads once and reduce them first: by estimate some 40
//! µs on a P40, beside the milliseconds of the encoder. Methods that compare rows add a matrix product and greedy
//! picks, each of which depends on the last, see `kernels/diverse.cu` and `kernels/merge.cu`.

#[cfg(feature = "cuda")]
pub(super) mod fastv;
mod launches;
mod layout;
#[cfg(feature = "cuda")]
pub(super) mod ops;
mod params;
mod scratch;
mod similarity;

pub use layout::{Layout, NEWLINE};
pub use params::{ClsHeads, Launches, Params, Rows, Seen};
pub use scratch::Scratch;

use super::abi;
use crate::ops::Widths;
use crate::select::{self, Kept, Mix, Plan, Program, Scores, Slot, order};
use crate::{Error, Result};
use layout::Block;
use std::ops::Range;

/// A selection on the device, before it has a block.
#[derive(Debug, Clone)]
pub struct Selecting {
    plan: Plan,
    layout: Layout,
}

impl Selecting {
    /// Prepares the launches of a plan.
    ///
    /// # Errors
    /// [`Error::Request`] for more sub-images or patches than the kernels support.
    pub fn new(plan: &Plan) -> Result<Self> {
        let (partitions, patches) = (plan.geometry.partitions(), plan.geometry.patches());
        let most = [abi::HIRED_SUB_IMAGES, abi::HIRED_PATCHES].map(|n| n as usize);
        let selecting = Self { plan: plan.clone(), layout: Layout::new(plan) };
        if plan.ranking().is_none() {
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

    /// The program that the kernels run; `None` where the host selects.
    pub fn program(&self) -> Option<&Program> {
        let geometry = &self.plan.geometry;
        let cosines = scratch::cosines(&scratch::compared(&self.plan));
        let fits = cosines[cosines.len() - 1] <= abi::HIRED_COSINES as usize
            && geometry.partitions() - 1 <= abi::HIRED_SUB_IMAGES as usize
            && geometry.patches() <= abi::HIRED_PATCHES as usize
            // The kernels weigh patches of equal area, before the canvas is shrunk.
            && !geometry.is_scaled()
            // The kernels compute shares in 64 bits, the host in more.
            && (self.plan.needs.init.is_none() || select::fits_64_bits(geometry));
        self.plan.program.as_ref().filter(|_| fits)
    }

    /// Whether the plan needs no scores and no rows.
    pub fn needs_no_evidence(&self) -> bool {
        self.plan.needs.nothing()
    }

    /// The tokens allotted to each partition, where they are known before the launches.
    pub fn allocation(&self) -> Option<Vec<u32>> {
        let known: Vec<usize> = match self.program()? {
            Program::Rank(ranking) => ranking.allocation.clone()?,
            Program::Contexts(shares) => shares.iter().map(|share| share.dominant).collect(),
            Program::Cover { counts, .. } => counts.clone(),
            Program::Spread | Program::Merge { .. } => return None,
        };
        Some(known.into_iter().map(|count| count as u32).collect())
    }

    /// The weighted sums of a block at this address; `None` where rows are copies.
    pub fn mix_at(&self, block: u64) -> Option<abi::SelectMix> {
        let layout = &self.layout;
        (!layout.sources.is_empty()).then(|| Block { layout, block }.mix())
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The layout of the arrays.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The words of a block for an outcome and its scores, without flags.
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
        if let Some(mix) = &kept.mix {
            let ends = (0..mix.rows())
                .flat_map(|row| <[usize; 2]>::from((mix.span(row).start, mix.span(row).end)));
            let sources = || (0..mix.rows()).flat_map(|row| mix.row(row));
            put(&self.layout.spans, &mut ends.map(|end| end as u32));
            put(&self.layout.sources, &mut sources().map(|(source, _)| source as u32));
            put(&self.layout.weights, &mut sources().map(|(_, weight)| weight.to_bits()));
        }
        put(&self.layout.init, &mut scores.init.iter().map(|score| score.to_bits()));
        put(&self.layout.last, &mut scores.last.iter().map(|score| score.to_bits()));
        block
    }

    /// The number of kept patches, given the words of [`Layout::head`].
    ///
    /// # Errors
    /// [`Error::Numeric`] for scores that attention cannot have.
    pub fn delivered(&self, head: &[u32]) -> Result<usize> {
        check(head[self.layout.flags.start])?;
        Ok(head[self.layout.offsets.end - 1] as usize)
    }

    /// The outcome, given the words of [`Layout::outcome`]. [`Selecting::mix`] has its weighted sums.
    ///
    /// # Errors
    /// [`Error::Numeric`] for scores that attention cannot have.
    pub fn kept(&self, outcome: &[u32]) -> Result<Kept> {
        self.delivered(outcome)?;
        let offsets = &outcome[self.layout.offsets.clone()];
        let patches = &outcome[self.layout.patches.clone()];
        let indices = offsets.windows(2).map(|w| patches[w[0] as usize..w[1] as usize].to_vec());
        let kept = Kept::of(indices.collect());
        Ok(match self.program() {
            Some(Program::Rank(_)) | None => {
                let allocation = outcome[self.layout.allocation.clone()].iter();
                Kept { allocation: allocation.map(|&n| n as usize).collect(), ..kept }
            }
            Some(_) => kept,
        })
    }

    /// The weighted sums of `rows` rows, of which the first `kept` are patches, given the words of [`Layout::mix`].
    pub fn mix(&self, kept: usize, rows: usize, words: &[u32]) -> Mix {
        let (spans, made) = words.split_at(self.layout.spans.len());
        let (sources, weights) = made.split_at(self.layout.sources.len());
        let tokens = self.plan.geometry.patches() + 1;
        let mut mix = Mix::default();
        for (row, span) in spans.chunks_exact(2).take(rows).enumerate() {
            let span = span[0] as usize..span[1] as usize;
            let weights = weights[span.clone()].iter().map(|&weight| f32::from_bits(weight));
            let sources = sources[span].iter().map(|&source| source as usize);
            match sources.clone().next() {
                Some(source) if row >= kept => {
                    mix.push_added(source / tokens, sources.zip(weights))
                }
                _ => mix.push(sources.zip(weights)),
            }
        }
        mix
    }
}

/// Bytes of a selection with its scores.
///
/// # Errors
/// When the plan has more sub-images or patches than the kernels support.
pub fn bytes(plan: &Plan) -> Result<usize> {
    Ok(Selecting::new(plan)?.layout().words() * size_of::<u32>())
}

/// Bytes of scratch for making a selection from evidence of these widths; `None` where no rows are compared.
pub fn scratch_bytes(plan: &Plan, widths: Widths) -> Option<usize> {
    Some(Scratch::of(&Selecting::new(plan).ok()?, widths)?.bytes())
}

/// Checks the flags.
///
/// # Errors
/// [`Error::Numeric`] for scores that attention cannot have.
pub fn check(flags: u32) -> Result<()> {
    let name = match flags {
        0 => return Ok(()),
        f if f & abi::HIRED_WRONG_INIT != 0 => "an init score",
        f if f & abi::HIRED_WRONG_FINAL != 0 => "a final score",
        f if f & abi::HIRED_WRONG_ROWS != 0 => {
            return Err(Error::Numeric(
                "the rows that are compared are not finite: the vision tower overflowed or its weights are damaged; try \
                 f32 or another copy of the checkpoint"
                    .into(),
            ));
        }
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
    use crate::select::{
        Budget, Counting, Evidence, Geometry, Rule, Selection, Tuning, choose, plan,
    };

    fn geometry(grid: (usize, usize), side: usize) -> Geometry {
        let (width, height) = (grid.1 * side, grid.0 * side);
        let layout = image::Layout {
            width,
            height,
            side,
            grid: Some(grid),
            fit: (height, width),
            packing: Default::default(),
        };
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
        let seen = Seen { init: heads, last: heads, ..Seen::default() };
        let launches = selecting.launches(4096, 0, &seen, 1);
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
        assert!(selecting.launches(0, 0, &Seen::default(), 1).is_empty());
        let chosen = choose(selecting.plan(), &Evidence::default()).unwrap();
        let block = selecting.block(&chosen, &Scores::default());
        assert_eq!(selecting.delivered(&block[selecting.layout().head()]).unwrap(), 5 * 576);
        let kept = selecting.kept(&block[selecting.layout().outcome()]).unwrap();
        assert_eq!(kept, chosen);
        assert_eq!(block[selecting.layout().slots.end - 1], NEWLINE);
    }

    #[test]
    fn more_pairs_than_the_kernels_take_are_the_hosts() {
        let program = |side, method: &str, prumerge| {
            let tuning = Tuning { prumerge, ..Tuning::default() };
            let method = method.parse().unwrap();
            let selection = Selection { method, tuning, ..Selection::default() };
            let plan = plan(&geometry((1, 1), side), &selection).unwrap();
            Selecting::new(&plan).unwrap().program().is_some()
        };
        for method in ["visionzip", "divprune", "scope", "prumerge", "prumerge+"] {
            // 2 · 64² patches are 8192, whose square is the limit; partitions of 96² are above it by themselves.
            assert!(program(64, method, Counting::Budget), "{method}");
            assert!(!program(96, method, Counting::Budget), "{method}");
        }
        assert!(
            !program(65, "divprune", Counting::Budget) && program(65, "scope", Counting::Budget)
        );
        assert!(program(96, "fastervlm", Counting::Budget));
        assert!(!program(4, "prumerge", Counting::Adaptive));
    }

    #[test]
    fn flags_are_errors() {
        let message = |flags| check(flags).unwrap_err().to_string();
        check(0).unwrap();
        assert!(message(abi::HIRED_WRONG_INIT | abi::HIRED_WRONG_FINAL).contains("init score"));
        assert!(message(abi::HIRED_WRONG_FINAL).contains("final score"));
        assert!(message(abi::HIRED_WRONG_ROWS).contains("rows"));
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
