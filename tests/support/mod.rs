//! Support for the selection tests: layouts and pseudo-random scores.
#![allow(dead_code)] // each test file uses a part

use hired::image::{Layout, Packing};
use hired::select::Geometry;
use serde::Deserialize;

/// Grids of sub-images as (rows, columns), in the order in which LLaVA-v1.6 lists their canvases.
pub const GRIDS: [(usize, usize); 5] = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)];

/// The canvases of [`GRIDS`] for partitions of `side` pixels.
pub fn pinpoints(side: usize) -> Vec<(usize, usize)> {
    GRIDS.iter().map(|&(gh, gw)| (gh * side, gw * side)).collect()
}

/// The layout that transformers chooses for an image: the canvas that shows most of it with the least waste (the first
/// in the list among equals), and on it the largest size that keeps the aspect ratio. Computed in f64, as there.
pub fn layout(width: usize, height: usize, side: usize, pinpoints: &[(usize, usize)]) -> Layout {
    let (w, h) = (width as f64, height as f64);
    let mut best = (0, usize::MAX, (0, 0));
    for &(th, tw) in pinpoints {
        let scale = (tw as f64 / w).min(th as f64 / h);
        let shown = ((w * scale) as usize * (h * scale) as usize).min(width * height);
        let waste = th * tw - shown;
        if shown > best.0 || (shown == best.0 && waste < best.1) {
            best = (shown, waste, (th, tw));
        }
    }
    let (th, tw) = best.2;
    let (scale_w, scale_h) = (tw as f64 / w, th as f64 / h);
    let fit = if scale_w < scale_h {
        (((h * scale_w).ceil() as usize).min(th), tw)
    } else {
        (th, ((w * scale_h).ceil() as usize).min(tw))
    };
    Layout {
        width,
        height,
        side,
        grid: Some((th / side, tw / side)),
        fit,
        packing: Packing::Canvas,
    }
}

/// The layout of a model without sub-images.
pub fn one_crop(width: usize, height: usize, side: usize) -> Layout {
    Layout { width, height, side, grid: None, fit: (side, side), packing: Packing::Canvas }
}

/// A golden case's image and model, in pixels; without pinpoints there are no sub-images.
#[derive(Deserialize)]
pub struct Picture {
    width: usize,
    height: usize,
    image_size: usize,
    pub patch_size: usize,
    pinpoints: Option<Vec<(usize, usize)>>,
}

impl Picture {
    pub fn layout(&self) -> Layout {
        match &self.pinpoints {
            Some(pinpoints) => layout(self.width, self.height, self.image_size, pinpoints),
            None => one_crop(self.width, self.height, self.image_size),
        }
    }

    pub fn geometry(&self) -> Geometry {
        Geometry::new(&self.layout(), self.patch_size).unwrap()
    }
}

/// Scores that every language can reproduce: the upper bits of a 64-bit congruential generator, squared in f32.
pub struct Scores(pub u64);

impl Scores {
    pub fn take(&mut self, count: usize) -> Vec<f32> {
        self.units(count).into_iter().map(|unit| unit * unit / 64.0).collect()
    }

    /// The numbers before they are squared, from 0 to 1.
    pub fn units(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1 << 24) as f32
        };
        (0..count).map(|_| next()).collect()
    }
}
