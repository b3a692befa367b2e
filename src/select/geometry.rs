//! The patches of an image: which exist, which show the image and not padding, and which part of the image each
//! sub-image shows.

mod shrunk;

use std::ops::Range;

use super::scaled::Scaled;
use crate::config::ModelConfig;
use crate::image::{Layout, Packing};
use crate::{Error, Result};

/// Longest side of a canvas in pixels. It is far beyond any model and keeps every product here within 64 bits.
const MAX_CANVAS: usize = 1 << 20;

/// The patches of one image, derived from its size and the model's configuration only.
///
/// A partition is a square of *n* × *n* = *T* patches. Partition 0 is the full image, resized to the square. With a
/// grid of *gh* × *gw* sub-images, sub-image (a, b) is partition 1 + a·gw + b. Together the sub-images form the
/// canvas of *ch* = gh·n by *cw* = gw·n patches, in which the image is centred. Patches are numbered row by row.
///
/// For models that merge each cell of 2 × 2 patches into one token (InternVL), *patch* means such a token here,
/// because tokens are what is kept or dropped. [`Geometry::cell`] gives the side of a cell, and [`Geometry::rows_of`]
/// the tower's rows that it consists of.
///
/// For a canvas that is downscaled after the projector (LLaVA-OneVision, [`Geometry::with_most`]) *patch* means a
/// token of the downscaled canvas. A sub-image has the tokens whose centres it shows, fewer than T; they fill the n ×
/// n square from its first row and column on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    pixels: usize,
    side: usize,
    patch_size: usize,
    /// Rows before the patches of a partition.
    prefix: usize,
    /// Side of a patch here in patches of the tower.
    cell: usize,
    /// The projector makes one row of those of a cell.
    pooled: bool,
    packing: Packing,
    grid: Option<(usize, usize)>,
    rows: Range<usize>,
    cols: Range<usize>,
    fit: (usize, usize),
    row_shares: Vec<Vec<u64>>,
    col_shares: Vec<Vec<u64>>,
    scaled: Option<Scaled>,
}

impl Geometry {
    /// The geometry of an image for a model.
    ///
    /// # Errors
    /// As [`Geometry::new`].
    pub fn of(layout: &Layout, config: &ModelConfig) -> Result<Self> {
        let geometry = Self::new(layout, config.token_size())?;
        let geometry = geometry.with_class_token(config.vision.class_token());
        let geometry = geometry.with_cells(config.cell).with_pooled(config.pooled);
        Ok(geometry.with_most(config.most_patches))
    }

    /// Derives the geometry for square patches of `patch_size` pixels, with a class token before the patches of each
    /// partition. Pixels at the right and bottom of a partition that do not fill a patch are left out.
    ///
    /// # Errors
    /// [`Error::Request`] for a layout that no preprocessing produces: an empty image, a partition smaller than a
    /// patch, or an image larger than its canvas.
    pub fn new(layout: &Layout, patch_size: usize) -> Result<Self> {
        let &Layout { width, height, side: pixels, grid, fit, packing } = layout;
        if width == 0 || height == 0 {
            return Err(Error::Request(format!(
                "an image of {width} x {height} pixels is empty: width and height must be at least 1"
            )));
        }
        if patch_size == 0 || pixels < patch_size {
            return Err(Error::Request(format!(
                "partitions of {pixels} pixels cannot be cut into patches of {patch_size} pixels: \
                 the partition's side must be at least the patch size, which is at least 1"
            )));
        }
        let side = pixels / patch_size;
        let (gh, gw) = grid.unwrap_or((1, 1));
        let canvas = |strips: usize| strips.checked_mul(pixels).filter(|&p| p <= MAX_CANVAS);
        let (Some(th @ 1..), Some(tw @ 1..)) = (canvas(gh), canvas(gw)) else {
            return Err(Error::Request(format!(
                "a canvas of {gh} x {gw} sub-images of {pixels} pixels: each side must be 1 to {MAX_CANVAS} pixels"
            )));
        };
        if grid.is_none() {
            let (rows, cols) = (0..0, 0..0);
            let (row_shares, col_shares) = (Vec::new(), Vec::new());
            return Ok(Self {
                pixels,
                side,
                patch_size,
                prefix: 1,
                cell: 1,
                pooled: false,
                packing,
                grid,
                rows,
                cols,
                fit,
                row_shares,
                col_shares,
                scaled: None,
            });
        }
        let (nh, nw) = fit;
        if nh > th || nw > tw {
            return Err(Error::Request(format!(
                "an image of {nw} x {nh} pixels does not fit its canvas of {tw} x {th} pixels"
            )));
        }
        let (rows, cols) = match packing {
            Packing::Canvas => unpadded((width, height), (gh * side, gw * side)),
            Packing::Tiles => (0..gh * side, 0..gw * side),
        };
        Ok(Self {
            pixels,
            side,
            patch_size,
            prefix: 1,
            cell: 1,
            pooled: false,
            packing,
            grid,
            rows,
            cols,
            fit,
            row_shares: strip_shares(gh, pixels, side, nh),
            col_shares: strip_shares(gw, pixels, side, nw),
            scaled: None,
        })
    }

