//! PruMerge and PruMerge+ (Shang et al., "LLaVA-PruMerge: adaptive token reduction for efficient large multimodal
//! models", 2024): keeps tokens with outlying attention and merges similar tokens into them.
//!
//! It works on each partition, over its valid patches only, with a\[j\] the class token's attention in the tower's
//! last block, treated as a single head, and keys of the same block:
//!
//! - number: the patches above Q3 + 1.5·(Q3 − Q1) of a (`adaptive`, as published; at least one, and all partitions are
//!   reduced in proportion if their sum exceeds the budget), or the partition's part of HiRED's budget (`budget`, as
//!   HiRED's authors compared it);
//! - selection: the patches with the highest a; with `+` also evenly spaced patches, at a third of the distance that as
//!   many evenly spaced patches as are kept would have;
//! - merging: to the features of a kept patch, those of the 32 patches with the most similar keys are added, each
//!   weighted by its a; all dropped patches, weighted by their a, form one additional row.
//!
//! For a given number of rows, `+` keeps a quarter of the patches by a, which is what a third of the distance
//! implies, and the others evenly spaced. Rows are in raster order; the published code orders them by a.

use super::budget::Factor;
use super::cosine::Units;
use super::dropping::{Dropping, Evidence, Layer, Needs, Parts, Size};
use super::geometry::Geometry;
use super::hired::Hired;
use super::program::Program;
use super::selection::{Counting, Selection};
use super::topk::highest;
use super::uniform::middles;
use super::{Kept, Mix, Plan, exact};
use crate::Result;

/// PruMerge with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruMerge {
    /// True for PruMerge+.
    spatial: bool,
    /// HiRED's allocation, if it determines the number of tokens instead of the outliers.
    budgets: Option<Hired>,
    keys: Layer,
    neighbours: usize,
    outliers: Factor,
}

/// The data of one partition.
struct Partition {
    valid: Vec<usize>,
    /// The class token's attention to each valid patch.
    attention: Vec<f32>,
}

/// The patches kept in one partition, as indices among its valid patches.
struct Share {
    places: Vec<u32>,
    /// True if the dropped patches form an additional row.
    merged: bool,
}

impl Share {
    fn rows(&self) -> usize {
        self.places.len() + usize::from(self.merged)
    }
}

impl PruMerge {
    pub(super) fn new(selection: &Selection) -> Self {
        let tuning = &selection.tuning;
        let budgets = match tuning.prumerge {
            Counting::Adaptive => None,
            Counting::Budget => Some(Hired::exact(selection)),
        };
        Self {
            spatial: false,
            budgets,
            keys: Layer::At(tuning.key_layer.unwrap_or(-1)),
            neighbours: tuning.neighbours,
            outliers: tuning.outliers,
        }
    }

    pub(super) fn plus(selection: &Selection) -> Self {
        Self { spatial: true, ..Self::new(selection) }
    }

    /// The number of outliers; at least one if there are patches.
    fn outlying(&self, attention: &[f32]) -> usize {
        let mut sorted: Vec<f64> = attention.iter().map(|&a| f64::from(a)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let quartile = |q: f64| {
            let at = q * (sorted.len() - 1) as f64;
            let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
            low + (high - low) * at.fract()
        };
        let (q1, q3) = (quartile(0.25), quartile(0.75));
        let fence = q3 + self.outliers.value() * (q3 - q1);
        sorted.iter().filter(|&&a| a > fence).count().max(1)
    }

    /// What a partition keeps without a given number of rows.
    fn adaptive(&self, Partition { attention, .. }: &Partition) -> Share {
        let n = attention.len();
        if n == 0 {
            return Share { places: Vec::new(), merged: false };
        }
        let count = self.outlying(attention);
        let mut places = highest(attention, 0..n, count);
        if self.spatial {
            places.extend((0..n as u32 - 1).step_by((n / count / 3).max(1)));
            places.sort_unstable();
            places.dedup();
        }
        let merged = places.len() < n;
        Share { places, merged }
    }

    /// What a partition keeps in `rows` rows, at most its valid patches. If there is only one row, it is a patch's
    /// own.
    fn within(&self, rows: usize, Partition { attention, .. }: &Partition) -> Share {
        let n = attention.len();
        let merged = rows >= 2 && rows < n;
        let count = rows - usize::from(merged);
        if !self.spatial {
            return Share { places: highest(attention, 0..n, count), merged };
        }
        let mut places = highest(attention, 0..n, count.div_ceil(4));
        let is_other = |place: &u32| places.binary_search(place).is_err();
        let others: Vec<u32> = (0..n as u32).filter(is_other).collect();
        places.extend(middles(others.len(), count - places.len()).map(|at| others[at]));
        places.sort_unstable();
        Share { places, merged }
    }

    fn shares(&self, plan: &Plan, init: &[f32], all: &[Partition]) -> Result<Vec<Share>> {
        let rows = match &self.budgets {
            Some(budgets) => budgets.allocate(&plan.geometry, plan.budget, init)?,
            None => {
                let shares: Vec<Share> = all.iter().map(|p| self.adaptive(p)).collect();
                let rows: Vec<usize> = shares.iter().map(Share::rows).collect();
                if rows.iter().sum::<usize>() <= plan.rows {
                    return Ok(shares);
                }
                let weights: Vec<u128> = rows.iter().map(|&rows| rows as u128).collect();
                exact::share(plan.rows, &rows, &weights)
            }
        };
        Ok(rows.into_iter().zip(all).map(|(rows, p)| self.within(rows, p)).collect())
    }
}

/// The class token's attention to the valid patches of partition `i`: softmax over all T + 1 keys, as a single head.
fn attention(geometry: &Geometry, evidence: &Evidence<'_>, i: usize) -> Partition {
    let query = evidence.queries.row(i);
    let keys = geometry.stride();
    let scale = 1.0 / (query.len() as f64).sqrt();
    let logit = |key: usize| {
        let key = evidence.keys.row(i * keys + key);
        let products = query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k));
        products.sum::<f64>() * scale
    };
    let logits: Vec<f64> = (0..keys).map(logit).collect();
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|x| (x - most).exp()).sum();
    let valid: Vec<usize> = geometry.valid_patches(i).collect();
    let share = |&patch: &usize| ((logits[1 + patch] - most).exp() / sum) as f32;
    let attention = valid.iter().map(share).collect();
    Partition { valid, attention }
}

