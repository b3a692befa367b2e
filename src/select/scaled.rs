//! Canvases that are downscaled after the projector: LLaVA-OneVision's `anyres_max_N`.
//!
//! If there are more valid patches than in N partitions, they are resized by bilinear interpolation of their
//! projected rows (half-pixel centres, no antialiasing, edges repeated: torch's `interpolate`). Each token is then a
//! mixture of up to four projected patches, and tokens are what methods keep or drop. A token belongs to the
//! sub-image that contains its centre.

use std::ops::Range;

use super::mix::Mix;

/// The mapping from patches to tokens along one side of the canvas.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Axis {
    /// Valid patches of the canvas.
    patches: Range<usize>,
    /// Number of tokens made from them.
    tokens: usize,
    /// First token of each strip of the canvas, followed by the number of tokens.
    starts: Vec<usize>,
}

impl Axis {
    fn new(patches: Range<usize>, tokens: usize, strips: usize, side: usize) -> Self {
        // The centre of token i is at begin + (2i + 1)·length / 2·tokens patches.
        let (begin, length) = (patches.start, patches.len());
        let first = |strip: usize| {
            let is_before =
                |i: &usize| 2 * tokens * begin + (2 * i + 1) * length < 2 * tokens * strip * side;
            (0..tokens).take_while(is_before).count()
        };
        Self { patches, tokens, starts: (0..=strips).map(first).collect() }
    }

    /// Tokens of a strip.
    fn of(&self, strip: usize) -> Range<usize> {
        self.starts[strip]..self.starts[strip + 1]
    }

    /// The strip of a token.
    fn strip(&self, token: usize) -> usize {
        self.starts.partition_point(|&start| start <= token) - 1
    }

    /// The token over the centre of a patch of the canvas, if the patch is valid.
    fn over(&self, patch: usize) -> Option<usize> {
        let place = 2 * patch.checked_sub(self.patches.start)? + 1;
        let length = self.patches.len();
        (place < 2 * length).then(|| place * self.tokens / (2 * length))
    }

    /// The two patches between which a token lies, counted from the first valid one, and the weight of the second; in
    /// f32, as in torch.
    fn between(&self, token: usize) -> (usize, usize, f32) {
        let scale = self.patches.len() as f32 / self.tokens as f32;
        let at = (scale * (token as f32 + 0.5) - 0.5).max(0.0);
        let last = self.patches.len() - 1;
        let first = (at as usize).min(last);
        (first, (first + 1).min(last), (at - first as f32).clamp(0.0, 1.0))
    }
}

/// The mapping from patches of a canvas to tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaled {
    rows: Axis,
    cols: Axis,
}

impl Scaled {
    /// The mapping for valid patches `rows` × `cols` of a canvas of `grid` sub-images of `side` × `side` patches, for
    /// a model with the limit `most`. `None` if the canvas is not downscaled.
    pub(super) fn new(
        rows: Range<usize>,
        cols: Range<usize>,
        grid: (usize, usize),
        side: usize,
        most: usize,
    ) -> Option<Self> {
        let (height, width) = (rows.len(), cols.len());
        let ratio = ((height * width) as f64 / most as f64).sqrt();
        if ratio <= 1.1 {
            return None;
        }
        let axis = |patches: Range<usize>, strips| {
            let tokens = floor_division(patches.len() as f64, ratio).max(1.0);
            Axis::new(patches, tokens as usize, strips, side)
        };
        Some(Self { rows: axis(rows, grid.0), cols: axis(cols, grid.1) })
    }

