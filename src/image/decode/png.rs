//! PNG, with its samples reduced to RGB8 like in Pillow.

use std::io::Cursor;

use png::{BitDepth, ColorType, Info, InterlaceInfo, Limits, Transformations};

use super::{RgbImage, check_pixels, metadata, unreadable};

/// Memory for rows and metadata, in addition to the pixels.
const LIMITS: Limits = Limits { bytes: 64 << 20 };

/// Decodes the default image (for APNG, not the animation) and returns its orientation.
pub(super) fn decode(bytes: &[u8], most: usize) -> Result<(RgbImage, u8), String> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), LIMITS);
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(unreadable)?;
    let (width, height) = (header.width as usize, header.height as usize);
    check_pixels(width, height, most)?;

    let mut reader = decoder.read_info().map_err(unreadable)?;
    let samples = Samples::new(reader.info());
    let transparent = samples.transparent(reader.info());
    let stride = width * 3;
    let mut pixels = vec![0; height * stride];
    let mut wide = Vec::new();
    let mut y = 0;
    while let Some(row) = reader.next_interlaced_row().map_err(unreadable)? {
        samples.widen(row.data(), &mut wide);
        match row.interlace() {
            InterlaceInfo::Adam7(pass) => {
                png::expand_interlaced_row(&mut pixels, stride, &wide, pass, 24);
            }
            InterlaceInfo::Null(_) => {
                pixels[y * stride..][..stride].copy_from_slice(&wide[..stride]);
                y += 1;
            }
        }
    }
    // Metadata may follow the pixels; errors in it do not affect the pixels.
    let _ = reader.finish();
    Ok((RgbImage { width, height, pixels, transparent }, orientation(reader.info())))
}

/// The conversion of a row to RGB8.
enum Samples {
    /// One sample of up to 8 bits per pixel, as an index into a table of colours.
    Table { bits: u8, colours: Box<[[u8; 3]; 256]> },
    /// 16-bit grey. Pillow clips it at 255 (mode `I;16`), although it reduces colours to their high byte.
    Grey16,
    /// Pixels of `step` bytes, with red, green and blue at the offsets `at`.
    Bytes { step: usize, at: [usize; 3] },
}

impl Samples {
    fn new(info: &Info) -> Self {
        let bits = info.bit_depth as u8;
        let bytes = usize::from(bits / 8);
        let (colour, step) = (info.color_type, info.color_type.samples() * bytes);
        match colour {
            ColorType::Grayscale if bits == 16 => Self::Grey16,
            ColorType::Grayscale => {
                let brightest = (1u32 << bits) - 1;
                let grey = |i: usize| [(i as u32 * 255 / brightest) as u8; 3];
                Self::Table { bits, colours: Box::new(std::array::from_fn(grey)) }
            }
            ColorType::Indexed => {
                // Indices beyond the palette are black.
                let mut colours = Box::new([[0; 3]; 256]);
                let palette = info.palette.as_deref().unwrap_or_default();
                for (slot, colour) in colours.iter_mut().zip(palette.chunks_exact(3)) {
                    slot.copy_from_slice(colour);
                }
                Self::Table { bits, colours }
            }
            ColorType::GrayscaleAlpha => Self::Bytes { step, at: [0; 3] },
            ColorType::Rgb | ColorType::Rgba => Self::Bytes { step, at: [0, bytes, 2 * bytes] },
        }
    }

    /// Writes a row as RGB8, including pixels from unused bits at its end.
    fn widen(&self, row: &[u8], wide: &mut Vec<u8>) {
        wide.clear();
        match self {
            Self::Table { bits, colours } => {
                let mask = (1u16 << bits) - 1;
                for byte in row {
                    for shift in (0..8).step_by(usize::from(*bits)).rev() {
                        let index = (u16::from(*byte) >> shift) & mask;
                        wide.extend_from_slice(&colours[usize::from(index)]);
                    }
                }
            }
            Self::Grey16 => {
                for sample in row.chunks_exact(2) {
                    let grey = if sample[0] == 0 { sample[1] } else { 255 };
                    wide.extend_from_slice(&[grey; 3]);
                }
            }
            Self::Bytes { step: 3, at: [0, 1, 2] } => wide.extend_from_slice(row),
            Self::Bytes { step, at } => {
                for pixel in row.chunks_exact(*step) {
                    wide.extend_from_slice(&at.map(|i| pixel[i]));
                }
            }
        }
    }

    /// The colour that a `tRNS` chunk declares transparent, after Pillow's `convert("RGB")`: a palette with several
    /// transparent entries has none, greys of 2 and 4 bits are not widened, and only the low byte of a 16-bit value
    /// counts.
    fn transparent(&self, info: &Info) -> Option<[u8; 3]> {
        match (info.color_type, info.trns.as_deref()?) {
            (ColorType::Indexed, alphas) => {
                let clear = alphas.iter().position(|&alpha| alpha == 0)?;
                let others = alphas.iter().enumerate().all(|(i, &a)| i == clear || a == 255);
                let Self::Table { colours, .. } = self else { return None };
                others.then(|| colours[clear.min(255)])
            }
            (ColorType::Grayscale, &[.., grey]) => Some(match info.bit_depth {
                BitDepth::One => [if grey == 0 { 0 } else { 255 }, 0, 0],
                BitDepth::Sixteen => [grey, 0, 0],
                _ => [grey; 3],
            }),
            (ColorType::Rgb, &[r, g, b] | &[_, r, _, g, _, b]) => Some([r, g, b]),
            _ => None,
        }
    }
}

/// The orientation from the `eXIf` chunk, otherwise from ImageMagick's text chunk, otherwise from XMP.
fn orientation(info: &Info) -> u8 {
    let text = |key: &str| {
        let international = info.utf8_text.iter().rfind(|chunk| chunk.keyword == key);
        let compressed = info.compressed_latin1_text.iter().rfind(|chunk| chunk.keyword == key);
        let plain = info.uncompressed_latin1_text.iter().rfind(|chunk| chunk.keyword == key);
        if let Some(chunk) = plain {
            Some(chunk.text.clone())
        } else if let Some(mut chunk) = compressed.cloned() {
            // This limits the size of the text, which `get_text` alone does not.
            chunk.decompress_text().and_then(|()| chunk.get_text()).ok()
        } else {
            let mut chunk = international.cloned()?;
            chunk.decompress_text().and_then(|()| chunk.get_text()).ok()
        }
    };
    let raw = || metadata::raw_profile(&text("Raw profile type exif")?);
    let exif = info.exif_metadata.as_deref().map(<[u8]>::to_vec).or_else(raw);
    let xmp = text("XML:com.adobe.xmp");
    metadata::orientation(exif.as_deref(), xmp.as_deref().map(str::as_bytes))
}
