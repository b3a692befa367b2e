//! Decodes images to RGB8 pixels, like Pillow's `open`, `exif_transpose` and `convert("RGB")`.
//!
//! PNG and GIF are decoded with the crates of their formats, because `image` converts palettes and 16-bit samples
//! differently from Pillow.

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

/// Decodes a PNG, JPEG, WebP, BMP or GIF (first frame), which is recognised by its content; `name` is used in errors.
///
/// The pixels are those of transformers' `load_image`: EXIF orientation applied, alpha dropped, palettes resolved,
/// 16-bit colours reduced to their high byte and 16-bit greys clipped at 255. Only JPEGs of the rarest kinds (chroma
/// with more samples than luma, baseline scans of two components) differ, by up to 4 levels.
///
/// # Errors
/// [`Error::Image`] if the data has none of these formats or is damaged, truncated or too large. The size is checked
/// before memory for the pixels is allocated.
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage> {
    decode_within(bytes, name, MAX_PIXELS)
}

/// As [`decode`], for an image of at most `most` pixels and [`largest_encoded`] bytes.
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

/// Largest size in bytes of an encoded image with that many pixels: 8 bytes per pixel, as in 16-bit RGBA, and 1 MiB
/// for metadata, but at most 768 MiB.
pub fn largest_encoded(pixels: usize) -> usize {
    pixels.saturating_mul(8).saturating_add(1 << 20).min(768 << 20)
}

/// The message if a decoder panics.
const FAILED: &str = "its decoder failed";

fn upright(bytes: &[u8], most: usize) -> Result<RgbImage, String> {
    const GIVE: &str = "give a PNG, JPEG, WebP, BMP or GIF";
    if bytes.is_empty() {
        return Err(format!("the file is empty: {GIVE}"));
    }
    let format = image::guess_format(bytes)
        .map_err(|_| format!("this is not an image, or its format is not supported: {GIVE}"))?;
    let (image, orientation) = match format {
        ImageFormat::Png => png::decode(bytes, most),
        ImageFormat::Gif => gif::decode(bytes, most).map(|image| (image, 1)),
        ImageFormat::Jpeg => jpeg::decode(bytes, most),
        ImageFormat::WebP => decode_webp(bytes, most),
        ImageFormat::Bmp => decode_bmp(bytes, most).map(|image| (image, 1)),
        other => return Err(format!("{other:?} images are not supported: {GIVE}")),
    }?;
    Ok(oriented(image, orientation))
}

/// The message if a decoder fails.
fn unreadable(error: impl Display) -> String {
    let said = excerpt(error, 200);
    format!(
        "cannot decode it ({said}): the file may be damaged, truncated or of an unsupported kind; save it again as PNG"
    )
}

/// Decodes pixels with the `image` crate and drops alpha.
fn pixels(decoder: impl ImageDecoder, most: usize) -> Result<RgbImage, String> {
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    check_pixels(width, height, most)?;
    let image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    let pixels = match image {
        DynamicImage::ImageRgba8(image) => {
            let mut pixels = image.into_raw();
            // Converted in place, so that a large image is not held twice.
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
    // Unreadable metadata is no reason to refuse a readable image.
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
        // Pillow widens 5 and 6 bits by truncating v·255/31 and v·255/63, but `image` rounds.
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

/// Rotates and mirrors an image according to its EXIF orientation, 1 to 8; other values have no effect.
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
