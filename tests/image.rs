//! Preprocessing against values that transformers and Pillow gave.

use hired::config::ImageConfig;
use hired::image::{Layout, MAX_PIXELS, Normalization, Resample, RgbImage, Tiles, resize, tiles};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const SIDE: usize = 336;
const ALL: [Resample; 3] = [Resample::Pillow12, Resample::Pillow, Resample::Torchvision];

/// `preprocessor_config.json` of the LLaVA-NeXT checkpoints, or of LLaVA-1.5.
fn config(next: bool) -> ImageConfig {
    let pinpoints = vec![(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)];
    ImageConfig {
        side: SIDE,
        pinpoints: next.then_some(pinpoints),
        mean: [0.48145466, 0.4578275, 0.40821073],
        std: [0.26862954, 0.26130258, 0.27577711],
        rescale: 0.00392156862745098,
        pad: false,
        squash: false,
        sub_images: None,
        torchvision: false,
    }
}

/// A picture anyone can make again: no two neighbours alike, no axis like the other.
fn formula(height: usize, width: usize) -> RgbImage {
    let mut pixels = Vec::with_capacity(height * width * 3);
    for y in 0..height {
        for x in 0..width {
            pixels.extend([0, 1, 2].map(|c| (7 * y + 13 * x + 29 * c + 5 * (x * y % 31)) as u8));
        }
    }
    RgbImage::new(width, height, pixels).expect("a valid picture")
}

/// First 16 hexadecimal digits of a SHA-256.
fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Partitions `from..to` with their colours interleaved, as the reference hashes were taken.
fn interleaved(tiles: &Tiles, from: usize, to: usize) -> Vec<u8> {
    let plane = SIDE * SIDE;
    let partitions = tiles.pixels.chunks_exact(3 * plane).take(to).skip(from);
    partitions.flat_map(|p| (0..3 * plane).map(|i| p[i % 3 * plane + i / 3])).collect()
}

/// Height, width, hash of the source, fitted height and width, and for Pillow up to 12.1, Pillow 13
/// and torchvision the hashes of the full image and of the sub-images.
type Vector = (usize, usize, &'static str, (usize, usize), [[&'static str; 2]; 3]);

#[rustfmt::skip]
const VECTORS: [Vector; 7] = [
    (480, 640, "84c23fc432e3a943", (504, 672), [["9011e6d6db661592", "4881511a28788490"],
        ["9011e6d6db661592", "4881511a28788490"], ["08e089ca9aef2a0c", "ca0fa5bce0a86ccd"]]),
    (640, 480, "c9f7e48bd7eb42d1", (672, 504), [["1beb1a9af122d93c", "d015bcc25686694a"],
        ["7ca713b6e3884c94", "d015bcc25686694a"], ["ca0aaa6582aab8af", "9453b40524229059"]]),
    (300, 300, "c79b82d3f14ee856", (336, 337), [["2c2edc407070870b", "ea9d62c7524bcca2"],
        ["2c2edc407070870b", "ea9d62c7524bcca2"], ["4a1d4191633809a7", "32332b34eb6c7ad6"]]),
    (899, 1024, "b755f8914b0189ed", (590, 672), [["31f9cb22f484cf06", "4adf928d8965aeb2"],
        ["31f9cb22f484cf06", "4adf928d8965aeb2"], ["68f384d7c432f485", "7566e506e0b80ff4"]]),
    (37, 53, "fd15367b8128bcfb", (336, 482), [["4ce722945778f836", "e1b3a91ae451e8d2"],
        ["4ce722945778f836", "e1b3a91ae451e8d2"], ["2604c3c43a255304", "31d54b423800b5b7"]]),
    (1000, 10, "6afee09eec216dd2", (1008, 11), [["c7a6a0ed1d106ba9", "d298cf5accbc0845"],
        ["885b2136fa55f51a", "d298cf5accbc0845"], ["acaa28c276bc9e83", "f39c93b31930a22b"]]),
    (427, 640, "a065e442660b473d", (449, 672), [["f9881d62fafd8dd3", "4cde2f08ea8c14cc"],
        ["f9881d62fafd8dd3", "4cde2f08ea8c14cc"], ["ca9877882d8fdb4b", "a993a6bfd88324e7"]]),
];

