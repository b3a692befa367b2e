//! The orientation of an image: from EXIF, or from XMP if EXIF has none, as in Pillow's `getexif`.

/// The orientation, 1 to 8 (1: upright), from an EXIF block and an XMP packet.
pub(super) fn orientation(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> u8 {
    exif.and_then(from_exif).or_else(|| xmp.and_then(from_xmp)).unwrap_or(1)
}

/// Tag 0x0112 in the first directory of a TIFF block, which may follow `Exif\0\0`.
///
/// A tag that is present counts even if its value is invalid.
fn from_exif(mut exif: &[u8]) -> Option<u8> {
    while let Some(rest) = exif.strip_prefix(b"Exif\0\0") {
        exif = rest;
    }
    let little = match exif.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let u32_at = |at: usize| {
        let bytes = exif.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = u32_at(4)? as usize;
    (0..usize::from(u16_at(directory)?)).find_map(|i| {
        let entry = directory + 2 + i * 12;
        if u16_at(entry)? != 0x0112 {
            return None;
        }
        const SHORT: u16 = 3;
        const LONG: u16 = 4;
        let value = match (u16_at(entry + 2)?, u32_at(entry + 4)?) {
            (SHORT, 1) => u32::from(u16_at(entry + 8)?),
            (LONG, 1) => u32_at(entry + 8)?,
            _ => 1,
        };
        Some(u8::try_from(value).unwrap_or(1))
    })
}

/// `tiff:Orientation="6"` or `<tiff:Orientation>6<`.
fn from_xmp(xmp: &[u8]) -> Option<u8> {
    const KEY: &[u8] = b"tiff:Orientation";
    xmp.windows(KEY.len() + 3).find_map(|window| {
        let value = window.strip_prefix(KEY)?;
        // The window may truncate the longer of the two forms, but not the shorter.
        let digit = match value {
            [b'=', b'"', digit] | [b'>', digit, _] => digit,
            _ => return None,
        };
        digit.is_ascii_digit().then(|| digit - b'0')
    })
}

/// The bytes of ImageMagick's `Raw profile type exif`: three header lines, then hexadecimal digits.
pub(super) fn raw_profile(text: &str) -> Option<Vec<u8>> {
    let digits = text.split('\n').skip(3).flat_map(str::bytes);
    let digits: Option<Vec<u8>> = digits
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect();
    Some(digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF block with one directory entry.
    fn exif(little: bool, tag: u16, kind: u16, count: u32, value: [u8; 4]) -> Vec<u8> {
        let short = |v: u16| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let long = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let mut block = if little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
        block.extend(long(8));
        block.extend(short(1));
        block.extend(short(tag));
        block.extend(short(kind));
        block.extend(long(count));
        block.extend(value);
        block
    }

    #[test]
    fn exif_orientation_in_either_byte_order() {
        let little = exif(true, 0x0112, 3, 1, [6, 0, 0, 0]);
        let big = exif(false, 0x0112, 3, 1, [0, 8, 0, 0]);
        assert_eq!(orientation(Some(&little), None), 6);
        assert_eq!(orientation(Some(&big), None), 8);
        let prefixed = [b"Exif\0\0".as_slice(), &big].concat();
        assert_eq!(orientation(Some(&prefixed), None), 8);
        assert_eq!(orientation(Some(&exif(false, 0x0112, 4, 1, [0, 0, 0, 3])), None), 3);
    }

    #[test]
    fn xmp_counts_only_where_exif_is_silent() {
        let attribute = br#"<rdf tiff:Orientation="6"/>"#;
        let element = b"<tiff:Orientation>3</tiff:Orientation>";
        assert_eq!(orientation(None, Some(attribute)), 6);
        assert_eq!(orientation(None, Some(element)), 3);
        let other_tag = exif(true, 0x0110, 3, 1, [6, 0, 0, 0]);
        assert_eq!(orientation(Some(&other_tag), Some(attribute)), 6);
        let senseless = exif(true, 0x0112, 3, 1, [0, 1, 0, 0]);
        assert_eq!(orientation(Some(&senseless), Some(attribute)), 1);
    }

    #[test]
    fn damaged_blocks_are_upright() {
        let whole = exif(true, 0x0112, 3, 1, [6, 0, 0, 0]);
        for length in 0..whole.len() - 2 {
            assert_eq!(orientation(Some(&whole[..length]), None), 1, "{length} bytes");
        }
        let far = [b"II*\0".as_slice(), &[0xff; 4]].concat();
        assert_eq!(orientation(Some(&far), None), 1);
        assert_eq!(orientation(Some(b"not tiff"), Some(b"tiff:Orientation")), 1);
    }

    #[test]
    fn raw_profiles_are_hexadecimal() {
        assert_eq!(raw_profile("\nexif\n       3\n4d4D\n00\n"), Some(vec![0x4d, 0x4d, 0]));
        assert_eq!(raw_profile("\nexif\n       3\nzz"), None);
        assert_eq!(raw_profile(""), Some(vec![]));
    }
}
