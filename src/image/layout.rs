//! The layout of an image: the choice of a canvas and the size of the image on it.
//!
//! transformers computes these in Python floats, with visible rounding (a 300×300 image becomes 336×337), so
//! everything here is in `f64` with the same order of operations.

use crate::config::ImageConfig;
use crate::{Error, Result};

use super::check_size;

/// Largest canvas in pixels: a hundred times that of any model, and small enough for memory.
const MAX_CANVAS: usize = 1 << 26;

/// How sub-images are arranged and in which order their patches are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Packing {
    /// Together they form one canvas with the image in its centre. After the full image, the canvas is read row by
    /// row across sub-images, without its padding (LLaVA-NeXT).
    #[default]
    Canvas,
    /// The image is resized to the whole canvas. Sub-images are read one after the other, followed by the full image
    /// (InternVL).
    Tiles,
}

/// The layout of an image: everything that selection and preprocessing derive from its size. In pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Width of the decoded image.
    pub width: usize,
    /// Height of the decoded image.
    pub height: usize,
    /// Side of a partition.
    pub side: usize,
    /// Rows and columns of sub-images; `None` if the model or this image has none.
    pub grid: Option<(usize, usize)>,
    /// Size (height, width) of the resized image on the canvas of `rows·side × cols·side`; without sub-images, of the
    /// resized image before the centre crop.
    pub fit: (usize, usize),
    /// The arrangement of sub-images.
    pub packing: Packing,
}

impl Layout {
    /// The layout of a `width × height` image.
    ///
    /// With pinpoints (LLaVA-NeXT) it chooses the canvas that shows the image at the highest resolution, among those
    /// the one with the least unused area, and among those the first in the list; the image is fitted into it.
    /// Without pinpoints (LLaVA-1.5) the shorter side becomes `side`, after padding to a square if the model pads, or
    /// both sides do with SigLIP's processor. InternVL's grid is the one with the nearest aspect ratio; if it has a
    /// single sub-image, only the full image is used.
    ///
    /// # Errors
    /// [`Error::Image`] for an invalid image size, [`Error::Request`] for a side or pinpoints that are missing, too
    /// large, or not multiples of each other.
    pub fn new(width: usize, height: usize, config: &ImageConfig) -> Result<Self> {
        check_size(width, height)
            .map_err(|what| Error::image(format!("{width}×{height} pixels"), what))?;
        let side = config.side;
        if side == 0 || side.saturating_mul(side) > MAX_CANVAS {
            return Err(Error::Request(format!(
                "images of {side}×{side} pixels for the vision tower: correct config.json"
            )));
        }
        if let Some(counts) = config.sub_images {
            let (rows, columns) = nearest_grid(width, height, side, counts);
            let grid = (rows * columns > 1).then_some((rows, columns));
            let fit = (rows * side, columns * side);
            return Ok(Self { width, height, side, grid, fit, packing: Packing::Tiles });
        }
        let packing = Packing::Canvas;
        let Some(pinpoints) = &config.pinpoints else {
            let fit = match config.pad {
                true => {
                    let square = width.max(height);
                    check_size(square, square).map_err(|what| {
                        Error::image(format!("{width}×{height} pixels, padded to a square"), what)
                    })?;
                    (side, side)
                }
                false if config.squash => (side, side),
                false => shortest_edge(width, height, side),
            };
            return Ok(Self { width, height, side, grid: None, fit, packing });
        };
        for &(h, w) in pinpoints {
            let whole = h > 0 && w > 0 && h % side == 0 && w % side == 0;
            if !whole || h.saturating_mul(w) > MAX_CANVAS {
                return Err(Error::Request(format!(
                    "image_grid_pinpoints: [{h}, {w}] is not a multiple of {side}×{side} within \
                     {MAX_CANVAS} pixels: correct config.json"
                )));
            }
        }
        let (h, w) = best_resolution(width, height, pinpoints).ok_or_else(|| {
            Error::Request("image_grid_pinpoints is empty: correct config.json".into())
        })?;
        let fit = fit(width, height, (h, w));
        Ok(Self { width, height, side, grid: Some((h / side, w / side)), fit, packing })
    }

    /// Number of images that the vision tower sees: the full image and its sub-images.
    pub fn partitions(&self) -> usize {
        1 + self.grid.map_or(0, |(rows, columns)| rows * columns)
    }

    /// The image's (top, left) corner on the canvas; without sub-images, the corner of the centre crop in the resized
    /// image.
    pub fn corner(&self) -> (usize, usize) {
        let middle = |outer: usize, inner: usize| outer.saturating_sub(inner) / 2;
        match self.grid {
            Some((rows, columns)) => {
                (middle(rows * self.side, self.fit.0), middle(columns * self.side, self.fit.1))
            }
            None => (middle(self.fit.0, self.side), middle(self.fit.1, self.side)),
        }
    }
}

/// transformers' `select_best_resolution`; pinpoints and result are (height, width).
fn best_resolution(
    width: usize,
    height: usize,
    pinpoints: &[(usize, usize)],
) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize, (usize, usize))> = None;
    for &(h, w) in pinpoints {
        let scale = (w as f64 / width as f64).min(h as f64 / height as f64);
        let shown = ((width as f64 * scale) as usize * (height as f64 * scale) as usize)
            .min(width * height);
        let waste = (h * w).saturating_sub(shown);
        let better =
            best.is_none_or(|(most, least, _)| shown > most || (shown == most && waste < least));
        if better {
            best = Some((shown, waste, (h, w)));
        }
    }
    best.map(|(.., pinpoint)| pinpoint)
}

/// transformers' `get_optimal_tiled_canvas`: the grid (rows, columns) of `least` to `most` squares of `side` whose
/// aspect ratio is nearest to the image's. In a tie, the one with more squares if the image has more than half of
/// their pixels.
fn nearest_grid(
    width: usize,
    height: usize,
    side: usize,
    (least, most): (usize, usize),
) -> (usize, usize) {
    let wanted = width as f64 / height as f64;
    let pixels = (width * height) as f64;
    let (mut nearest, mut best) = (f64::INFINITY, (1, 1));
    // Ordered by the number of squares, then by columns.
    for count in least..=most {
        for columns in (1..=count).filter(|columns| count.is_multiple_of(*columns)) {
            let rows = count / columns;
            let distance = (wanted - columns as f64 / rows as f64).abs();
            let large = pixels > 0.5 * (side * side * count) as f64;
            if distance < nearest || distance == nearest && large {
                (nearest, best) = (distance, (rows, columns));
            }
        }
    }
    best
}

/// transformers' `get_patch_output_size`: (height, width) of the image on a canvas of (height, width).
fn fit(width: usize, height: usize, (h, w): (usize, usize)) -> (usize, usize) {
    let scale_w = w as f64 / width as f64;
    let scale_h = h as f64 / height as f64;
    if scale_w < scale_h {
        (((height as f64 * scale_w).ceil() as usize).min(h), w)
    } else {
        (h, ((width as f64 * scale_h).ceil() as usize).min(w))
    }
}

/// transformers' `get_resize_output_image_size` for a shortest edge: (height, width).
fn shortest_edge(width: usize, height: usize, side: usize) -> (usize, usize) {
    let (short, long) = (width.min(height), width.max(height));
    let long = ((side * long) as f64 / short as f64) as usize;
    if width <= height { (long, side) } else { (side, long) }
}
