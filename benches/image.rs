//! Time of image preprocessing on the CPU: `cargo bench --bench image`.

use hired::config::ImageConfig;
use hired::image::{Resample, RgbImage, resize, tiles};

fn main() {
    divan::main();
}

const RESAMPLES: [Resample; 3] = [Resample::Pillow, Resample::Pillow12, Resample::Torchvision];

/// A full-HD image with detail in every pixel.
fn picture() -> RgbImage {
    let (width, height) = (1920, 1080);
    let byte = |i: usize| {
        let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
        ((7 * y + 13 * x + 29 * c + 5 * (x * y % 31)) % 256) as u8
    };
    RgbImage::new(width, height, (0..width * height * 3).map(byte).collect()).expect("a valid size")
}

fn config() -> ImageConfig {
    ImageConfig {
        side: 336,
        pinpoints: Some(vec![(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]),
        mean: [0.5; 3],
        std: [0.5; 3],
        rescale: 1.0 / 255.0,
        pad: false,
        squash: false,
        sub_images: None,
        torchvision: false,
    }
}

#[divan::bench(args = RESAMPLES)]
fn resize_to_672x378(bencher: divan::Bencher, resample: Resample) {
    let picture = picture();
    bencher.bench(|| resize(&picture, 672, 378, resample));
}

#[divan::bench(args = RESAMPLES)]
fn tiles_of_1920x1080(bencher: divan::Bencher, resample: Resample) {
    let (picture, config) = (picture(), config());
    bencher.bench(|| tiles(&picture, &config, resample));
}