#[test]
fn tiles_are_those_of_transformers() {
    for (height, width, source, fit, expected) in VECTORS {
        let picture = formula(height, width);
        assert_eq!(short_hash(&picture.pixels), source, "{height}×{width}: the formula itself");
        for (resample, expected) in ALL.into_iter().zip(expected) {
            let tiles = tiles(&picture, &config(true), resample).expect("tiles");
            assert_eq!(tiles.layout.fit, fit, "{height}×{width}");
            let base = interleaved(&tiles, 0, 1);
            let subs = interleaved(&tiles, 1, tiles.partitions());
            let found = [short_hash(&base), short_hash(&subs)];
            assert_eq!(found, expected, "{height}×{width} {resample:?}");
            if (height, resample) == (480, Resample::Pillow) {
                assert_eq!(base[..9], [9, 38, 67, 35, 64, 93, 62, 91, 120]);
            }
        }
    }
}

/// Rows and columns.
type Size = (usize, usize);

/// InternVL's grids (rows, columns) for pictures of so many rows and columns, with at most 12 and at most 6 sub-images:
/// those of transformers and of InternVL's own code.
const GRIDS: [(Size, [Size; 2]); 11] = [
    ((480, 640), [(3, 4), (2, 3)]),
    ((640, 480), [(4, 3), (3, 2)]),
    ((672, 672), [(2, 2), (2, 2)]),
    ((600, 600), [(1, 1), (1, 1)]),
    ((300, 300), [(1, 1), (1, 1)]),
    ((1, 1), [(1, 1), (1, 1)]),
    ((1000, 1000), [(3, 3), (2, 2)]),
    ((899, 1024), [(3, 3), (2, 2)]),
    ((1080, 1920), [(2, 4), (1, 2)]),
    ((2200, 1700), [(4, 3), (3, 2)]),
    ((400, 1000), [(2, 5), (1, 3)]),
];

#[test]
fn grids_are_those_with_the_nearest_proportions() {
    for ((height, width), expected) in GRIDS {
        for (most, expected) in [12, 6].into_iter().zip(expected) {
            let config = ImageConfig {
                side: 448,
                pinpoints: None,
                sub_images: Some((1, most)),
                ..config(false)
            };
            let layout = Layout::new(width, height, &config).expect("a layout");
            let (rows, columns) = expected;
            let grid = (rows * columns > 1).then_some(expected);
            assert_eq!(layout.grid, grid, "{height}×{width} of at most {most}");
            assert_eq!(layout.fit, (rows * 448, columns * 448), "{height}×{width}");
            assert_eq!(layout.partitions(), rows * columns + usize::from(grid.is_some()));
            assert_eq!(layout.corner(), (0, 0));
        }
    }
}

#[test]
fn the_centre_crop_is_that_of_transformers() {
    let expected = ["59d30e3864b97873", "59d30e3864b97873", "0a9d684c0b098005"];
    for (resample, expected) in ALL.into_iter().zip(expected) {
        let tiles = tiles(&formula(480, 640), &config(false), resample).expect("tiles");
        assert_eq!((tiles.partitions(), tiles.layout.fit), (1, (336, 448)));
        assert_eq!(short_hash(&interleaved(&tiles, 0, 1)), expected, "{resample:?}");
    }
}

/// SHA-256 (first 16 digits) of the f32 bytes of `pixel_values` that transformers 5.23 gave for
/// [`formula`] pictures of extreme shape: LLaVA-NeXT with its PIL (Pillow 13) and torchvision
/// processors, then LLaVA-1.5 with both (not beyond 60:1, where they would need gigabytes).
type Extreme = (usize, usize, [&'static str; 2], Option<[&'static str; 2]>);