    /// Sets whether the tower has a class token.
    pub fn with_class_token(mut self, class_token: bool) -> Self {
        self.prefix = usize::from(class_token);
        self
    }

    /// Sets the cell size: `cell` × `cell` patches of the tower form one patch here.
    pub fn with_cells(mut self, cell: usize) -> Self {
        self.cell = cell;
        self
    }

    /// The same where rows of a cell's patches become one behind the projector's layers (MobileVLM V2), not before them.
    pub fn with_pooled(mut self, pooled: bool) -> Self {
        self.pooled = pooled;
        self
    }

    /// Whether tokens are made of a cell's patches behind the projector's layers.
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// The same of an image of so many partitions, which are read one by one.
    pub(super) fn of_some(&self, partitions: usize) -> Result<Self> {
        let (side, others) = (self.pixels, partitions - 1);
        let grid = (others > 0).then_some((1, others));
        let fit = (side, side * others.max(1));
        let layout =
            Layout { width: fit.1, height: fit.0, side, grid, fit, packing: Packing::Tiles };
        let geometry = Self::new(&layout, self.patch_size)?;
        Ok(geometry.with_class_token(self.class_token()).with_cells(self.cell))
    }

    /// The number of tokens that a share refers to: whole partitions including padding, or what is left of a
    /// downscaled canvas.
    pub fn all(&self) -> usize {
        if self.is_scaled() { self.valid() } else { self.partitions() * self.patches() }
    }

    /// Returns true if each partition begins with a class token.
    pub fn class_token(&self) -> bool {
        self.prefix == 1
    }

    /// Side of a patch here in patches of the tower; more than 1 if a token merges a cell of patches.
    pub fn cell(&self) -> usize {
        self.cell
    }

    /// Rows before a partition's patches in the matrices that methods see. With cells there is no row for a class
    /// token.
    fn before(&self) -> usize {
        if self.cell > 1 { 0 } else { self.prefix }
    }

    /// Rows of a partition in the matrices that methods see: T + 1, or T without a class token.
    pub fn stride(&self) -> usize {
        self.before() + self.patches()
    }

    /// Row of a patch in such a matrix.
    pub fn row(&self, partition: usize, patch: usize) -> usize {
        partition * self.stride() + self.before() + patch
    }

    /// Rows of the tower that a patch consists of: those of its cell, row by row.
    pub fn rows_of(&self, partition: usize, patch: usize) -> impl Iterator<Item = usize> + Clone {
        let (n, cell) = (self.side, self.cell);
        let first = partition * self.tower_stride() + self.prefix;
        let (y, x) = (patch / n * cell, patch % n * cell);
        (0..cell * cell).map(move |i| first + (y + i / cell) * n * cell + x + i % cell)
    }

