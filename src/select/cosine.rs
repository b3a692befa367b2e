//! Cosine similarities of many rows at a time.

use super::dropping::Matrix;
use crate::matrix::{View, similarities};
use rayon::prelude::*;

/// Rows that a thread compares at a time.
const BLOCK: usize = 64;

/// Rows normalised to length 1; a row of zeros stays zero, so its similarity to every row is 0.
pub(super) struct Units {
    numbers: Vec<f32>,
    cols: usize,
}

impl Units {
    /// Normalises the given rows of a matrix.
    pub fn of(x: Matrix<'_>, rows: impl ExactSizeIterator<Item = usize>) -> Self {
        // The capacity must not exceed what [`Units::bytes`] predicts.
        let mut numbers = Vec::with_capacity(rows.len() * x.cols);
        rows.for_each(|row| numbers.extend_from_slice(x.row(row)));
        Self::new(numbers, x.cols)
    }

    /// Normalises rows of any length.
    pub fn new(mut numbers: Vec<f32>, cols: usize) -> Self {
        numbers.par_chunks_mut(cols.max(1)).for_each(|row| {
            let length = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
            }
        });
        Self { numbers, cols }
    }

    /// Bytes of that many rows.
    pub fn bytes(rows: usize, cols: usize) -> usize {
        rows * cols * size_of::<f32>()
    }

    /// Bytes of the result of [`Units::cosines`] for that many rows.
    pub fn cosine_bytes(rows: usize) -> usize {
        rows * rows * size_of::<f32>()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.numbers.len() / self.cols.max(1)
    }

    fn all(&self) -> View<'_> {
        View::dense(&self.numbers, self.cols)
    }

    /// Cosine similarities of all pairs of rows: `[n, n]`.
    pub fn cosines(&self) -> Vec<f32> {
        let n = self.len();
        let mut out = vec![0.0; n * n];
        out.par_chunks_mut((BLOCK * n).max(1)).enumerate().for_each(|(block, out)| {
            similarities(self.all().rows(BLOCK * block, out.len() / n), self.all(), 1.0, out);
        });
        out
    }

    /// Cosine similarities of one row with every row.
    pub fn cosines_with(&self, row: usize, out: &mut [f32]) {
        let other = self.all().rows(row, 1);
        out.par_chunks_mut(BLOCK).enumerate().for_each(|(block, out)| {
            similarities(self.all().rows(BLOCK * block, out.len()), other, 1.0, out);
        });
    }
}

/// Index of the first maximum among the elements for which `open` is true.
pub(super) fn greatest<T: PartialOrd + Copy>(
    values: &[T],
    open: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, value) in values.iter().enumerate().filter(|(i, _)| open(*i)) {
        if best.is_none_or(|best| *value > values[best]) {
            best = Some(i);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_are_those_of_angles() {
        // More than a block of rows of various lengths, at angles of whole degrees, and one row of zeros.
        let angles: Vec<f32> = (0..100).map(|i| (i as f32 * 3.0).to_radians()).collect();
        let numbers = angles.iter().enumerate().flat_map(|(i, angle)| {
            let length = 0.5 + i as f32;
            [length * angle.cos(), length * angle.sin()]
        });
        let units = Units::new(numbers.chain([0.0, 0.0]).collect(), 2);
        let all = units.cosines();
        assert_eq!((units.len(), all.len()), (101, 101 * 101));
        let mut one = vec![0.0; 101];
        for i in 0..100 {
            units.cosines_with(i, &mut one);
            for j in 0..100 {
                let expected = (angles[i] - angles[j]).cos();
                assert!((all[i * 101 + j] - expected).abs() < 1e-5, "{i} {j}");
                assert!((one[j] - expected).abs() < 1e-5, "{i} {j}");
            }
            assert_eq!((all[i * 101 + 100], one[100]), (0.0, 0.0));
        }
    }

    #[test]
    fn the_first_of_the_greatest() {
        assert_eq!(greatest(&[1.0, 3.0, 3.0], |_| true), Some(1));
        assert_eq!(greatest(&[1.0, 3.0, 3.0], |i| i != 1), Some(2));
        assert_eq!(greatest(&[1.0], |_| false), None);
    }
}
