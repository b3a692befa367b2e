//! Rows that are no plain patch: sums of weighted feature rows.

use rayon::prelude::*;
use std::ops::Range;

/// What enters the decoder when a method merges: each row a combination of rows \[P·(T+1), D\] of the vision tower.
///
/// First come the kept patches, partition after partition, then the rows that were added beside them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mix {
    /// Where each row's sources end; it begins where the one before ends.
    ends: Vec<usize>,
    sources: Vec<u32>,
    weights: Vec<f32>,
    /// The partition of each added row. Those of the full image come first.
    added: Vec<usize>,
}

impl Mix {
    /// Adds a row: its sources, each with its weight.
    pub fn push(&mut self, sources: impl IntoIterator<Item = (usize, f32)>) {
        for (source, weight) in sources {
            self.sources.push(source as u32);
            self.weights.push(weight);
        }
        self.ends.push(self.sources.len());
    }

    /// Adds a row that is no kept patch.
    pub fn push_added(
        &mut self,
        partition: usize,
        sources: impl IntoIterator<Item = (usize, f32)>,
    ) {
        self.push(sources);
        self.added.push(partition);
    }

    /// Rows in all.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// The partitions of the rows that were added beside kept patches.
    pub fn added(&self) -> &[usize] {
        &self.added
    }

    /// Bytes of so many rows made of so many sources.
    pub(super) fn bytes(rows: usize, sources: usize) -> usize {
        rows * 2 * size_of::<usize>() + sources * (size_of::<u32>() + size_of::<f32>())
    }

    /// Sources of all rows.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Where a row's sources lie among all.
    pub fn span(&self, row: usize) -> Range<usize> {
        let begin = if row == 0 { 0 } else { self.ends[row - 1] };
        begin..self.ends[row]
    }

    /// Sources and weights of a row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> {
        let range = self.span(row);
        let weights = &self.weights[range.clone()];
        self.sources[range].iter().zip(weights).map(|(&source, &weight)| (source as usize, weight))
    }

    /// out = the rows made of `x`, both row-major with `cols` numbers in a row; in f32, sources in their order.
    pub fn apply(&self, x: &[f32], cols: usize, out: &mut [f32]) {
        out.par_chunks_mut(cols.max(1)).enumerate().for_each(|(row, out)| {
            out.fill(0.0);
            for (source, weight) in self.row(row) {
                let x = &x[source * cols..][..cols];
                out.iter_mut().zip(x).for_each(|(out, x)| *out += weight * x);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_weighted_sums() {
        let mut mix = Mix::default();
        mix.push([(2, 1.0)]);
        mix.push([(0, 0.5), (1, -2.0)]);
        mix.push_added(3, []);
        assert_eq!((mix.rows(), mix.sources(), mix.added()), (3, 3, &[3][..]));
        assert_eq!(mix.row(1).collect::<Vec<_>>(), [(0, 0.5), (1, -2.0)]);
        let mut out = [9.0; 6];
        mix.apply(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, &mut out);
        assert_eq!(out, [5.0, 6.0, -5.5, -7.0, 0.0, 0.0]);
    }
}
