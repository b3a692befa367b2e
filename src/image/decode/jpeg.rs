//! JPEG: reads its markers and decodes its pixels like libjpeg-turbo.
//!
//! Decoders fill the missing part of a truncated file with grey, but Pillow refuses it. The markers show whether the
//! file is complete and of a kind that Pillow reads.

use jpeg_decoder::PixelFormat;

use super::{FAILED, RgbImage, check_pixels, metadata, unreadable};
use crate::guard::guarded;

/// Decodes the image and returns its orientation.
pub(super) fn decode(bytes: &[u8], most: usize) -> Result<(RgbImage, u8), String> {
    let header = Header::read(bytes)?;
    let (width, height) = header.size.ok_or_else(|| unreadable("it has no frame"))?;
    check_pixels(width, height, most)?;
    // A decoder that panics on a file counts as failed.
    let attempt = |decode: fn(&[u8]) -> Result<Vec<u8>, String>| {
        guarded(|| decode(bytes)).unwrap_or_else(|| Err(FAILED.into()))
    };
    let pixels = attempt(as_turbo).or_else(|first| {
        // The first decoder supports more, so its message is more useful.
        attempt(as_few_do).map_err(|_| unreadable(first))
    })?;
    if pixels.len() != width * height * 3 {
        return Err(unreadable("its size differs from that in its header"));
    }
    let orientation = metadata::orientation(header.exif.as_deref(), header.xmp.as_deref());
    Ok((RgbImage { width, height, pixels, transparent: None }, orientation))
}

/// Decodes to the same bytes as libjpeg-turbo.
fn as_turbo(bytes: &[u8]) -> Result<Vec<u8>, String> {
    use libjpeg_turbo_rs::{PixelFormat, decompress_to};
    let image = decompress_to(bytes, PixelFormat::Rgb).map_err(|e| e.to_string())?;
    Ok(image.data)
}

/// Decodes rare kinds: chroma with more samples than luma, and baseline scans of only some components. The result is
/// within 4 levels of libjpeg-turbo's.
fn as_few_do(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    match decoder.info().map(|info| info.pixel_format) {
        Some(PixelFormat::RGB24) => Ok(pixels),
        Some(PixelFormat::L8) => Ok(pixels.into_iter().flat_map(|grey| [grey; 3]).collect()),
        _ => Err("four components with this coding".into()),
    }
}

/// The content of a JPEG's markers.
#[derive(Default)]
struct Header {
    /// Width and height.
    size: Option<(usize, usize)>,
    /// Joined APP1 `Exif` segments.
    exif: Option<Vec<u8>>,
    /// The last APP1 XMP packet.
    xmp: Option<Vec<u8>>,
}

impl Header {
    /// Walks the markers up to the end of the image.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let truncated = || unreadable("it ends before its end marker");
        let mut header = Self::default();
        let mut at = 2;
        loop {
            // Skips bytes between segments, entropy-coded data with its stuffed zeros and restart markers, and fill
            // bytes alike.
            let marker = loop {
                let skip = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff));
                at += skip.ok_or_else(truncated)? + 1;
                match *bytes.get(at).ok_or_else(truncated)? {
                    0x00 | 0x01 | 0xd0..=0xd8 | 0xff => {}
                    marker => break marker,
                }
            };
            at += 1;
            if marker == 0xd9 {
                return Ok(header);
            }
            let length = bytes.get(at..at + 2).ok_or_else(truncated)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            if length < 2 {
                return Err(unreadable(format!("marker {marker:#x} has an impossible length")));
            }
            let segment = bytes.get(at + 2..at + length).ok_or_else(truncated)?;
            at += length;
            match marker {
                // Start of frame, for any coding; c4, c8 and cc have other meanings.
                0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                    let (depth, components) = (segment.first(), segment.get(5));
                    if depth != Some(&8) || !matches!(components, Some(1 | 3 | 4)) {
                        return Err(unreadable("not 1, 3 or 4 components of 8 bits"));
                    }
                    let word = |at: usize| {
                        Some(usize::from(u16::from_be_bytes([
                            *segment.get(at)?,
                            *segment.get(at + 1)?,
                        ])))
                    };
                    header.size = word(3).zip(word(1));
                }
                0xe1 => {
                    if let Some(block) = segment.strip_prefix(b"Exif\0\0") {
                        header.exif.get_or_insert_default().extend_from_slice(block);
                    } else if let Some(packet) =
                        segment.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0")
                    {
                        header.xmp = Some(packet.to_vec());
                    }
                }
                _ => {}
            }
        }
    }
}
