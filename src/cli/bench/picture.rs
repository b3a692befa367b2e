//! The image that is used if none is given.

use crate::cli::Stop;
use hired::engine::Image;
use hired::image::{MAX_PIXELS, decode_within};

/// Side in pixels, for a grid of two by two of the usual sub-images.
const SIDE: usize = 672;

/// The image's name in reports.
pub const NAME: &str = "fixed, 672×672";

/// A fixed image of 672×672 pixels with gradients, lines and noise, so that no part equals another.
pub fn fixed() -> Image {
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let mut pixels = Vec::with_capacity(3 * SIDE * SIDE);
    for y in 0..SIDE {
        for x in 0..SIDE {
            // Marsaglia's xorshift.
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let line = if x % 96 < 3 || y % 96 < 3 { 120 } else { 0 };
            let base = [x * 255 / SIDE, y * 255 / SIDE, (x + y) * 255 / (2 * SIDE)];
            for (channel, value) in base.into_iter().enumerate() {
                let grain = (noise >> (8 * channel)) as usize % 32;
                pixels.push((value / 2 + line + grain).min(255) as u8);
            }
        }
    }
    Image::Rgb8 { width: SIDE, height: SIDE, pixels }
}

/// Variants of an image that differ in one corner.
pub struct Variants {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Variants {
    /// Variants of an image with at most `most` pixels.
    pub fn of(image: &Image, most: Option<usize>) -> Result<Self, Stop> {
        match image {
            Image::Rgb8 { width, height, pixels } => {
                Ok(Self { width: *width, height: *height, pixels: pixels.clone() })
            }
            Image::Encoded { name, bytes } => {
                let image = decode_within(bytes, name, most.unwrap_or(MAX_PIXELS))?;
                Ok(Self { width: image.width, height: image.height, pixels: image.pixels })
            }
            _ => Err(Stop::Failed("there are no pixels to change in this image".into())),
        }
    }

    /// One variant. A sixteenth of its pixels have a colour that no other variant has.
    pub fn at(&self, number: u64) -> Image {
        let mut pixels = self.pixels.clone();
        // Fibonacci hashing: consecutive numbers get distant colours, and no two of 2²⁴ are equal.
        let colour = (number.wrapping_mul(0x9e_3779) & 0xff_ffff).to_le_bytes();
        for row in pixels.chunks_mut(3 * self.width).take(self.height.div_ceil(4)) {
            for pixel in row.chunks_mut(3).take(self.width.div_ceil(4)) {
                pixel.iter_mut().zip(colour).for_each(|(value, colour)| *value ^= colour);
            }
        }
        Image::rgb8(self.width, self.height, pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ() {
        let Ok(variants) = Variants::of(&fixed(), None) else { panic!() };
        let all: std::collections::BTreeSet<Vec<u8>> = (0..50)
            .map(|number| match variants.at(number) {
                Image::Rgb8 { pixels, .. } => pixels[..3 * SIDE].to_vec(),
                _ => panic!(),
            })
            .collect();
        assert_eq!(all.len(), 50);
    }

    #[test]
    fn the_picture_never_changes() {
        let Image::Rgb8 { pixels, .. } = fixed() else { panic!() };
        let sum = pixels.iter().fold(0u64, |sum, &p| sum.wrapping_mul(31).wrapping_add(p.into()));
        assert_eq!((pixels.len(), sum), (3 * 672 * 672, 16_597_691_113_804_685_326));
    }
}
