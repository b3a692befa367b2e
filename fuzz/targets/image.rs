//! `image::decode`, then everything up to the vision tower's numbers, for small models of each kind.

#![no_main]

use hired::config::ImageConfig;
use hired::image::{MAX_PIXELS, Normalization, Resample, decode, tiles};
use hired::select::Geometry;
use hired_fuzz::assert_one_line;
use libfuzzer_sys::fuzz_target;

const SIDE: usize = 8;
const PATCH: usize = 2;
/// Resizing a larger picture takes its time and nothing else.
const LARGE: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let image = match decode(data, "picture") {
        Ok(image) => image,
        Err(e) => return assert_one_line(&e, "picture"),
    };
    let pixels = image.width * image.height;
    assert!(pixels <= MAX_PIXELS && image.pixels.len() == 3 * pixels);
    if pixels > LARGE {
        return;
    }
    let canvases = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)];
    let canvases = canvases.map(|(rows, columns)| (rows * SIDE, columns * SIDE)).to_vec();
    for (pinpoints, sub_images) in [(Some(canvases), None), (None, None), (None, Some((1, 12)))] {
        let config = ImageConfig {
            side: SIDE,
            pinpoints,
            mean: [0.48145466, 0.4578275, 0.40821073],
            std: [0.26862954, 0.26130258, 0.27577711],
            rescale: 1.0 / 255.0,
            pad: false,
            squash: false,
            sub_images,
            torchvision: false,
        };
        for resample in [Resample::Pillow, Resample::Pillow12, Resample::Torchvision] {
            let tiles = tiles(&image, &config, resample).expect("a sound picture");
            let values = Normalization::new(&config, resample).apply(&tiles);
            assert_eq!(values.len(), tiles.partitions() * 3 * SIDE * SIDE);
            assert!(values.iter().all(|value| value.is_finite()));
            let geometry = Geometry::new(&tiles.layout, PATCH).expect("a layout of ours");
            assert!((1..=geometry.partitions() * geometry.patches()).contains(&geometry.valid()));
        }
    }
});
