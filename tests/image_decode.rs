//! Decoding against Pillow 13, and against files that mean no good.
//!
//! The pictures and what Pillow makes of them come from `tests/images/make.py`.
#![cfg(feature = "image-formats")]

use std::fs;
use std::path::{Path, PathBuf};

use hired::image::{RgbImage, decode};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn decoded(name: &str) -> RgbImage {
    decode(&read(name), name).unwrap_or_else(|error| panic!("{error}"))
}

/// Every lossless picture of the folder, and the lossy ones.
fn names() -> (Vec<String>, Vec<String>) {
    let expected = String::from_utf8(read("expected.txt")).expect("UTF-8");
    let lossless = expected.lines().map(|line| line.split(' ').next().unwrap_or("").to_owned());
    let lossy = fs::read_dir(folder())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let lossy = lossy.filter(|name| name.starts_with("lossy") && !name.ends_with(".png"));
    (lossless.collect(), lossy.collect())
}

#[test]
fn lossless_pictures_are_pillows_to_the_byte() {
    let expected = String::from_utf8(read("expected.txt")).expect("UTF-8");
    assert_eq!(expected.lines().count(), 75);
    for line in expected.lines() {
        let name = line.split(' ').next().expect("a name");
        let image = decoded(name);
        let digest: String =
            Sha256::digest(&image.pixels).iter().map(|b| format!("{b:02x}")).collect();
        let key = image.transparent.map_or("-".into(), |[r, g, b]| format!("{r},{g},{b}"));
        let found = format!("{name} {} {} {key} {digest}", image.width, image.height);
        assert_eq!(found, line);
    }
}

/// Largest and mean difference from the pixels that Pillow decodes, in levels of 255.
fn distance(name: &str) -> (u8, f64) {
    let (ours, pillows) = (decoded(name), decoded(&format!("{name}.png")));
    assert_eq!((ours.width, ours.height), (pillows.width, pillows.height), "{name}");
    let apart = ours.pixels.iter().zip(&pillows.pixels).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = apart.clone().map(f64::from).sum();
    (apart.max().unwrap_or(0), sum / ours.pixels.len() as f64)
}

#[test]
fn lossy_pictures_are_close_to_pillows() {
    let (_, lossy) = names();
    assert_eq!(lossy.len(), 15);
    for name in lossy {
        let (largest, mean) = distance(&name);
        println!("{name}: {largest} levels at most, {mean:.4} on average");
        // Decoded alike, but for JPEGs of the kinds that few programs write.
        let rare = ["lossy-211.jpg", "lossy-211-progressive.jpg", "lossy-y-then-chroma.jpg"];
        let (most, average) = if rare.contains(&name.as_str()) { (4, 0.2) } else { (0, 0.0) };
        assert!(largest <= most && mean <= average, "{name}: {largest}, {mean}");
    }
}

#[test]
fn orientation_turns_the_picture() {
    // Width and height change places, and the corner goes where the tag says.
    let upright = decoded("exif1.png");
    let (w, h) = (upright.width, upright.height);
    assert_eq!((w, h), (7, 4));
    let corner = &upright.pixels[..3];
    // Where the first pixel comes to lie, as (x, y).
    let places = [
        (0, 0),
        (w - 1, 0),
        (w - 1, h - 1),
        (0, h - 1),
        (0, 0),
        (h - 1, 0),
        (h - 1, w - 1),
        (0, w - 1),
    ];
    for (orientation, (x, y)) in (1..).zip(places) {
        let turned = decoded(&format!("exif{orientation}.png"));
        let size = if orientation < 5 { (w, h) } else { (h, w) };
        assert_eq!((turned.width, turned.height), size, "{orientation}");
        assert_eq!(&turned.pixels[(y * turned.width + x) * 3..][..3], corner, "{orientation}");
    }
    assert_eq!(decoded("exif9.png"), upright);
}

/// The message, which must be one line that begins with the name.
fn refusal(bytes: &[u8], name: &str) -> String {
    let message = decode(bytes, name).expect_err(name).to_string();
    assert!(message.starts_with(&format!("{name}: ")), "{message}");
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    assert!(refusal(b"", "empty.png").contains("empty"));
    assert!(refusal(b"just some text\n", "note.png").contains("not an image"));
    assert!(refusal(b"\x89PN", "short.png").contains("not an image"));
    assert!(refusal(b"II*\0\x08\0\0\0", "scan.tif").contains("Tiff"));
    assert!(refusal(b"\0\0\0\x20ftypavif", "new.avif").contains("Avif"));
}

