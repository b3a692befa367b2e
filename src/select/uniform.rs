//! Dropping that looks at nothing: what every method that does look must beat.

use super::exact;
use super::geometry::Geometry;

/// Which patches are kept without any score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uniform {
    /// At even distances in raster order.
    Spatial,
    /// Any, by this seed.
    Random(u64),
}

/// Shares `tokens` ≤ V among all partitions in proportion to their valid patches, to the last token: the parts are
/// floored, what is over goes one each to the largest remainders, ties to the lower partition.
pub(super) fn allocation(geometry: &Geometry, tokens: usize) -> Vec<usize> {
    let valid: Vec<usize> = (0..geometry.partitions()).map(|i| geometry.valid_in(i)).collect();
    // Without contents the valid patches stand in for them.
    exact::share(tokens, &valid, &vec![0; valid.len()])
}

impl Uniform {
    /// `count` of the `valid` patches of a partition (all ascending), ascending.
    pub(super) fn choose(self, partition: usize, valid: &[u32], count: usize) -> Vec<u32> {
        match self {
            // The middles of `count` runs of equal length.
            Self::Spatial => {
                (0..count).map(|i| valid[(2 * i + 1) * valid.len() / (2 * count)]).collect()
            }
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
        assert_eq!(Uniform::Spatial.choose(0, &valid, 2), [12, 17]);
        assert_eq!(Uniform::Spatial.choose(0, &valid, 3), [11, 15, 18]);
        assert_eq!(Uniform::Spatial.choose(0, &valid, 10), valid);
        assert!(Uniform::Spatial.choose(0, &valid, 0).is_empty());
    }

    #[test]
    fn every_patch_is_drawn_equally_often() {
        let valid: Vec<u32> = (0..20).collect();
        let mut drawn = [0u32; 20];
        for seed in 0..4000 {
            for patch in Uniform::Random(seed).choose(1, &valid, 5) {
                drawn[patch as usize] += 1;
            }
        }
        // 1000 each; a binomial's deviation is 27.
        assert!(drawn.iter().all(|n| n.abs_diff(1000) < 110), "{drawn:?}");
    }

    #[test]
    fn a_seed_decides() {
        let valid: Vec<u32> = (0..576).collect();
        let of = |seed, partition| Uniform::Random(seed).choose(partition, &valid, 100);
        assert_eq!(of(3, 0), of(3, 0));
        assert_ne!(of(3, 0), of(4, 0));
        assert_ne!(of(3, 0), of(3, 1));
    }
}