    /// The rows of all patches, partition after partition.
    pub fn all_rows(&self) -> Vec<usize> {
        let of = |i: usize| (0..self.patches()).flat_map(move |patch| self.rows_of(i, patch));
        (0..self.partitions()).flat_map(of).collect()
    }

    /// Rows of a partition in a matrix of all rows of the tower.
    pub fn tower_stride(&self) -> usize {
        self.prefix + self.tower_patches()
    }

    /// Patches of a partition in the tower's resolution.
    pub fn tower_patches(&self) -> usize {
        self.patches() * self.cell * self.cell
    }

    /// Pools scores \[P, T\] of the tower's patches: the sum over each cell, in f32 and in the cell's order.
    pub fn pooled(&self, scores: Vec<f32>) -> Vec<f32> {
        if self.cell == 1 {
            return scores;
        }
        let (n, cell) = (self.side, self.cell);
        let sum = |scores: &[f32], patch: usize| {
            let (y, x) = (patch / n * cell, patch % n * cell);
            let of_cell =
                (0..cell * cell).map(|i| scores[(y + i / cell) * n * cell + x + i % cell]);
            of_cell.fold(0.0, |sum, score| sum + score)
        };
        let partitions = scores.chunks_exact(self.tower_patches());
        partitions.flat_map(|p| (0..self.patches()).map(move |patch| sum(p, patch))).collect()
    }

    /// Partition and patch of a row in such a matrix; no patch for a class token.
    pub fn patch_of(&self, row: usize) -> (usize, Option<usize>) {
        (row / self.stride(), (row % self.stride()).checked_sub(self.before()))
    }

    /// Patches along one side of a partition, *n*.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Side of a partition in pixels, including pixels that fill no patch.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// Side of a patch in pixels.
    pub fn patch_size(&self) -> usize {
        self.patch_size
    }

    /// Sub-images as (rows, columns); `None` for a model without sub-images.
    pub fn grid(&self) -> Option<(usize, usize)> {
        self.grid
    }

    /// Partitions *P*: the full image and the sub-images.
    pub fn partitions(&self) -> usize {
        1 + self.grid.map_or(0, |(gh, gw)| gh * gw)
    }

    /// Patches of one partition, *T* = n².
    pub fn patches(&self) -> usize {
        self.side * self.side
    }

    /// Canvas rows that unpadding keeps, in patches; empty without sub-images.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Canvas columns that unpadding keeps, in patches; empty without sub-images.
    pub fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// Valid patches of partition `i` as (rows, columns) of its own n × n square.
    pub fn valid_area(&self, i: usize) -> (Range<usize>, Range<usize>) {
        let n = self.side;
        match (self.grid, i) {
            (Some((_, gw)), 1..) => {
                if let Some(scaled) = &self.scaled {
                    let (rows, cols) = scaled.tokens_of((i - 1) / gw, (i - 1) % gw);
                    return (0..rows.len(), 0..cols.len());
                }
                let local = |range: &Range<usize>, strip: usize| {
                    let clamp = |at: usize| at.clamp(strip * n, (strip + 1) * n) - strip * n;
                    clamp(range.start)..clamp(range.end)
                };
                (local(&self.rows, (i - 1) / gw), local(&self.cols, (i - 1) % gw))
            }
            _ => (0..n, 0..n),
        }
    }

    /// Whether patch `patch` of partition `i` survives unpadding; all of the full image do.
    pub fn is_valid(&self, i: usize, patch: usize) -> bool {
        let (rows, cols) = self.valid_area(i);
        rows.contains(&(patch / self.side)) && cols.contains(&(patch % self.side))
    }

    /// The valid patches of partition `i`, ascending.
    pub fn valid_patches(&self, i: usize) -> impl Iterator<Item = usize> + Clone {
        let ((rows, cols), n) = (self.valid_area(i), self.side);
        rows.flat_map(move |row| cols.clone().map(move |col| row * n + col))
    }

    /// Number of valid patches of partition `i`, *Vᵢ*. V₀ = T; any other may be 0.
    pub fn valid_in(&self, i: usize) -> usize {
        let (rows, cols) = self.valid_area(i);
        rows.len() * cols.len()
    }

