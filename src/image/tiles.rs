//! The partitions that the vision tower sees, as bytes, and the numbers that the bytes stand for.

use std::borrow::Cow;
use std::ops::Range;

use crate::Result;
use crate::config::ImageConfig;

use super::resample::resize_window;
use super::{Layout, Resample, RgbImage};

/// The full image, resized to a square, and the sub-images of the canvas in raster order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiles {
    /// The layout of the image.
    pub layout: Layout,
    /// Planar bytes `[P, 3, S, S]`: partition, colour (red first), row, column.
    pub pixels: Vec<u8>,
}

impl Tiles {
    /// Number of partitions, P.
    pub fn partitions(&self) -> usize {
        self.layout.partitions()
    }

    /// Some of the partitions, including the full image, as the partitions of an image that has no others.
    pub(crate) fn some(&self, partitions: &[usize]) -> Self {
        let (side, others) = (self.layout.side, partitions.len() - 1);
        let bytes = 3 * side * side;
        let of = |&i: &usize| self.pixels[i * bytes..][..bytes].iter().copied();
        let layout = Layout {
            grid: (others > 0).then_some((1, others)),
            fit: (side, side * others.max(1)),
            ..self.layout
        };
        Self { layout, pixels: partitions.iter().flat_map(of).collect() }
    }
}

/// Resizes an image and cuts it for the vision tower.
///
/// LLaVA-NeXT: partition 0 is the whole image resized to `S × S`; the others are cut from a black canvas with the
/// fitted image in its centre. LLaVA-1.5: one centre crop, or, if the model pads, the image in the centre of a square
/// of the mean colour. InternVL: as LLaVA-NeXT, with the image resized to the whole canvas.
///
/// # Errors
/// Those of [`RgbImage::new`] for an inconsistent `image`, and those of [`Layout::new`].
pub fn tiles(image: &RgbImage, config: &ImageConfig, resample: Resample) -> Result<Tiles> {
    image.check()?;
    let layout = Layout::new(image.width, image.height, config)?;
    let side = layout.side;
    let plane = side * side;
    let partitions = layout.partitions();
    let image = on_white(image);
    let mut pixels = vec![0; partitions * 3 * plane];
    let (top, left) = layout.corner();
    let Some((_, columns)) = layout.grid else {
        let image = if config.pad { padded(image, config.mean) } else { image };
        let window = (top..top + side, left..left + side);
        let crop = resize_window(&image, layout.fit, window, resample);
        paste(&mut pixels, side, &crop, side, (0, 0), (0..side, 0..side));
        return Ok(Tiles { layout, pixels });
    };
    let (base, subs) = pixels.split_at_mut(3 * plane);
    let whole = 0..side;
    let squashed = resize_window(&image, (side, side), (whole.clone(), whole.clone()), resample);
    paste(base, side, &squashed, side, (0, 0), (whole.clone(), whole));

    let (height, width) = layout.fit;
    let fitted = resize_window(&image, layout.fit, (0..height, 0..width), resample);
    for (i, sub) in subs.chunks_exact_mut(3 * plane).enumerate() {
        // The part of the image that this sub-image shows, in the image's coordinates.
        let shown = |at: usize, corner: usize, length: usize| {
            let begin = (at * side).saturating_sub(corner).min(length);
            let end = ((at + 1) * side).saturating_sub(corner).min(length);
            (begin..end, (begin + corner).saturating_sub(at * side))
        };
        let (rows, y) = shown(i / columns, top, height);
        let (columns, x) = shown(i % columns, left, width);
        paste(sub, side, &fitted, width, (y, x), (rows, columns));
    }
    Ok(Tiles { layout, pixels })
}

/// Copies the part `rows × columns` of interleaved pixels with `width` pixels per row to `(y, x)` of a planar square
/// of `side`.
fn paste(
    square: &mut [u8],
    side: usize,
    source: &[u8],
    width: usize,
    (y, x): (usize, usize),
    (rows, columns): (Range<usize>, Range<usize>),
) {
    if columns.is_empty() {
        return;
    }
    for (channel, plane) in square.chunks_exact_mut(side * side).enumerate() {
        for (out, row) in plane.chunks_exact_mut(side).skip(y).zip(rows.clone()) {
            let row = &source[(row * width + columns.start) * 3..(row * width + columns.end) * 3];
            for (out, pixel) in out[x..].iter_mut().zip(row.chunks_exact(3)) {
                *out = pixel[channel];
            }
        }
    }
}

/// The image in the centre of a square, transformers' `pad_to_square`.
fn padded(image: Cow<'_, RgbImage>, mean: [f64; 3]) -> Cow<'_, RgbImage> {
    let (width, height) = (image.width, image.height);
    if width == height {
        return image;
    }
    let side = width.max(height);
    let (top, left) = ((side - height) / 2, (side - width) / 2);
    let mut pixels = mean.map(|mean| (mean * 255.0) as u8).repeat(side * side);
    let lines = pixels.chunks_exact_mut(side * 3).skip(top);
    for (line, row) in lines.zip(image.pixels.chunks_exact(width * 3)) {
        line[left * 3..][..row.len()].copy_from_slice(row);
    }
    Cow::Owned(RgbImage { width: side, height: side, pixels, transparent: None })
}

/// The image with its transparent colour shown white.
///
/// `load_image` drops an alpha channel, but Pillow keeps a transparent *colour* in `info["transparency"]`, and the
/// processors put such images on white.
fn on_white(image: &RgbImage) -> Cow<'_, RgbImage> {
    let Some(key) = image.transparent else {
        return Cow::Borrowed(image);
    };
    let mut image = image.clone();
    for pixel in image.pixels.chunks_exact_mut(3) {
        if pixel == key {
            pixel.fill(255);
        }
    }
    Cow::Owned(image)
}

/// The number that the vision tower sees for each byte: rescaled, minus the mean, divided by the standard deviation.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// The value of each byte, by colour (red first).
    pub lut: [[f32; 256]; 3],
}

impl Normalization {
    /// The values of transformers' PIL processor, which rescales in `f64` and normalises in `f32`, or of its
    /// torchvision processor, which folds the scale into mean and standard deviation. They differ in the last bits.
    pub fn new(config: &ImageConfig, resample: Resample) -> Self {
        let value = |channel: usize, byte: u8| {
            let (mean, std) = (config.mean[channel] as f32, config.std[channel] as f32);
            match resample {
                Resample::Pillow | Resample::Pillow12 => {
                    ((f64::from(byte) * config.rescale) as f32 - mean) / std
                }
                Resample::Torchvision => {
                    let scale = (1.0 / config.rescale) as f32;
                    (f32::from(byte) - mean * scale) / (std * scale)
                }
            }
        };
        let mut lut = [[0.0; 256]; 3];
        for (channel, lut) in lut.iter_mut().enumerate() {
            for (byte, slot) in (0..=255).zip(lut) {
                *slot = value(channel, byte);
            }
        }
        Self { lut }
    }

    /// Computes `pixel_values` `[P, 3, S, S]`.
    pub fn apply(&self, tiles: &Tiles) -> Vec<f32> {
        let plane = tiles.layout.side * tiles.layout.side;
        let channels = tiles.pixels.chunks_exact(plane).zip(self.lut.iter().cycle());
        channels.flat_map(|(bytes, lut)| bytes.iter().map(|&byte| lut[usize::from(byte)])).collect()
    }
}
