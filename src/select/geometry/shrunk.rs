//! Canvases that are downscaled after the projector, where tokens are mixtures of projected patches
//! (LLaVA-OneVision).

use super::super::mix::Mix;
use super::super::scaled::Scaled;
use super::Geometry;

impl Geometry {
    /// Sets the limit above which a model downscales: canvases that show more than `most` patches, by more than a
    /// tenth of their sides.
    pub fn with_most(mut self, most: Option<usize>) -> Self {
        let (Some(grid), Some(most)) = (self.grid, most) else { return self };
        let (rows, cols) = (self.rows.clone(), self.cols.clone());
        if let Some(scaled) = Scaled::new(rows, cols, grid, self.side, most) {
            let (rows, cols) = scaled.size();
            (self.rows, self.cols) = (0..rows, 0..cols);
            self.scaled = Some(scaled);
        }
        self
    }

    /// Returns true if the canvas is downscaled after the projector, so that tokens are mixtures of projected
    /// patches.
    pub fn is_scaled(&self) -> bool {
        self.scaled.is_some()
    }

    /// For a downscaled canvas, the tower's rows that are projected: those of the full image, then those of the
    /// canvas row by row.
    pub fn projected_rows(&self) -> Vec<usize> {
        let full = (0..self.patches()).map(|patch| self.row(0, patch));
        let canvas = self.scaled.iter().flat_map(Scaled::patches).map(|(row, col)| {
            let (i, patch) = self.on_canvas(row, col);
            self.row(i, patch)
        });
        full.chain(canvas).collect()
    }

    /// For a downscaled canvas, how its valid tokens, partition after partition, are mixed from
    /// [`Geometry::projected_rows`].
    pub fn shrinking(&self) -> Option<Mix> {
        let scaled = self.scaled.as_ref()?;
        let (gh, gw) = self.grid?;
        let tokens = (0..gh * gw).flat_map(|i| {
            let (rows, cols) = scaled.tokens_of(i / gw, i % gw);
            rows.flat_map(move |row| cols.clone().map(move |col| (row, col)))
        });
        Some(scaled.mix(self.patches(), tokens))
    }

    /// Converts scores \[P, T\] of patches into those of tokens, mixed like the tokens; 0 where there is no token.
    pub(in crate::select) fn shrunk(&self, scores: &[f32]) -> Option<Vec<f32>> {
        let scaled = self.scaled.as_ref()?;
        let patches = self.patches();
        let mut shrunk = vec![0.0; scores.len()];
        shrunk[..patches].copy_from_slice(&scores[..patches]);
        for (row, col) in (self.rows.clone()).flat_map(|r| self.cols.clone().map(move |c| (r, c))) {
            let (i, token) = self.locate(row, col);
            let of = |(row, col)| {
                let (i, patch) = self.on_canvas(row, col);
                scores[i * patches + patch]
            };
            let mixed = scaled.sources(row, col).fold(0.0, |sum, (at, w)| sum + w * of(at));
            shrunk[i * patches + token] = mixed;
        }
        Some(shrunk)
    }

    /// Partition and patch that stand for patch `patch` of the tower's partition `i`: the patch itself, or in a
    /// downscaled canvas the token over its centre. `None` for padding.
    pub fn shown(&self, i: usize, patch: usize) -> Option<(usize, usize)> {
        match (&self.scaled, self.grid, i) {
            (Some(scaled), Some((_, gw)), 1..) => {
                let n = self.side;
                let row = (i - 1) / gw * n + patch / n;
                let (row, col) = scaled.over(row, (i - 1) % gw * n + patch % n)?;
                Some(self.locate(row, col))
            }
            _ => self.is_valid(i, patch).then_some((i, patch)),
        }
    }
}