    /// Number of valid patches of all sub-images together, *Vₛ*; 0 for very thin images.
    pub fn valid_in_sub_images(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    /// Number of valid patches of all partitions, *V* = T + Vₛ.
    pub fn valid(&self) -> usize {
        self.patches() + self.valid_in_sub_images()
    }

    /// Row separators of the canvas, one per valid row; 0 if sub-images are read one after the other.
    pub fn newlines(&self) -> usize {
        match self.packing {
            Packing::Canvas => self.rows.len(),
            Packing::Tiles => 0,
        }
    }

    /// How sub-images are arranged and read.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Size (height, width) in pixels of the resized image in the canvas, (*nh*, *nw*).
    pub fn fit(&self) -> (usize, usize) {
        self.fit
    }

    /// `r[a][j]`: the share of patch row j of the full image that horizontal strip a of the canvas shows, in units of
    /// 1/n of a pixel row of the resized image: 0 to nh, and the sum over all strips is nh.
    pub fn row_shares(&self) -> &[Vec<u64>] {
        &self.row_shares
    }

    /// `c[b][k]`: the same for columns and vertical strip b: 0 to nw, and the sum over all strips is nw.
    pub fn col_shares(&self) -> &[Vec<u64>] {
        &self.col_shares
    }

    /// Partition and patch of canvas patch (`row`, `col`). Requires a grid.
    pub(super) fn locate(&self, row: usize, col: usize) -> (usize, usize) {
        match (&self.scaled, self.grid) {
            (Some(scaled), Some((_, gw))) => {
                let ((a, b), (row, col)) = scaled.locate(row, col);
                (1 + a * gw + b, row * self.side + col)
            }
            _ => self.on_canvas(row, col),
        }
    }

    /// The same for a canvas that is not downscaled.
    fn on_canvas(&self, row: usize, col: usize) -> (usize, usize) {
        let n = self.side;
        let gw = self.grid.map_or(1, |(_, gw)| gw);
        (1 + (row / n) * gw + col / n, (row % n) * n + col % n)
    }
}

/// Rows and columns that unpadding keeps of a canvas of (`ch`, `cw`) patches, for an image of (`w`, `h`) pixels.
///
/// transformers computes new = int(round(H·cw/W, 7)) in floating point, which equals this integer division. The
/// padding is floored, so new or new + 1 rows stay.
fn unpadded((w, h): (usize, usize), (ch, cw): (usize, usize)) -> (Range<usize>, Range<usize>) {
    let [w, h, wide_ch, wide_cw] = [w, h, ch, cw].map(|x| x as u128);
    // Each quotient is at most the canvas side that it is taken from.
    if w * wide_ch > wide_cw * h {
        let pad = (ch - (h * wide_cw / w) as usize) / 2;
        (pad..ch - pad, 0..cw)
    } else {
        let pad = (cw - (w * wide_ch / h) as usize) / 2;
        (0..ch, pad..cw - pad)
    }
}

/// `[strip][j]`: overlap of strip `strip` of the canvas with row j of n equal rows of the image, in units of 1/n
/// pixel.
///
/// The image is `length` pixels long and centred in `strips` · `pixels` pixels, with the odd pixel of padding after
/// it. Strip a shows the image's pixels [a·S − offset, (a+1)·S − offset), clipped to the image; row j is [j·length/n,
/// (j+1)·length/n).
fn strip_shares(strips: usize, pixels: usize, n: usize, length: usize) -> Vec<Vec<u64>> {
    let offset = (strips * pixels - length) / 2;
    let edge = |strip: usize| n * (strip * pixels).saturating_sub(offset).min(length);
    (0..strips)
        .map(|a| {
            let (lo, hi) = (edge(a), edge(a + 1));
            let overlap = |j: usize| hi.min((j + 1) * length).saturating_sub(lo.max(j * length));
            (0..n).map(|j| overlap(j) as u64).collect()
        })
        .collect()
}