#[rustfmt::skip]
const EXTREMES: &[Extreme] = &[
    (1, 1, ["6fd0634ae19a3024", "2bbfb7a0b7fb32df"], Some(["3b940b066123dccc", "f110accd0abc2cab"])),
    (1, 50, ["6831637e721030ec", "9c8cc8786c56797f"], Some(["0da85ed0ad231773", "cae5b8e36e74058f"])),
    (50, 1, ["3b1dce88b75eb26c", "34b57d110e4d945d"], Some(["1f79ac01da324aed", "db0d03fb4609a08e"])),
    (3, 3, ["d53e3d07d7e4231c", "95340361f4b0c84f"], Some(["78babba9ec341c29", "307b5ee79846dcf5"])),
    (2, 1, ["dbd697660e58d15c", "b7eebce7974bbf28"], Some(["02c6fdc7a63695b6", "a9e3a708d177dafc"])),
    (1, 3, ["f71f5527c9e5a69d", "8270f2641f352589"], Some(["5b0cea942053153f", "5d77a6739a29cfbe"])),
    (3, 500, ["7509345c83cbc4a0", "0eb15433a2f93cb4"], None),
    (500, 3, ["0f36b2c15dcd76cb", "ac1f4fec846f05d7"], None),
    (1, 20000, ["84f93d16ef7a0310", "9c6d620dcf6c1e19"], None),
    (20000, 1, ["d34a2048db4638f5", "47936245a5557bef"], None),
    (3000, 41, ["7bae0ef642d73edd", "2fd1112522246e0f"], None),
    (335, 336, ["df3f544e04308314", "bab8553c21d24e87"], Some(["6659f741bf28fce5", "b88f1b2505690ff4"])),
    (2001, 1000, ["0e04f0c7463e2e5a", "2ac667b0f7c982cb"], Some(["28745690673ba4d1", "b172c1ed0e0cfc1e"])),
];

#[test]
fn pixel_values_of_extreme_shapes() {
    for &(height, width, next, llava) in EXTREMES {
        let picture = formula(height, width);
        for (next, expected) in [(true, Some(next)), (false, llava)] {
            let resamples = [Resample::Pillow, Resample::Torchvision];
            for (resample, expected) in resamples.into_iter().zip(expected.into_iter().flatten()) {
                let config = config(next);
                let tiles = tiles(&picture, &config, resample).expect("tiles");
                let values = Normalization::new(&config, resample).apply(&tiles);
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                let found = short_hash(&bytes);
                assert_eq!(found, expected, "{height}×{width} {resample:?} next: {next}");
            }
        }
    }
}

#[test]
fn a_centre_crop_of_a_thin_picture_takes_little() {
    // Resized whole, these would be pictures of gigabytes.
    for (width, height) in [(1, 20_000), (20_000, 1)] {
        let picture = RgbImage::new(width, height, vec![77; 60_000]).expect("a valid picture");
        for resample in ALL {
            let tiles = tiles(&picture, &config(false), resample).expect("tiles");
            assert_eq!(tiles.layout.fit.0.max(tiles.layout.fit.1), 336 * 20_000);
            assert!(tiles.pixels.iter().all(|&byte| byte == 77));
        }
    }
}