    /// Rows and columns of tokens.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.rows.tokens, self.cols.tokens)
    }

    /// Rows and columns of the tokens of the sub-image in row `a` and column `b` of the grid.
    pub(super) fn tokens_of(&self, a: usize, b: usize) -> (Range<usize>, Range<usize>) {
        (self.rows.of(a), self.cols.of(b))
    }

    /// The sub-image of a token as (row, column) of the grid, and the token's row and column in it.
    pub(super) fn locate(&self, row: usize, col: usize) -> ((usize, usize), (usize, usize)) {
        let (a, b) = (self.rows.strip(row), self.cols.strip(col));
        ((a, b), (row - self.rows.starts[a], col - self.cols.starts[b]))
    }

    /// Row and column of the token over the centre of a patch of the canvas, if the patch is valid.
    pub(super) fn over(&self, row: usize, col: usize) -> Option<(usize, usize)> {
        Some((self.rows.over(row)?, self.cols.over(col)?))
    }

    /// Valid patches of the canvas, row by row: the sources of tokens.
    pub(super) fn patches(&self) -> impl Iterator<Item = (usize, usize)> + Clone + '_ {
        let cols = &self.cols.patches;
        self.rows.patches.clone().flat_map(move |row| cols.clone().map(move |col| (row, col)))
    }

    /// The patches that a token is mixed from, as (row, column) of the canvas, with their weights.
    pub(super) fn sources(
        &self,
        row: usize,
        col: usize,
    ) -> impl Iterator<Item = ((usize, usize), f32)> {
        let (top, bottom, down) = self.rows.between(row);
        let (left, right, across) = self.cols.between(col);
        let (first_row, first_col) = (self.rows.patches.start, self.cols.patches.start);
        let all = [
            (top, left, (1.0 - down) * (1.0 - across)),
            (top, right, (1.0 - down) * across),
            (bottom, left, down * (1.0 - across)),
            (bottom, right, down * across),
        ];
        let there = all.into_iter().filter(|(.., weight)| *weight > 0.0);
        there.map(move |(y, x, weight)| ((first_row + y, first_col + x), weight))
    }

    /// The mixture of the given tokens, as (row, column). Its input has `before` rows, which are copied, then the
    /// patches of [`Scaled::patches`].
    pub(super) fn mix(&self, before: usize, tokens: impl Iterator<Item = (usize, usize)>) -> Mix {
        let mut mix = Mix::default();
        (0..before).for_each(|row| mix.push([(row, 1.0)]));
        let (top, left) = (self.rows.patches.start, self.cols.patches.start);
        let width = self.cols.patches.len();
        for (row, col) in tokens {
            let place = |((y, x), weight)| (before + (y - top) * width + x - left, weight);
            mix.push(self.sources(row, col).map(place));
        }
        mix
    }
}

/// Python's `a // b` of positive floats.
fn floor_division(a: f64, b: f64) -> f64 {
    let quotient = (a - a % b) / b;
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes that transformers computes for 27 × 27 patches and anyres_max_9.
    #[test]
    fn large_canvases_shrink_to_nine_partitions() {
        let size = |rows: Range<usize>, cols: Range<usize>, grid| {
            Scaled::new(rows, cols, grid, 27, 9 * 729).map(|s| s.size())
        };
        assert_eq!(size(0..81, 0..81, (3, 3)), None);
        assert_eq!(size(3..78, 0..135, (3, 5)), Some((60, 108)));
        assert_eq!(size(0..162, 18..143, (6, 5)), Some((92, 71)));
        assert_eq!(size(0..162, 0..162, (6, 6)), Some((81, 81)));
    }

    #[test]
    fn every_token_is_made_of_patches_around_its_centre() {
        let scaled = Scaled::new(1..11, 0..12, (3, 3), 4, 40).unwrap();
        let (rows, cols) = scaled.size();
        assert_eq!((rows, cols), (5, 6));
        let mut tokens = 0;
        for (a, b) in (0..9).map(|i| (i / 3, i % 3)) {
            let (of_rows, of_cols) = scaled.tokens_of(a, b);
            tokens += of_rows.len() * of_cols.len();
            for (row, col) in of_rows.clone().flat_map(|r| of_cols.clone().map(move |c| (r, c))) {
                assert_eq!(
                    scaled.locate(row, col),
                    ((a, b), (row - of_rows.start, col - of_cols.start))
                );
                let sources: Vec<_> = scaled.sources(row, col).collect();
                let sum: f32 = sources.iter().map(|(_, weight)| weight).sum();
                assert!(
                    (1..=4).contains(&sources.len()) && (sum - 1.0).abs() < 1e-6,
                    "{sources:?}"
                );
                let centre =
                    |i: usize, n: usize, of: usize| (i as f32 + 0.5) * of as f32 / n as f32 - 0.5;
                let y: f32 = sources.iter().map(|((y, _), w)| *y as f32 * w).sum();
                let x: f32 = sources.iter().map(|((_, x), w)| *x as f32 * w).sum();
                assert!((y - 1.0 - centre(row, rows, 10)).abs() < 1e-5, "{row}: {y}");
                assert!((x - centre(col, cols, 12)).abs() < 1e-5, "{col}: {x}");
            }
        }
        assert_eq!(tokens, rows * cols);
        let mix = scaled.mix(2, [(0, 0), (4, 5)].into_iter());
        assert_eq!((mix.rows(), mix.row(1).collect::<Vec<_>>()), (4, vec![(1, 1.0)]));
        assert!(mix.row(3).all(|(source, _)| source < 2 + scaled.patches().count()));
    }

    #[test]
    fn division_is_pythons() {
        assert_eq!([floor_division(75.0, 1.242), floor_division(6.0, 2.0)], [60.0, 3.0]);
        // 1 // 0.1 is 9 in Python, although 1 / 0.1 is 10.
        assert_eq!(floor_division(1.0, 0.1), 9.0);
    }
}
