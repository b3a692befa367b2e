//! Rows that are weighted sums of feature rows.

use rayon::prelude::*;
use std::ops::Range;

/// The rows that enter the decoder if a method merges tokens: each is a combination of rows of the vision tower's
/// output \[P·(T+1), D\].
///
/// First come the rows of kept patches, partition after partition, then additional rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mix {
    /// The end of each row's sources; they begin where those of the row before end.
    ends: Vec<usize>,
    sources: Vec<u32>,
    weights: Vec<f32>,
    /// The partition of each additional row. Those of the full image come first.
    added: Vec<usize>,
}

impl Mix {
    /// Appends a row, given its sources and their weights.
    pub fn push(&mut self, sources: impl IntoIterator<Item = (usize, f32)>) {
        for (source, weight) in sources {
            self.sources.push(source as u32);
            self.weights.push(weight);
        }
        self.ends.push(self.sources.len());
    }

    /// Appends an additional row, which belongs to no kept patch.
    pub fn push_added(
        &mut self,
        partition: usize,
        sources: impl IntoIterator<Item = (usize, f32)>,
    ) {
        self.push(sources);
        self.added.push(partition);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// The partitions of the additional rows.
    pub fn added(&self) -> &[usize] {
        &self.added
    }

    /// Bytes of a mixture with that many rows and sources.
    pub(super) fn bytes(rows: usize, sources: usize) -> usize {
        rows * 2 * size_of::<usize>() + sources * (size_of::<u32>() + size_of::<f32>())
    }

    /// Number of sources of all rows.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Range of a row's sources.
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

    /// Computes the rows from `x`; both matrices are row-major with `cols` columns. Sums in f32, in the order of the
    /// sources.
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