#[test]
fn layouts_of_common_sizes() {
    // Width and height, grid, fitted height and width.
    #[rustfmt::skip]
    let table = [
        ((336, 336), (1, 2), (336, 336)), ((224, 224), (1, 2), (336, 336)), ((1, 1), (1, 2), (336, 336)),
        ((300, 300), (1, 2), (336, 337)), ((672, 336), (1, 2), (336, 672)), ((336, 672), (2, 1), (672, 336)),
        ((672, 672), (2, 2), (672, 672)), ((1024, 1024), (2, 2), (672, 672)), ((672, 448), (2, 2), (448, 672)),
        ((448, 672), (2, 2), (672, 448)), ((640, 480), (2, 2), (504, 672)), ((1024, 768), (2, 2), (504, 672)),
        ((480, 640), (2, 2), (672, 504)), ((1200, 1600), (2, 2), (672, 504)), ((375, 500), (2, 2), (672, 505)),
        ((640, 427), (2, 2), (449, 672)), ((1100, 808), (2, 2), (494, 672)), ((1024, 899), (2, 2), (590, 672)),
        ((1280, 720), (2, 2), (378, 672)), ((1920, 1080), (2, 2), (378, 672)), ((1080, 1920), (2, 2), (672, 378)),
        ((4000, 3000), (2, 2), (505, 672)), ((1008, 336), (1, 3), (336, 1008)), ((1800, 600), (1, 3), (336, 1008)),
        ((336, 1008), (3, 1), (1008, 336)), ((777, 333), (1, 3), (336, 784)), ((500, 2000), (3, 1), (1008, 252)),
        ((1000, 100), (1, 3), (101, 1008)), ((10, 1000), (3, 1), (1008, 11)), ((50, 1), (1, 2), (14, 672)),
    ];
    for ((width, height), grid, fit) in table {
        let layout = Layout::new(width, height, &config(true)).expect("a layout");
        assert_eq!((layout.grid, layout.fit), (Some(grid), fit), "{width}×{height}");
        assert_eq!(layout.partitions(), 1 + grid.0 * grid.1);
    }
    // The longer side is cut, not rounded.
    let layout = Layout::new(500, 333, &config(false)).expect("a layout");
    assert_eq!((layout.grid, layout.fit, layout.corner()), (None, (336, 504), (0, 84)));
}

#[test]
fn normalisation_is_that_of_either_processor() {
    let config = config(true);
    let black = |resample| Normalization::new(&config, resample).lut.map(|lut| lut[0]);
    assert_eq!(black(Resample::Pillow), [-1.792_262_6, -1.752_097_1, -1.480_219_8]);
    assert_eq!(black(Resample::Pillow12), black(Resample::Pillow));
    assert_eq!(black(Resample::Torchvision), [-1.792_262_6, -1.752_097, -1.480_219_8]);
    let (pil, fused) = (
        Normalization::new(&config, Resample::Pillow),
        Normalization::new(&config, Resample::Torchvision),
    );
    let (pil, fused) = (pil.lut.as_flattened(), fused.lut.as_flattened());
    assert_ne!(pil, fused);
    let apart = pil.iter().zip(fused).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart <= 2.4e-7, "{apart}");
}

#[test]
fn a_transparent_colour_is_shown_white() {
    let mut picture = RgbImage::new(2, 1, vec![1, 2, 3, 9, 9, 9]).expect("a valid picture");
    let pixels = |picture: &RgbImage| {
        let tiles = tiles(picture, &config(false), Resample::Pillow).expect("tiles");
        tiles.pixels
    };
    let opaque = pixels(&picture);
    picture.transparent = Some([1, 2, 3]);
    let shown = pixels(&picture);
    let white = RgbImage::new(2, 1, vec![255, 255, 255, 9, 9, 9]).expect("a valid picture");
    assert_eq!(shown, pixels(&white));
    assert_ne!(shown, opaque);
}

