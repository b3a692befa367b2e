//! GlobalCom² (Liu et al., "Global compression commander: plug-and-play inference acceleration for high-resolution
//! large vision-language models", AAAI 2026): the full image determines how many patches each sub-image keeps, and
//! helps to choose which.
//!
//! A patch's score z is the product of its key with the class token's query in the tower's last block, averaged over
//! the heads, before any softmax. With a budget of N tokens and V valid patches, R = N / V:
//!
//! - the full image keeps the share R of its patches, those with the highest z;
//! - with p the softmax over the m sub-images of (Σ z of the full image's patches in a sub-image's cell) / 10,
//!   sub-image i keeps the share R·(1 + pᵢ − 1/m) of its valid patches, at most all;
//! - these are the highest by u + g, both normalised to length 1: u is the sub-image's own z, and g the full image's z,
//!   resized bilinearly to the sub-image's patches.
//!
//! The published code floors each of these numbers and loses a few tokens of the budget. Here the same shares are
//! scaled to give exactly the budget, by largest remainders.

use super::dropping::{Dropping, Evidence, Layer, Needs, Size};
use super::geometry::Geometry;
use super::selection::Selection;
use super::topk::highest;
use super::{Kept, Plan, exact};
use crate::Result;

/// Temperature of the softmax over the sub-images, as published.
const TEMPERATURE: f64 = 10.0;
/// Fixed-point unit of the integer weights.
const UNIT: f64 = (1u64 << 20) as f64;

/// GlobalCom² with its parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalCom2 {
    keys: Layer,
}

impl GlobalCom2 {
    pub(super) fn new(selection: &Selection) -> Self {
        Self { keys: Layer::At(selection.tuning.key_layer.unwrap_or(-1)) }
    }
}

impl Dropping for GlobalCom2 {
    fn needs(&self, _: &Geometry) -> Needs {
        Needs { keys: Some(self.keys), ..Needs::default() }
    }

    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        Size { rows: budget.min(geometry.valid()), exact: true, sources: 0 }
    }

    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
        let geometry = &plan.geometry;
        let full = logits(geometry, evidence, 0);
        let valid: Vec<usize> = (0..geometry.partitions()).map(|i| geometry.valid_in(i)).collect();
        let mut weights = vec![(valid[0] as f64 * UNIT) as u128];
        weights.extend(
            shares(geometry, &full)
                .iter()
                .zip(&valid[1..])
                .map(|(s, &v)| (v as f64 * s * UNIT) as u128),
        );
        let allocation = exact::share(plan.rows, &valid, &weights);
        let indices = allocation.into_iter().enumerate().map(|(i, count)| {
            let scores = match i {
                0 => full.iter().map(|&z| z as f32).collect(),
                _ => of_sub_image(geometry, &full, &logits(geometry, evidence, i), i),
            };
            highest(&scores, geometry.valid_patches(i), count)
        });
        Ok(Kept::of(indices.collect()))
    }
}

/// \[T\]: scaled products of the class token's query with the patches' keys, averaged over the heads. The average of
/// the products per head equals the whole product divided by the number of heads.
fn logits(geometry: &Geometry, evidence: &Evidence<'_>, i: usize) -> Vec<f64> {
    let query = evidence.queries.row(i);
    let head = query.len() / evidence.heads;
    let scale = 1.0 / (evidence.heads as f64 * (head as f64).sqrt());
    let logit = |patch: usize| {
        let key = evidence.keys.row(geometry.row(i, patch));
        let products = query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k));
        products.sum::<f64>() * scale
    };
    (0..geometry.patches()).map(logit).collect()
}

/// 1 + pᵢ − 1/m for every sub-image. Cells have ⌊n/gh⌋ by ⌊n/gw⌋ patches of the full image, at least one; the
/// remainder at the right and at the bottom belongs to the last cells.
fn shares(geometry: &Geometry, full: &[f64]) -> Vec<f64> {
    let Some((gh, gw)) = geometry.grid() else { return Vec::new() };
    let n = geometry.side();
    let (height, width) = ((n / gh).max(1), (n / gw).max(1));
    let mut sums = vec![0.0; gh * gw];
    for (patch, z) in full.iter().enumerate() {
        let (row, col) = ((patch / n / height).min(gh - 1), (patch % n / width).min(gw - 1));
        sums[row * gw + col] += z;
    }
    let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = sums.iter().map(|s| ((s - most) / TEMPERATURE).exp()).collect();
    let (total, m) = (powers.iter().sum::<f64>(), powers.len() as f64);
    powers.iter().map(|power| 1.0 + power / total - 1.0 / m).collect()
}

/// \[T\]: u + g for the valid patches of sub-image `i`, 0 for the others. `own`: its logits.
fn of_sub_image(geometry: &Geometry, full: &[f64], own: &[f64], i: usize) -> Vec<f32> {
    let n = geometry.side();
    let gw = geometry.grid().map_or(1, |(_, gw)| gw);
    let (row0, col0) = ((i - 1) / gw * n, (i - 1) % gw * n);
    let (rows, cols) = (geometry.rows(), geometry.cols());
    // Positions among the canvas's valid rows and columns.
    let resized = |patch: usize| {
        let (row, col) = (row0 + patch / n - rows.start, col0 + patch % n - cols.start);
        let ((top, bottom, down), (left, right, across)) =
            (between(row, rows.len(), n), between(col, cols.len(), n));
        let along = |row: usize| mix(full[row * n + left], full[row * n + right], across);
        mix(along(top), along(bottom), down)
    };
    let valid: Vec<usize> = geometry.valid_patches(i).collect();
    let global: Vec<f64> = valid.iter().map(|&patch| resized(patch)).collect();
    let own: Vec<f64> = valid.iter().map(|&patch| own[patch]).collect();
    let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
    let (of_own, of_global) = (length(&own), length(&global));
    let mut scores = vec![0.0; geometry.patches()];
    for ((&patch, own), global) in valid.iter().zip(&own).zip(&global) {
        scores[patch] = (own / of_own + global / of_global) as f32;
    }
    scores
}

/// The two of `n` samples between which position `at` of `size` lies, and the weight of the second: half-pixel
/// centres, edges repeated.
fn between(at: usize, size: usize, n: usize) -> (usize, usize, f64) {
    let place = ((at as f64 + 0.5) * n as f64 / size as f64 - 0.5).max(0.0);
    let low = (place.floor() as usize).min(n - 1);
    (low, (low + 1).min(n - 1), place - low as f64)
}

/// Linear interpolation; exactly `a` if both are equal.
fn mix(a: f64, b: f64, share: f64) -> f64 {
    a + (b - a) * share
}
