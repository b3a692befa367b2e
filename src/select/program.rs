//! The steps of a selection that a device runs, if there are kernels for it.

use super::hired::Ranking;

/// The steps of a method on one image, with all numbers that do not depend on evidence. An executor that supports
/// them does not need [`super::Dropping::choose`].
#[derive(Debug, Clone, PartialEq)]
pub enum Program {
    /// Keep the highest scores of every partition, with HiRED's allocation.
    Rank(Ranking),
    /// In each partition keep the highest scores, the class token, and contextual rows that summarise the rest by
    /// similarity of keys.
    Contexts(Vec<Contextual>),
    /// Keep rows that are as dissimilar as possible, over all partitions, by projected features.
    Spread,
    /// Keep rows that are attended to and represent many others, by features.
    Cover {
        /// Number of rows in each partition.
        counts: Vec<usize>,
        /// Exponent of the scores.
        exponent: f64,
    },
    /// Keep the most attended rows, merge those with the most similar keys into them, and add one row for all others.
    Merge {
        /// Number of rows in each partition.
        ranking: Ranking,
        /// Three quarters of the rows are evenly spaced.
        spatial: bool,
        /// Number of rows merged into each one, as far as there are others.
        neighbours: usize,
    },
}

/// The rows of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contextual {
    /// Patches that are kept unchanged.
    pub dominant: usize,
    /// True if the class token is kept.
    pub class: bool,
    /// Contextual rows, which summarise the rest.
    pub contexts: usize,
}

impl Contextual {
    /// The number of additional rows.
    pub fn added(&self) -> usize {
        usize::from(self.class) + self.contexts
    }

    /// The number of their sources in a partition with that many valid patches.
    pub fn sources(&self, valid: usize) -> usize {
        let left = if self.contexts == 0 { 0 } else { valid - self.dominant };
        usize::from(self.class) + left
    }
}
