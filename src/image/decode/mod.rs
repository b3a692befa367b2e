//! Encoded images to RGB8 pixels, as Pillow's `open`, `exif_transpose` and `convert("RGB")` give them.
//!
//! PNG and GIF are read through the crates of their formats, because `image` widens palettes and
//! 16-bit samples in other ways than Pillow does.

mod gif;
mod jpeg;
mod metadata;
mod png;

use std::fmt::Display;
use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, ImageFormat};

use super::{MAX_PIXELS, RgbImage, check_pixels};
use crate::error::{Error, Result, excerpt};
use crate::guard::guarded;

/// Decodes a PNG, JPEG, WebP, BMP or GIF (first frame), told apart by content; `name` is for errors.
///
/// The pixels are those of transformers' `load_image`: EXIF orientation applied, alpha dropped,
/// palettes resolved, 16-bit colours cut to their high byte and 16-bit greys clipped at 255. Only of
/// JPEGs of the rarest kinds (chroma finer than luma, baseline scans of two components) differ by up
/// to 3 levels.
///
/// # Errors
/// [`Error::Image`] when the data is of none of these formats, damaged, truncated or too large;
/// the size is checked before memory for the pixels is taken.
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage> {
    decode_within(bytes, name, MAX_PIXELS)
}

/// The same of an image of at most `most` pixels, and of at most [`largest_encoded`] bytes.
///
/// # Errors
/// As [`decode`].
pub fn decode_within(bytes: &[u8], name: &str, most: usize) -> Result<RgbImage> {
    let most = most.min(MAX_PIXELS);
    let limit = largest_encoded(most);
    if bytes.len() > limit {
        let what = format!("{} bytes, more than the {limit} allowed: scale it down", bytes.len());
        return Err(Error::image(name, what));
    }
    let upright = guarded(|| upright(bytes, most)).unwrap_or_else(|| Err(unreadable(FAILED)));
    upright.map_err(|what| Error::image(name, what))
}

/// Most bytes of an encoded image of so many pixels: 8 a pixel, as 16-bit RGBA has them, and 1 MiB for whatever else
/// stands in the file; never more than 768 MiB.
pub fn largest_encoded(pixels: usize) -> usize {
    pixels.saturating_mul(8).saturating_add(1 << 20).min(768 << 20)
}

/// What is said of a decoder that panics.
const FAILED: &str = "its decoder failed";

fn upright(bytes: &[u8], most: usize) -> Result<RgbImage, String> {
    const GIVE: &str = "give a PNG, JPEG, WebP, BMP or GIF";
    if bytes.is_empty() {
        return Err(format!("the file is empty: {GIVE}"));
    }
    let format = image::guess_format(bytes)
        .map_err(|_| format!("this is not an image, or of no known format: {GIVE}"))?;
    let (image, orientation) = match format {
        ImageFormat::Png => png::decode(bytes, most),
        ImageFormat::Gif => gif::decode(bytes, most).map(|image| (image, 1)),
        ImageFormat::Jpeg => jpeg::decode(bytes, most),
        ImageFormat::WebP => decode_webp(bytes, most),
        ImageFormat::Bmp => decode_bmp(bytes, most).map(|image| (image, 1)),
        other => return Err(format!("{other:?} images are not read: {GIVE}")),
    }?;
    Ok(oriented(image, orientation))
}

/// What to say when a decoder gives up.
fn unreadable(error: impl Display) -> String {
    let said = excerpt(error, 200);
    format!("damaged, truncated or of a kind that is not read ({said}): save it again, best as PNG")
}

/// Pixels by way of the `image` crate, alpha dropped.
fn pixels(decoder: impl ImageDecoder, most: usize) -> Result<RgbImage, String> {
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    check_pixels(width, height, most)?;
    let image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    let pixels = match image {
        DynamicImage::ImageRgba8(image) => {
            let mut pixels = image.into_raw();
            // In place, so that a large picture is not held twice.
            for i in 0..width * height {
                pixels.copy_within(i * 4..i * 4 + 3, i * 3);
            }
            pixels.truncate(width * height * 3);
            pixels
        }
        image => image.into_rgb8().into_raw(),
    };
    Ok(RgbImage { width, height, pixels, transparent: None })
}

fn decode_webp(bytes: &[u8], most: usize) -> Result<(RgbImage, u8), String> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
    // Metadata that cannot be read is no reason to refuse a picture that can.
    let exif = decoder.exif_metadata().ok().flatten();
    let xmp = decoder.xmp_metadata().ok().flatten();
    Ok((pixels(decoder, most)?, metadata::orientation(exif.as_deref(), xmp.as_deref())))
}

fn decode_bmp(bytes: &[u8], most: usize) -> Result<RgbImage, String> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
    let mut image = pixels(decoder, most)?;
    let word =
        |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (header, depth) = (word(14), word(28).map(|bits| bits & 0xffff));
    if header >= Some(40) && depth == Some(16) {
        // Pillow widens 5 and 6 bits by truncating v·255/31 and v·255/63, `image` by rounding.
        let truncate = |byte: u8, top: u32| ((u32::from(byte) * top + 127) / 255 * 255 / top) as u8;
        let bitfields = word(30) == Some(3);
        let green = if bitfields && word(58) == Some(0x7e0) { 63 } else { 31 };
        for pixel in image.pixels.chunks_exact_mut(3) {
            for (byte, top) in pixel.iter_mut().zip([31, green, 31]) {
                *byte = truncate(*byte, top);
            }
        }
    }
    Ok(image)
}

/// The picture turned and mirrored as EXIF orientation 1 to 8 says; other values change nothing.
fn oriented(image: RgbImage, orientation: u8) -> RgbImage {
    if !(2..=8).contains(&orientation) {
        return image;
    }
    let turned = orientation >= 5;
    let mirror_x = matches!(orientation, 2 | 3 | 7 | 8);
    let mirror_y = matches!(orientation, 3 | 4 | 6 | 7);
    let (w, h) = (image.width, image.height);
    let (width, height) = if turned { (h, w) } else { (w, h) };
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for y in 0..height {
        for x in 0..width {
            let (x, y) = if turned { (y, x) } else { (x, y) };
            let x = if mirror_x { w - 1 - x } else { x };
            let y = if mirror_y { h - 1 - y } else { y };
            let at = (y * w + x) * 3;
            pixels.extend_from_slice(&image.pixels[at..at + 3]);
        }
    }
    RgbImage { width, height, pixels, transparent: image.transparent }
}
