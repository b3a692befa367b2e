//! The two published versions of HiRED, `paper` and `repo`, for comparison.
//!
//! Both select among all T patches of a partition, padding included, and afterwards lose those in padding. Both also
//! lose tokens to flooring and clipping.

use super::budget::Alpha;
use super::geometry::Geometry;
use super::topk::highest;

/// Splits `budget` = B into (N₀, N_sub) as in the paper: N₀ = ⌊A·B / 10⁶⌋, at most T, and N_sub = B − ⌊A·B / 10⁶⌋.
/// Without sub-images the full image gets min(B, T).
pub(super) fn paper_split(geometry: &Geometry, alpha: Alpha, budget: usize) -> (usize, usize) {
    let patches = geometry.patches();
    if geometry.grid().is_none() {
        return (budget.min(patches), 0);
    }
    let full_image = alpha.of(budget);
    (full_image.min(patches), budget - full_image)
}

/// Splits `budget` = B into (N₀, N_sub) as in the published code: N₀ = min(⌊A·B / 10⁶⌋, T), N_sub = min(B − N₀,
/// (P−1)·T). Without sub-images the full image gets min(B, T).
pub(super) fn repo_split(geometry: &Geometry, alpha: Alpha, budget: usize) -> (usize, usize) {
    let patches = geometry.patches();
    if geometry.grid().is_none() {
        return (budget.min(patches), 0);
    }
    let full_image = alpha.of(budget).min(patches);
    (full_image, (budget - full_image).min((geometry.partitions() - 1) * patches))
}

/// Splits `tokens` = N_sub among the sub-images as in the paper (Arif et al., AAAI 2025, Algorithm 1).
///
/// A sub-image's content sᵢ is the sum of `init` \[T\] over the patches (y, x) of the full image whose centre lies in
/// its cell (⌊(2y+1)·gh / 2n⌋, ⌊(2x+1)·gw / 2n⌋). It gets ⌊N_sub·sᵢ / Σs⌋, computed in f64, at most T, and nothing if
/// Σs = 0.
pub(super) fn paper_share(geometry: &Geometry, tokens: usize, init: &[f32]) -> Vec<usize> {
    let n = geometry.side();
    let (gh, gw) = geometry.grid().unwrap_or((0, 0));
    let mut contents = vec![0f64; gh * gw];
    for (patch, &score) in init.iter().enumerate() {
        let (y, x) = (patch / n, patch % n);
        let cell = ((2 * y + 1) * gh / (2 * n), (2 * x + 1) * gw / (2 * n));
        contents[cell.0 * gw + cell.1] += f64::from(score);
    }
    let total: f64 = contents.iter().sum();
    if total == 0.0 {
        return vec![0; gh * gw];
    }
    let allot = |s: &f64| (tokens as f64 * s / total).floor() as usize;
    contents.iter().map(|s| allot(s).min(geometry.patches())).collect()
}

/// Splits `tokens` = N_sub among the sub-images as in the published code.
///
/// The ⌊T·(10⁶ − A) / 10⁶⌋ highest `init` scores of the full image are marked, ties to the lower patch. Its raster
/// sequence is cut into m = P − 1 chunks \[⌊iT/m⌋, ⌊(i+1)T/m⌋), and chunk i is credited to sub-image i, so chunks are
/// horizontal bands for any grid. Sub-image i gets trunc(countᵢ / Σcount · N_sub), computed in f32, at most T, and
/// nothing if nothing is marked.
pub(super) fn repo_share(
    geometry: &Geometry,
    alpha: Alpha,
    tokens: usize,
    init: &[f32],
) -> Vec<usize> {
    let patches = geometry.patches();
    let chunks = geometry.partitions() - 1;
    let marked = highest(init, 0..patches, alpha.rest_of(patches));
    if marked.is_empty() {
        return vec![0; chunks];
    }
    let allot = |i: usize| {
        let chunk = i * patches / chunks..(i + 1) * patches / chunks;
        let count = marked.iter().filter(|&&patch| chunk.contains(&(patch as usize))).count();
        (count as f32 / marked.len() as f32 * tokens as f32) as usize
    };
    (0..chunks).map(|i| allot(i).min(patches)).collect()
}