#[test]
fn wrong_pictures_are_refused_by_name() {
    let refused = |width, height, bytes: usize, what: &str| {
        let error = RgbImage::new(width, height, vec![0; bytes]).expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    refused(2, 2, 11, "11 bytes given where RGB8 needs 12");
    refused(0, 5, 0, "no pixels");
    refused(5, 0, 0, "no pixels");
    refused(usize::MAX, 2, 6, "is 36893488147419103230 pixels");
    refused(usize::MAX, usize::MAX, 6, "scale it down");
    refused(1 << 19, 1, 3 << 19, "a side is longer than 262144");
    let over = format!("more than the {MAX_PIXELS} allowed");
    refused(13_378, 13_378, 0, &over);

    // The fields are public: what does not agree is found before it is used.
    let mut picture = formula(4, 5);
    picture.width = 50;
    let error = tiles(&picture, &config(true), Resample::Pillow).expect_err("a wrong width");
    assert!(error.to_string().contains("60 bytes given where RGB8 needs 600"), "{error}");
}

#[test]
fn absurd_configurations_are_refused_by_name() {
    type Pinpoints = Option<Vec<(usize, usize)>>;
    let absurd: [(usize, Pinpoints, &str); 8] = [
        (336, Some(vec![]), "image_grid_pinpoints is empty"),
        (336, Some(vec![(336, 700)]), "[336, 700]"),
        (336, Some(vec![(336, 0)]), "[336, 0]"),
        (336, Some(vec![(336 << 40, 336)]), "image_grid_pinpoints"),
        (1, Some(vec![(1 << 63, 1 << 63)]), "image_grid_pinpoints"),
        (13_000, Some(vec![(13_000, 13_000)]), "13000×13000"),
        (0, None, "images of 0×0"),
        (1 << 40, None, "1099511627776×1099511627776"),
    ];
    for (side, pinpoints, what) in absurd {
        let config = ImageConfig { side, pinpoints, ..config(true) };
        let error = Layout::new(640, 480, &config).expect_err(what).to_string();
        assert!(error.contains(what) && error.contains("config.json"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn a_constant_picture_stays_constant(
        (from, to) in ((1usize..90, 1usize..90), (1usize..90, 1usize..90)),
        colour: [u8; 3],
        which in 0usize..3,
    ) {
        let picture = RgbImage::new(from.0, from.1, colour.repeat(from.0 * from.1)).expect("valid");
        let resized = resize(&picture, to.0, to.1, ALL[which]);
        prop_assert_eq!((resized.width, resized.height), to);
        prop_assert!(resized.pixels.chunks_exact(3).all(|pixel| pixel == colour));
        prop_assert_eq!(resized.pixels.len(), to.0 * to.1 * 3);
    }

    #[test]
    fn the_picture_lies_on_its_canvas(width in 1usize..5000, height in 1usize..5000) {
        let layout = Layout::new(width, height, &config(true)).expect("a layout");
        let (rows, columns) = layout.grid.expect("a grid");
        let canvas = (rows * SIDE, columns * SIDE);
        let pinpoints = config(true).pinpoints.expect("pinpoints");
        prop_assert!(pinpoints.contains(&canvas));
        let (fit, corner) = (layout.fit, layout.corner());
        prop_assert!(fit.0 >= 1 && fit.1 >= 1);
        prop_assert!(fit.0 == canvas.0 || fit.1 == canvas.1);
        prop_assert!(fit.0 <= canvas.0 && fit.1 <= canvas.1);
        // As much black above as below, the odd row below.
        prop_assert!((0..=1).contains(&(canvas.0 - fit.0 - 2 * corner.0)));
        prop_assert!((0..=1).contains(&(canvas.1 - fit.1 - 2 * corner.1)));
        // Aspect ratio kept to a pixel.
        let ideal = (width as f64 / height as f64) * fit.0 as f64;
        let step = (width as f64 / height as f64).max(1.0);
        prop_assert!((ideal - fit.1 as f64).abs() <= step + 1e-6);
    }

    #[test]
    fn the_shorter_side_fills_the_crop(width in 1usize..5000, height in 1usize..5000) {
        let layout = Layout::new(width, height, &config(false)).expect("a layout");
        prop_assert_eq!(layout.fit.0.min(layout.fit.1), SIDE);
        prop_assert_eq!(layout.partitions(), 1);
    }

    #[test]
    fn black_surrounds_the_picture(width in 1usize..60, height in 1usize..60) {
        let picture = RgbImage::new(width, height, vec![200; width * height * 3]).expect("valid");
        let tiles = tiles(&picture, &config(true), Resample::Pillow).expect("tiles");
        let plane = SIDE * SIDE;
        prop_assert_eq!(tiles.pixels.len(), tiles.partitions() * 3 * plane);
        let (base, subs) = tiles.pixels.split_at(3 * plane);
        prop_assert!(base.iter().all(|&byte| byte == 200));
        let shown = subs.iter().filter(|&&byte| byte == 200).count();
        let black = subs.iter().filter(|&&byte| byte == 0).count();
        let (height, width) = tiles.layout.fit;
        prop_assert_eq!((shown, black), (height * width * 3, subs.len() - height * width * 3));
    }
}
