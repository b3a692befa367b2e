//! Combines the attention of several heads into one score.

use std::fmt;
use std::str::FromStr;

use crate::error::{QUOTED, excerpt};
use crate::{Error, Result};

/// How the heads of a block are combined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heads {
    /// Their sum, as in HiRED.
    #[default]
    Sum,
    /// Their mean.
    Mean,
    /// Their maximum.
    Max,
    /// The head with this index alone.
    One(usize),
}

impl Heads {
    /// Computes scores \[P, T\] from `heads` \[P, `count`, T\], in f32, adding heads in their order.
    pub fn scores(self, heads: &[f32], count: usize, patches: usize) -> Vec<f32> {
        let partitions = heads.chunks_exact((count * patches).max(1));
        let score = |partition: &[f32], patch: usize| {
            let mut of_heads = (0..count).map(|head| partition[head * patches + patch]);
            match self {
                Self::Sum => of_heads.fold(0.0, |sum, x| sum + x),
                Self::Mean => of_heads.fold(0.0, |sum, x| sum + x) / count as f32,
                // `max` ignores NaN, but an invalid score must remain visible.
                Self::Max => {
                    of_heads.fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most })
                }
                // Adding 0 turns −0 into 0, as in the sums.
                Self::One(head) => of_heads.nth(head).map_or(f32::NAN, |x| x + 0.0),
            }
        };
        partitions.flat_map(|p| (0..patches).map(move |patch| score(p, patch))).collect()
    }

    /// Refuses a head that does not exist in a block of `count` heads.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub fn check(self, count: usize) -> Result<()> {
        match self {
            Self::One(head) if head >= count => Err(Error::Request(format!(
                "head {head}: the vision tower's blocks have heads 0 to {}",
                count - 1
            ))),
            _ => Ok(()),
        }
    }
}

impl FromStr for Heads {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "sum" => Ok(Self::Sum),
            "mean" => Ok(Self::Mean),
            "max" => Ok(Self::Max),
            _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                // Parsing digits can only fail by overflow, and such a number is larger than any block's.
                Ok(Self::One(text.parse().unwrap_or(usize::MAX)))
            }
            _ => Err(Error::Request(format!(
                "heads `{}`: give sum, mean, max or the number of one head",
                excerpt(text, QUOTED)
            ))),
        }
    }
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sum => f.pad("sum"),
            Self::Mean => f.pad("mean"),
            Self::Max => f.pad("max"),
            Self::One(head) => f.pad(&head.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_become_one() {
        // Two partitions with two heads and two patches.
        let heads = [1.0, 2.0, 3.0, 0.5, 0.0, 4.0, 8.0, f32::NAN];
        let of = |how: &str| how.parse::<Heads>().unwrap().scores(&heads, 2, 2);
        assert_eq!(of("sum")[..3], [4.0, 2.5, 8.0]);
        assert_eq!(of("mean")[..3], [2.0, 1.25, 4.0]);
        assert_eq!(of("max")[..3], [3.0, 2.0, 8.0]);
        assert_eq!(of("1")[..3], [3.0, 0.5, 8.0]);
        assert_eq!(of("0"), [1.0, 2.0, 0.0, 4.0]);
        assert!(["sum", "mean", "max", "1", "9"].iter().all(|how| of(how)[3].is_nan()));
    }

    #[test]
    fn as_typed() {
        for text in ["sum", "mean", "max", "0", "15"] {
            assert_eq!(text.parse::<Heads>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "+1", "Sum", "1.0", "all"] {
            assert!(text.parse::<Heads>().is_err(), "{text}");
        }
        Heads::One(3).check(4).unwrap();
        assert!(Heads::One(4).check(4).unwrap_err().to_string().contains("0 to 3"));
    }
}