impl Dropping for PruMerge {
    fn parts(&self) -> Parts {
        let shares = self.budgets.is_some();
        Parts { shares, heads: shares, ..Parts::default() }
    }

    fn needs(&self, geometry: &Geometry) -> Needs {
        let init = self.budgets.as_ref().and_then(|budgets| budgets.needs(geometry).init);
        let heads =
            self.budgets.as_ref().map_or_else(Default::default, |b| b.needs(geometry).heads);
        Needs { init, heads, keys: Some(self.keys), ..Needs::default() }
    }

    /// At most a quarter of all patches lies above the third quartile.
    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        let outlying = |n: usize| n.saturating_sub(1) - 3 * n.saturating_sub(1) / 4;
        let most = |i: usize| match geometry.valid_in(i) {
            0 => 0,
            valid if self.spatial => valid,
            valid => (outlying(valid).max(1) + 1).min(valid),
        };
        let rows = match self.budgets {
            Some(_) => geometry.valid(),
            None => (0..geometry.partitions()).map(most).sum(),
        };
        let rows = budget.min(rows);
        let near = self.neighbours.min(geometry.patches() - 1);
        let sources = rows * (1 + near) + geometry.valid();
        Size { rows, exact: self.budgets.is_some(), sources }
    }

    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
        let geometry = &plan.geometry;
        let all: Vec<Partition> =
            (0..geometry.partitions()).map(|i| attention(geometry, evidence, i)).collect();
        let shares = self.shares(plan, evidence.init, &all)?;
        let row = |i: usize, place: usize| geometry.row(i, all[i].valid[place]);
        let mut mix = Mix::default();
        for (i, (Partition { attention, .. }, Share { places, .. })) in
            all.iter().zip(&shares).enumerate()
        {
            let n = attention.len();
            let units = Units::of(evidence.keys, (0..n).map(|place| row(i, place)));
            let mut likeness = vec![0.0; n];
            for place in places.iter().map(|&place| place as usize) {
                units.cosines_with(place, &mut likeness);
                let others = (0..n).filter(|&other| other != place);
                let near = highest(&likeness, others, self.neighbours).into_iter();
                let near = near.map(|other| (row(i, other as usize), attention[other as usize]));
                mix.push([(row(i, place), 1.0)].into_iter().chain(near));
            }
        }
        for (i, share) in shares.iter().enumerate().filter(|(_, share)| share.merged) {
            let attention = &all[i].attention;
            let is_dropped = |place: &usize| share.places.binary_search(&(*place as u32)).is_err();
            let dropped = (0..attention.len()).filter(is_dropped);
            mix.push_added(i, dropped.map(|place| (row(i, place), attention[place])));
        }
        let patches = |(p, share): (&Partition, &Share)| {
            share.places.iter().map(|&place| p.valid[place as usize] as u32).collect()
        };
        let kept = Kept::of(all.iter().zip(&shares).map(patches).collect());
        Ok(Kept { mix: Some(mix), ..kept })
    }

    /// With adaptive counting the number of rows depends on the evidence, so the selection runs on the host.
    fn program(&self, geometry: &Geometry, budget: usize) -> Option<Program> {
        let ranking = self.budgets.as_ref()?.count(geometry, budget);
        let neighbours = self.neighbours.min(geometry.patches() - 1);
        Some(Program::Merge { ranking, spatial: self.spatial, neighbours })
    }

    fn scratch(&self, plan: &Plan, width: usize) -> usize {
        Units::bytes(plan.geometry.patches(), width)
    }
}
