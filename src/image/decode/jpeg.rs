//! The markers of a JPEG: its metadata, and whether it is all there and of a kind that Pillow reads.
//!
//! The decoder fills what is missing of a truncated file with grey, where Pillow refuses it.

use super::unreadable;

/// What the markers of a JPEG say about which way up it is.
#[derive(Default)]
pub(super) struct Header {
    /// APP1 `Exif` segments, joined.
    pub(super) exif: Option<Vec<u8>>,
    /// Last APP1 XMP packet.
    pub(super) xmp: Option<Vec<u8>>,
}

impl Header {
    /// Walks the markers up to the end of the image.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let truncated = || unreadable("it ends before its end marker");
        let mut header = Self::default();
        let mut at = 2;
        loop {
            // Bytes between segments, entropy-coded data with its stuffed zeros and restart
            // markers, and fill bytes are all passed over alike.
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
                // Start of frame, whatever the coding; c4, c8 and cc are something else.
                0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                    let (depth, components) = (segment.first(), segment.get(5));
                    if depth != Some(&8) || !matches!(components, Some(1 | 3 | 4)) {
                        return Err(unreadable("not 1, 3 or 4 components of 8 bits"));
                    }
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
