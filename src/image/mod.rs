//! Image preprocessing: from an encoded image to the vision tower's input, bit-exact with Hugging Face transformers.
//!
//! [`decode()`] returns RGB8 pixels like `transformers.image_utils.load_image`, [`Layout::new`] determines the
//! image's layout from its size, [`tiles()`] resizes and cuts it, and [`Normalization`] maps each byte to an `f32`.

#[cfg(feature = "image-formats")]
mod decode;
mod layout;
mod resample;
mod tiles;

#[cfg(feature = "image-formats")]
pub use decode::{decode, decode_within, largest_encoded};
pub use layout::{Layout, Packing};
pub use resample::{Resample, resize};
pub use tiles::{Normalization, Tiles, tiles};

use crate::{Error, Result};

/// Largest number of pixels of an image: Pillow's own limit, twice its `MAX_IMAGE_PIXELS`.
pub const MAX_PIXELS: usize = 178_956_970;

/// Longest side of an image in pixels. Resizing holds an intermediate image as long as the source, so sides are
/// limited in addition to the area.
pub const MAX_SIDE: usize = 1 << 18;

/// An image of 8-bit RGB pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RgbImage {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `height · width · 3` bytes: rows from top to bottom, pixels from left to right, red first.
    pub pixels: Vec<u8>,
    /// The colour that the file declares transparent, if any (the transparent index of a GIF or palette, or a PNG's
    /// `tRNS` colour). [`tiles()`] shows such pixels white, like transformers' processors. An alpha channel is
    /// dropped.
    pub transparent: Option<[u8; 3]>,
}

impl RgbImage {
    /// An image from its pixels, in the order of [`RgbImage::pixels`].
    ///
    /// # Errors
    /// [`Error::Image`] if a side is 0 or too long, or `pixels` does not have the length `width · height · 3`.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        let image = Self { width, height, pixels, transparent: None };
        image.check()?;
        Ok(image)
    }

    /// Checks that the fields are consistent, because they are public.
    fn check(&self) -> Result<()> {
        let Self { width, height, .. } = *self;
        let wrong = |what| Err(Error::image(format!("{width}×{height} pixels"), what));
        match check_size(width, height) {
            Err(what) => wrong(what),
            Ok(()) if self.pixels.len() != width * height * 3 => wrong(format!(
                "{} bytes given where RGB8 needs {}",
                self.pixels.len(),
                width * height * 3
            )),
            Ok(()) => Ok(()),
        }
    }
}

/// Checks the size of an image before memory for its pixels is allocated.
fn check_size(width: usize, height: usize) -> Result<(), String> {
    check_pixels(width, height, MAX_PIXELS)
}

/// The same with a lower limit on the pixels.
pub(crate) fn check_pixels(width: usize, height: usize, most: usize) -> Result<(), String> {
    // Sides may have 64 bits each.
    let pixels = width as u128 * height as u128;
    if pixels == 0 {
        Err(format!("an image of {width}×{height} has no pixels: give another image"))
    } else if pixels > most as u128 {
        Err(format!(
            "{width}×{height} is {pixels} pixels, more than the {most} allowed: scale it down"
        ))
    } else if width.max(height) > MAX_SIDE {
        Err(format!("{width}×{height}: a side is longer than {MAX_SIDE} pixels: crop it"))
    } else {
        Ok(())
    }
}
