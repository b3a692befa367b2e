//! The overlay picture. It belongs to the program, which is no library, so its file is compiled into this test.
#![cfg(feature = "cli")]

#[path = "../src/cli/overlay.rs"]
mod overlay;
mod support;

use hired::engine::Visual;
use hired::select::*;
use image::RgbImage;
use overlay::overlay;
use support::{layout, one_crop, pinpoints};

const OUTLINE: [u8; 3] = [255, 200, 0];

/// Tiles of one colour each, none of which the picture uses elsewhere.
fn colour(partition: usize) -> [u8; 3] {
    [210, 20 + 30 * partition as u8, 120]
}

fn tiles(geometry: &Geometry) -> Vec<u8> {
    let area = (geometry.side() * geometry.patch_size()).pow(2);
    let planes = (0..geometry.partitions()).flat_map(colour);
    planes.flat_map(|byte| vec![byte; area]).collect()
}

fn count(picture: &RgbImage, colour: [u8; 3]) -> usize {
    picture.pixels().filter(|pixel| pixel.0 == colour).count()
}

/// Colours and how many pixels have each.
fn shades(picture: &RgbImage) -> Vec<([u8; 3], usize)> {
    let mut shades: Vec<([u8; 3], usize)> = Vec::new();
    for pixel in picture.pixels() {
        match shades.iter_mut().find(|(shade, _)| *shade == pixel.0) {
            Some((_, count)) => *count += 1,
            None => shades.push((pixel.0, 1)),
        }
    }
    shades
}

/// Partitions of 28 pixels, patches of 7: drawn 12 times as large, a patch is 84 pixels and an outline 3.
fn banner() -> Geometry {
    Geometry::new(&layout(70, 28, 28, &pinpoints(28)), 7).unwrap()
}

fn keep(geometry: &Geometry, indices: Vec<Vec<u32>>) -> Visual {
    told(geometry, Kept::of(indices))
}

/// What the engine tells of a choice.
fn told(geometry: &Geometry, kept: Kept) -> Visual {
    Visual::new(&plan(geometry, &Selection::default()).unwrap(), kept)
}

#[test]
fn kept_patches_keep_their_colours_and_are_outlined() {
    let geometry = banner();
    // A patch in a corner of the panel, one inside, a pair, and none.
    let kept = keep(&geometry, vec![vec![0], vec![5], vec![9, 10], vec![]]);
    let picture = overlay(&tiles(&geometry), &geometry, &kept, "title");
    let patch = 84 * 84;
    let framed = [81 * 81, 78 * 78, (2 * 84 - 6) * 78, 0];
    for (partition, expected) in framed.into_iter().enumerate() {
        assert_eq!(count(&picture, colour(partition)), expected, "partition {partition}");
    }
    // The legend's frame of 14 pixels is the only other outline.
    let outlines = 4 * patch - framed.iter().sum::<usize>() + 4 * 13;
    assert_eq!(count(&picture, OUTLINE), outlines);
}

#[test]
fn dropped_patches_are_dim_and_padding_is_neither() {
    let geometry = banner();
    let nothing = keep(&geometry, vec![Vec::new(); 4]);
    let picture = overlay(&tiles(&geometry), &geometry, &nothing, "title");
    // Of the tiles' colours none is left; each valid patch shows a dark version that is its partition's own.
    let shades = shades(&picture);
    for partition in 0..4 {
        assert_eq!(count(&picture, colour(partition)), 0);
        let area = geometry.valid_in(partition) * 84 * 84;
        let dim = |shade: [u8; 3]| shade.iter().all(|c| *c < 90) && shade[0] - shade[1] < 20;
        assert!(shades.iter().any(|&(shade, count)| count == area && dim(shade)), "{partition}");
    }
}

#[test]
fn merged_patches_are_neither_kept_nor_dropped() {
    let geometry = banner();
    // Of the full image patch 3 is kept, with 4 and 5 merged into it; 6 to 8 and a class token make a row beside it.
    // Of the first sub-image two go into a row, one of them twice.
    let row = |partition: usize, patch: usize| (partition * 17 + 1 + patch, 0.25);
    let mut mix = Mix::default();
    mix.push([row(0, 3), row(0, 4), row(0, 5)]);
    mix.push_added(0, [(0, 1.0), row(0, 6), row(0, 7), row(0, 8), row(0, 3)]);
    mix.push_added(1, [row(1, 9), row(1, 9), row(1, 2)]);
    let mut indices = vec![Vec::new(); 4];
    indices[0] = vec![3];
    let visual = told(&geometry, Kept { mix: Some(mix), ..Kept::of(indices.clone()) });
    assert_eq!(visual.merged_indices, [vec![4, 5, 6, 7, 8], vec![2, 9], vec![], vec![]]);
    let picture = overlay(&tiles(&geometry), &geometry, &visual, "title");
    let blue = |shade: [u8; 3]| shade[2] > 90 && u32::from(shade[2]) > 2 * u32::from(shade[0]);
    let areas = |picture: &RgbImage| -> Vec<usize> {
        let of_patches = shades(picture).into_iter().filter(|&(_, area)| area >= 84 * 84);
        let mut areas: Vec<usize> =
            of_patches.filter(|&(shade, _)| blue(shade)).map(|(_, area)| area).collect();
        areas.sort_unstable();
        areas
    };
    assert_eq!(areas(&picture), [2 * 84 * 84, 5 * 84 * 84]);
    // The rows are counted in the legend, which has one entry more than without.
    let plain = overlay(&tiles(&geometry), &geometry, &keep(&geometry, indices), "title");
    assert!(areas(&plain).is_empty() && plain.dimensions() == picture.dimensions());
    let mut fewer = visual.clone();
    fewer.merged = 1;
    assert_ne!(overlay(&tiles(&geometry), &geometry, &fewer, "title"), picture);
}

#[test]
fn everything_kept_shows_the_partitions_untouched() {
    for geometry in [
        Geometry::new(&layout(56, 56, 28, &pinpoints(28)), 7).unwrap(),
        Geometry::new(&one_crop(50, 50, 28), 7).unwrap(),
        Geometry::new(&layout(600, 600, 336, &pinpoints(336)), 14).unwrap(),
    ] {
        let full = Selection::default().with_method(Method::Full);
        let kept = choose(&plan(&geometry, &full).unwrap(), &Evidence::default()).unwrap();
        let visual = told(&geometry, kept);
        let picture = overlay(&tiles(&geometry), &geometry, &visual, "title");
        // Beside two rows of sub-images the full image is twice as large.
        let full_side = if geometry.partitions() == 5 { 672 } else { 336 };
        assert_eq!(count(&picture, colour(0)), full_side * full_side);
        for partition in 1..geometry.partitions() {
            assert_eq!(count(&picture, colour(partition)), 336 * 336);
        }
    }
}

#[test]
fn a_long_title_and_tokens_lost_to_padding_have_room() {
    let geometry = banner();
    let mut kept = keep(&geometry, vec![vec![], vec![1, 2], vec![], vec![]]);
    let plain = overlay(&tiles(&geometry), &geometry, &kept, "title");
    kept.allocation[1] = 7;
    let lossy = overlay(&tiles(&geometry), &geometry, &kept, "title");
    assert!(plain.dimensions() == lossy.dimensions() && plain != lossy);
    let long = overlay(&tiles(&geometry), &geometry, &kept, &"w".repeat(300));
    assert_eq!(long.width(), 300 * 9 + 32);
}
