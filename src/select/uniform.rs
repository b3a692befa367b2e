//! Dropping that looks at nothing: what every method that does look must beat. And none at all.

use super::dropping::{Dropping, Evidence, Needs, Size};
use super::geometry::Geometry;
use super::{Kept, Plan, exact};
use crate::Result;

/// Nothing is dropped.
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

/// Which patches are kept without any score: of each partition as many as its share of the valid ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uniform {
    /// At even distances in raster order.
    Spatial,
    /// Any, by this seed.
    Random(u64),
}

impl Dropping for Uniform {
    fn needs(&self, _: &Geometry) -> Needs {
        Needs::default()
    }

    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        Size { rows: budget.min(geometry.valid()), exact: true, sources: 0 }
    }

    fn choose(&self, plan: &Plan, _: &Evidence<'_>) -> Result<Kept> {
        let geometry = &plan.geometry;
        let counts = exact::proportional(geometry, plan.rows).into_iter().enumerate();
        let indices = counts.map(|(i, count)| {
            let valid: Vec<u32> = geometry.valid_patches(i).map(|patch| patch as u32).collect();
            self.pick(i, &valid, count)
        });
        Ok(Kept::of(indices.collect()))
    }
}

impl Uniform {
    /// `count` of the `valid` patches of a partition (all ascending), ascending.
    fn pick(self, partition: usize, valid: &[u32], count: usize) -> Vec<u32> {
        match self {
            Self::Spatial => middles(valid.len(), count).map(|i| valid[i]).collect(),
            Self::Random(seed) => {
                // Every patch draws a number, the lowest are kept: each choice is as likely as any other, and a
                // patch's number does not depend on how many there are.
                let draw = |&patch: &u32| mix(mix(mix(seed) ^ partition as u64) ^ u64::from(patch));
                let mut drawn = valid.to_vec();
                drawn.sort_by_key(draw);
                drawn.truncate(count);
                drawn.sort_unstable();
                drawn
            }
        }
    }
}

/// The middles of `count` runs of equal length of `length` places.
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

    #[test]
    fn even_distances() {
        let valid: Vec<u32> = (10..20).collect();
        assert_eq!(Uniform::Spatial.pick(0, &valid, 2), [12, 17]);
        assert_eq!(Uniform::Spatial.pick(0, &valid, 3), [11, 15, 18]);
        assert_eq!(Uniform::Spatial.pick(0, &valid, 10), valid);
        assert!(Uniform::Spatial.pick(0, &valid, 0).is_empty());
    }

    #[test]
    fn every_patch_is_drawn_equally_often() {
        let valid: Vec<u32> = (0..20).collect();
        let mut drawn = [0u32; 20];
        for seed in 0..4000 {
            for patch in Uniform::Random(seed).pick(1, &valid, 5) {
                drawn[patch as usize] += 1;
            }
        }
        // 1000 each; a binomial's deviation is 27.
        assert!(drawn.iter().all(|n| n.abs_diff(1000) < 110), "{drawn:?}");
    }

    #[test]
    fn a_seed_decides() {
        let valid: Vec<u32> = (0..576).collect();
        let of = |seed, partition| Uniform::Random(seed).pick(partition, &valid, 100);
        assert_eq!(of(3, 0), of(3, 0));
        assert_ne!(of(3, 0), of(4, 0));
        assert_ne!(of(3, 0), of(3, 1));
    }
}