#[test]
fn truncated_files_are_refused() {
    let (lossless, lossy) = names();
    for name in lossless.iter().chain(&lossy) {
        let whole = read(name);
        // Half a file never suffices, except where two frames fill it.
        let half = whole.len() / if name.starts_with("animated") { 4 } else { 2 };
        for length in [3, 20, half] {
            refusal(&whole[..length.min(half)], name);
        }
    }
    // A JPEG without its last two bytes has all its pixels; Pillow refuses it, and so do we.
    let whole = read("lossy-444.jpg");
    assert!(refusal(&whole[..whole.len() - 2], "cut.jpg").contains("end marker"));
}

/// A PNG of a declared size with next to no data.
fn declared_png(width: u32, height: u32) -> Vec<u8> {
    let mut png = read("rgb8.png");
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[test]
fn bombs_are_refused_by_their_declared_size() {
    let too_many = "more than the 178956970 allowed";
    let expect = |bytes: &[u8], name, what| {
        let message = refusal(bytes, name);
        assert!(message.contains(what), "{message}");
    };
    assert_eq!(decode(&declared_png(13, 6), "").expect("the picture itself"), decoded("rgb8.png"));
    expect(&declared_png(13_378, 13_378), "bomb.png", too_many);
    expect(&declared_png(u32::MAX >> 1, u32::MAX >> 1), "bomb.png", too_many);
    expect(&declared_png(1 << 20, 1), "long.png", "a side is longer");
    // Within the limits, but without the data.
    expect(&declared_png(13_377, 13_377), "empty.png", "damaged");

    let mut gif = read("plain.gif");
    gif[6..10].fill(0xff);
    expect(&gif, "bomb.gif", too_many);

    let mut bmp = read("rgb24.bmp");
    bmp[18..22].copy_from_slice(&40_000i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&40_000i32.to_le_bytes());
    expect(&bmp, "bomb.bmp", too_many);

    let mut jpeg = read("lossy-444.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame");
    jpeg[frame + 5..frame + 9].fill(0xff);
    expect(&jpeg, "bomb.jpg", too_many);

    let mut webp = read("animated.webp");
    webp[24..30].copy_from_slice(&[0xff, 0x3f, 0, 0xff, 0x3f, 0]);
    expect(&webp, "bomb.webp", too_many);
}

#[test]
fn text_bombs_in_a_png_are_ignored() {
    // Metadata of 2 MiB and more once unpacked is no reason to refuse the picture, nor is it unpacked.
    let mut packed = vec![0x78, 0x01];
    let zeros = vec![0u8; 65_535];
    for last in (0..64).map(|i| u8::from(i == 63)) {
        packed.extend([last, 0xff, 0xff, 0, 0]);
        packed.extend(&zeros);
    }
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [kind.as_slice(), data].concat();
        let length = (data.len() as u32).to_be_bytes();
        [&length, body.as_slice(), &crc32(&body).to_be_bytes()].concat()
    };
    let text = chunk(b"zTXt", &[b"Raw profile type exif\0\0".as_slice(), &packed].concat());
    let plain = read("rgb8.png");
    let bomb = [&plain[..33], &text, &plain[33..]].concat();
    assert_eq!(decode(&bomb, "text.png").expect("the picture"), decoded("rgb8.png"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Whatever is written into a picture, reading it ends with pixels or with one line.
    #[test]
    fn damaged_pictures_never_panic(
        which: prop::sample::Index,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        keep: Option<prop::sample::Index>,
        repair: bool,
    ) {
        let (mut names, lossy) = names();
        names.extend(lossy);
        let mut bytes = read(&names[which.index(names.len())]);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()) + 1);
        }
        if repair {
            repair_checksums(&mut bytes);
        }
        match decode(&bytes, "damaged") {
            Ok(image) => prop_assert_eq!(image.pixels.len(), image.width * image.height * 3),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }
}

/// Makes a PNG's checksums right again, so that damage gets past them.
fn repair_checksums(png: &mut [u8]) {
    if !png.starts_with(b"\x89PNG") {
        return;
    }
    let mut at = 8;
    while let Some(&[a, b, c, d]) = png.get(at..at + 4) {
        let end = at + 8 + u32::from_be_bytes([a, b, c, d]) as usize;
        if end + 4 > png.len() {
            return;
        }
        let checksum = crc32(&png[at + 4..end]);
        png[end..end + 4].copy_from_slice(&checksum.to_be_bytes());
        at = end + 4;
    }
}
