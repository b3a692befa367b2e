//! What a device runs to choose, where there are kernels for it.

use super::hired::Ranking;

/// The steps of a method on one image, with all numbers that no evidence changes. An executor that knows the steps needs
/// no [`super::Dropping::choose`].
#[derive(Debug, Clone, PartialEq)]
pub enum Program {
    /// The highest scores of every partition, by HiRED's counting.
    Rank(Ranking),
    /// The highest scores, the class token, and rows that sum up what is left, by likeness of keys: of each partition.
    Contexts(Vec<Contextual>),
    /// Rows as unlike each other as can be, over all partitions, by projected features.
    Spread,
    /// Rows that are attended to and stand for many others, by features.
    Cover {
        /// Of each partition.
        counts: Vec<usize>,
        /// Of the scores.
        exponent: f64,
    },
    /// The most attended rows with those of the most like keys merged into them, and a row of the others.
    Merge {
        /// Rows of each partition.
        ranking: Ranking,
        /// Three quarters lie at even distances.
        spatial: bool,
        /// Rows merged into each, as far as there are others.
        neighbours: usize,
    },
}

/// The rows of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contextual {
    /// Patches that are kept as they are.
    pub dominant: usize,
    /// Whether the class token is.
    pub class: bool,
    /// Rows that sum up what is left.
    pub contexts: usize,
}

impl Contextual {
    /// Rows beside the patches.
    pub fn added(&self) -> usize {
        usize::from(self.class) + self.contexts
    }

    /// Sources of these, of a partition with so many valid patches.
    pub fn sources(&self, valid: usize) -> usize {
        let left = if self.contexts == 0 { 0 } else { valid - self.dominant };
        usize::from(self.class) + left
    }
}
