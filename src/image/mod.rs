//! From an encoded image to the bytes the vision tower sees, bit-exact with Hugging Face transformers.
//!
//! The way of one picture: [`decode()`] gives RGB8 pixels as `transformers.image_utils.load_image`
//! does, [`Layout::new`] decides from the size alone where the picture lies, [`tiles()`] resizes and
//! cuts it, and [`Normalization`] says which `f32` each byte stands for.

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

/// Most pixels an image may have: Pillow's own limit, twice its `MAX_IMAGE_PIXELS`.
pub const MAX_PIXELS: usize = 178_956_970;

/// Longest side of an image in pixels. Resizing holds an intermediate picture as long as the
/// source, so a side is bounded beside the area.
pub const MAX_SIDE: usize = 1 << 18;

/// A picture of 8-bit RGB pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RgbImage {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height · width · 3` bytes: rows from top to bottom, pixels from left to right, red first.
    pub pixels: Vec<u8>,
    /// The one colour that the file declares transparent, if it does (a GIF's or palette's
    /// transparent index, a PNG's `tRNS` colour). [`tiles()`] shows such pixels white, because the
    /// processors of transformers do. An alpha channel is not kept at all.
    pub transparent: Option<[u8; 3]>,
}

impl RgbImage {
    /// A picture from its pixels, see [`RgbImage::pixels`] for their order.
    ///
    /// # Errors
    /// [`Error::Image`] when a side is 0 or too long, or `pixels` has another length than
    /// `width · height · 3`.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        let image = Self { width, height, pixels, transparent: None };
        image.check()?;
        Ok(image)
    }

    /// The fields are public, so what relies on their agreement looks first.
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

/// Whether an image of this size is accepted; asked before memory for its pixels is taken.
fn check_size(width: usize, height: usize) -> Result<(), String> {
    check_pixels(width, height, MAX_PIXELS)
}

/// The same with a smaller limit on its pixels.
pub(crate) fn check_pixels(width: usize, height: usize, most: usize) -> Result<(), String> {
    // Sides of 64 bits each.
    let pixels = width as u128 * height as u128;
    if pixels == 0 {
        Err(format!("an image of {width}×{height} has no pixels: give one that shows something"))
    } else if pixels > most as u128 {
        Err(format!(
            "{width}×{height} is {pixels} pixels, more than the {most} allowed: scale it down"
        ))
    } else if width.max(height) > MAX_SIDE {
        Err(format!("{width}×{height}: a side is longer than {MAX_SIDE} pixels: cut it up"))
    } else {
        Ok(())
    }
}
