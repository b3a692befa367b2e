//! Methods that look at no evidence: the baselines, and the method that drops nothing.

use super::dropping::{Dropping, Evidence, Needs, Size};
use super::geometry::Geometry;
use super::selection::{Selection, Spacing};
use super::{Kept, Plan, exact};
use crate::Result;

/// Drops nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Dropping for Full {
    fn needs(&self, _: &Geometry) -> Needs {
        Needs::default()
    }

    fn size(&self, geometry: &Geometry, _: usize) -> Size {
        Size { rows: geometry.valid(), exact: true, sources: 0 }
    }

    fn choose(&self, plan: &Plan, _: &Evidence<'_>) -> Result<Kept> {
        let geometry = &plan.geometry;
        let all = |i| geometry.valid_patches(i).map(|patch| patch as u32).collect();
        Ok(Kept::of((0..geometry.partitions()).map(all).collect()))
    }
}

/// Keeps patches without any score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uniform {
    /// Evenly spaced in raster order; tokens are split in proportion to the partitions' valid patches.
    Even,
    /// Every s-th of a partition's T patches from the first on, as HiRED's published code samples for its baseline,
    /// with s = ⌊T / ⌊B/P⌋⌋. Because s is rounded down, up to twice the budget *B* is kept (288 of 576 at 40%, where
    /// s = 2). Patches in padding are lost. The published code does not work for a budget of less than one patch per
    /// partition; here it counts as one.
    Stride,
    /// Random patches with this seed; tokens are split in proportion to the partitions' valid patches.
    Random(u64),
}

impl Uniform {
    /// [`Uniform::Even`] or [`Uniform::Stride`], as the selection says.
    pub(super) fn spatial(selection: &Selection) -> Self {
        match selection.tuning.spatial {
            Spacing::Even => Self::Even,
            Spacing::Stride => Self::Stride,
        }
    }
}

impl Dropping for Uniform {
    fn needs(&self, _: &Geometry) -> Needs {
        Needs::default()
    }

    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        let rows = match self {
            Self::Even | Self::Random(_) => budget.min(geometry.valid()),
            Self::Stride => {
                let stride = stride(geometry, budget);
                (0..geometry.partitions()).map(|i| multiples(geometry, stride, i).count()).sum()
            }
        };
        Size { rows, exact: true, sources: 0 }
    }

    fn choose(&self, plan: &Plan, _: &Evidence<'_>) -> Result<Kept> {
        let geometry = &plan.geometry;
        Ok(match *self {
            Self::Even => shared_out(plan, |_, valid, count| even(valid, count)),
            Self::Random(seed) => shared_out(plan, |i, valid, count| drawn(seed, i, valid, count)),
            Self::Stride => {
                let stride = stride(geometry, plan.budget);
                let of = |i| multiples(geometry, stride, i).map(|patch| patch as u32).collect();
                let indices: Vec<_> = (0..geometry.partitions()).map(of).collect();
                let allocation = vec![geometry.patches().div_ceil(stride); indices.len()];
                Kept { allocation, indices, mix: None }
            }
        })
    }
}

/// Splits the budget in proportion to the partitions' valid patches; `pick` selects that many of the valid ones,
/// ascending.
fn shared_out(plan: &Plan, pick: impl Fn(usize, Vec<u32>, usize) -> Vec<u32>) -> Kept {
    let geometry = &plan.geometry;
    let counts = exact::proportional(geometry, plan.rows).into_iter().enumerate();
    let indices = counts.map(|(i, count)| {
        let valid = geometry.valid_patches(i).map(|patch| patch as u32).collect();
        pick(i, valid, count)
    });
    Kept::of(indices.collect())
}

fn even(valid: Vec<u32>, count: usize) -> Vec<u32> {
    middles(valid.len(), count).map(|i| valid[i]).collect()
}

/// Every patch draws a random number and the lowest are kept. All subsets are equally likely, and a patch's number
/// does not depend on the number of patches.
fn drawn(seed: u64, partition: usize, mut valid: Vec<u32>, count: usize) -> Vec<u32> {
    let draw = |&patch: &u32| mix(mix(mix(seed) ^ partition as u64) ^ u64::from(patch));
    valid.sort_by_key(draw);
    valid.truncate(count);
    valid.sort_unstable();
    valid
}

/// The distance s of [`Uniform::Stride`].
fn stride(geometry: &Geometry, budget: usize) -> usize {
    let (patches, each) = (geometry.patches(), budget / geometry.partitions());
    patches / each.clamp(1, patches)
}

/// Valid patches of partition `i` that are multiples of `stride`, ascending.
fn multiples(geometry: &Geometry, stride: usize, i: usize) -> impl Iterator<Item = usize> {
    geometry.valid_patches(i).filter(move |patch| patch.is_multiple_of(stride))
}

/// The centres of `count` equal segments of `length` positions.
pub(super) fn middles(length: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (2 * i + 1) * length / (2 * count))
}

/// SplitMix64: a full-period step followed by its finaliser.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Layout;

    #[test]
    fn even_distances() {
        let valid: Vec<u32> = (10..20).collect();
        assert_eq!(even(valid.clone(), 2), [12, 17]);
        assert_eq!(even(valid.clone(), 3), [11, 15, 18]);
        assert_eq!(even(valid.clone(), 10), valid);
        assert!(even(valid.clone(), 0).is_empty());
    }

    /// The published code at 40%, 20% and 10% of 24×24 patches, and where it does not work.
    #[test]
    fn the_published_stride() {
        let layout = Layout {
            width: 672,
            height: 672,
            side: 336,
            grid: Some((2, 2)),
            fit: (672, 672),
            packing: Default::default(),
        };
        let geometry = Geometry::new(&layout, 14).unwrap();
        for (budget, expected, kept) in
            [(1152, 2, 5 * 288), (576, 5, 5 * 116), (288, 10, 5 * 58), (4, 576, 5), (2880, 1, 2880)]
        {
            assert_eq!(stride(&geometry, budget), expected, "{budget}");
            let size = Uniform::Stride.size(&geometry, budget);
            assert_eq!(size, Size { rows: kept, exact: true, sources: 0 }, "{budget}");
        }
    }

    #[test]
    fn every_patch_is_drawn_equally_often() {
        let valid: Vec<u32> = (0..20).collect();
        let mut times = [0u32; 20];
        for seed in 0..4000 {
            for patch in drawn(seed, 1, valid.clone(), 5) {
                times[patch as usize] += 1;
            }
        }
        // 1000 each are expected; the standard deviation of the binomial is 27.
        assert!(times.iter().all(|n| n.abs_diff(1000) < 110), "{times:?}");
    }

    #[test]
    fn a_seed_decides() {
        let valid: Vec<u32> = (0..576).collect();
        let of = |seed, partition| drawn(seed, partition, valid.clone(), 100);
        assert_eq!(of(3, 0), of(3, 0));
        assert_ne!(of(3, 0), of(4, 0));
        assert_ne!(of(3, 0), of(3, 1));
    }
}
