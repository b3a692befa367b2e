//! The `exact` rule, which meets the budget to the token.
//!
//! All arithmetic is on integers, so that every executor gets the same allocation whatever the order of its sums.

use std::cmp::Reverse;

use super::budget::Alpha;
use super::geometry::Geometry;
use crate::{Error, Result};

/// Splits `tokens` = N ≤ V between the full image and the sub-images, (N₀, N_sub).
///
/// ```text
/// N₀    = min(⌊A·N / 10⁶⌋, T)
/// N_sub = min(N − N₀, Vₛ)
/// N₀    = N − N_sub
/// ```
/// What the sub-images cannot hold goes back to the full image, which can hold it because N ≤ V. Without sub-images
/// the full image gets everything.
pub(super) fn split(geometry: &Geometry, alpha: Alpha, tokens: usize) -> (usize, usize) {
    let full_image = alpha.of(tokens).min(geometry.patches());
    let sub_images = (tokens - full_image).min(geometry.valid_in_sub_images());
    (tokens - sub_images, sub_images)
}

/// The content of each sub-image: the attention mass of the image area that it shows.
///
/// `init`: \[T\], the full image's scores. With I\[t\] = 2²⁴·init\[t\] rounded half to even, and the shares r and c
/// of [`Geometry::row_shares`] and [`Geometry::col_shares`],
///
/// ```text
/// s[a·gw + b] = Σ_j Σ_k r[a][j] · I[j·n + k] · c[b][k]
/// ```
/// The contents add up to exactly the mass of the full map: Σ s = nh · nw · Σ I. Padding has no content.
pub(super) fn contents(geometry: &Geometry, init: &[f32]) -> Result<Vec<u128>> {
    let mass: Vec<u64> = init.iter().map(|&score| fixed_point(score)).collect();
    check(geometry, &mass)?;
    let mut contents = Vec::with_capacity(geometry.partitions() - 1);
    for r in geometry.row_shares() {
        for c in geometry.col_shares() {
            let rows = r.iter().zip(mass.chunks_exact(geometry.side()));
            contents.push(rows.map(|(r, row)| u128::from(*r) * dot(row, c)).sum());
        }
    }
    Ok(contents)
}

/// 2²⁴·score, rounded half to even. The product is exact, because it only changes the exponent of an f64.
fn fixed_point(score: f32) -> u64 {
    (f64::from(score) * f64::from(1 << 24)).round_ties_even() as u64
}

fn dot(a: &[u64], b: &[u64]) -> u128 {
    a.iter().zip(b).map(|(&a, &b)| u128::from(a) * u128::from(b)).sum()
}

/// Upper bound on Σ I for attention scores: 1 per head, for more heads than a configuration may have.
const MOST_MASS: u128 = 1 << (24 + 15);

/// Number of heads for which the contents fit into 64 bits on every image whose allocation is computed on a device.
const DEVICE_HEADS: u64 = 64;

/// Every product of this rule is at most Σ I · nh · nw · V, so this check covers them all. Attention scores always
/// pass, because sides are below 2²⁰ and V is below 2⁴⁰, and so does everything that fits into the 64 bits of a
/// device. Only scores from elsewhere can fail.
fn check(geometry: &Geometry, mass: &[u64]) -> Result<()> {
    let sum: u128 = mass.iter().map(|&mass| u128::from(mass)).sum();
    let fits = u64::try_from(sum).is_ok_and(|sum| sum <= mass_limit(geometry));
    (fits || sum <= MOST_MASS).then_some(()).ok_or_else(|| {
        Error::Numeric(
            "the content scores of the full image are too large to be CLS attention, \
             which sums to at most 1 per head: check the checkpoint's weights"
                .into(),
        )
    })
}

/// The largest Σ I for which every product fits into 64 bits. (Nested floors equal the floor of the whole quotient.)
pub(crate) fn mass_limit(geometry: &Geometry) -> u64 {
    let (nh, nw) = geometry.fit();
    let factors = [nh, nw, geometry.valid()].into_iter();
    factors.fold(u64::MAX, |limit, factor| limit / factor.max(1) as u64)
}

/// Returns true if 64 bits hold the products of any tower's attention on such an image. They do not for
/// LLaVA-OneVision's canvases of 4 × 4 or more sub-images of 27² patches.
pub(crate) fn fits_64_bits(geometry: &Geometry) -> bool {
    mass_limit(geometry) >= DEVICE_HEADS << 24
}

/// Splits `tokens` = N_sub ≤ Σ `valid` among the sub-images with quotas proportional to `contents`, capped by
/// `valid`, that add up to `tokens`.
///
/// The real-valued quotas are qᵢ = min(Vᵢ, λ·sᵢ) with the λ for which they add up to N_sub. Each round fills every
/// sub-image whose proportional part is at least its capacity, and splits the rest among the others, whose parts can
/// only grow by that. Once none is filled any more, the parts are floored and the remaining tokens go one each to the
/// largest remainders, ties to the lower sub-image. This exceeds no cap: an open sub-image has left·sᵢ < Vᵢ·Σ, hence
/// ⌊left·sᵢ/Σ⌋ + 1 ≤ Vᵢ.
///
/// If no open sub-image has content, the numbers of valid patches are used instead. The function works for any
/// partitions, not only for sub-images.
pub(super) fn share(tokens: usize, valid: &[usize], contents: &[u128]) -> Vec<usize> {
    let mut allocation = vec![0; valid.len()];
    let mut left = tokens as u128;
    let mut open: Vec<usize> = (0..valid.len()).filter(|&i| valid[i] > 0).collect();
    loop {
        let no_content = open.iter().all(|&i| contents[i] == 0);
        let weight = |i: usize| if no_content { valid[i] as u128 } else { contents[i] };
        let total: u128 = open.iter().map(|&i| weight(i)).sum();
        let (full, rest): (Vec<usize>, Vec<usize>) =
            open.iter().partition(|&&i| left * weight(i) >= valid[i] as u128 * total);
        if full.is_empty() {
            for &i in &open {
                allocation[i] = (left * weight(i) / total) as usize;
            }
            let over = tokens - allocation.iter().sum::<usize>();
            // The sort is stable: equal remainders stay in the order of the sub-images.
            open.sort_by_key(|&i| Reverse(left * weight(i) % total));
            for &i in &open[..over] {
                allocation[i] += 1;
            }
            return allocation;
        }
        for &i in &full {
            allocation[i] = valid[i];
            left -= valid[i] as u128;
        }
        open = rest;
        if left == 0 {
            return allocation;
        }
    }
}

/// Splits `tokens` ≤ V equally among all partitions, capped by their valid patches. What one cannot hold goes to the
/// others, and the remainder to the lower ones.
pub(super) fn equal(geometry: &Geometry, tokens: usize) -> Vec<usize> {
    let valid = valid(geometry);
    share(tokens, &valid, &vec![1; valid.len()])
}

/// Splits `tokens` ≤ V among all partitions in proportion to their valid patches.
pub(super) fn proportional(geometry: &Geometry, tokens: usize) -> Vec<usize> {
    let valid = valid(geometry);
    // Without contents, `share` uses the valid patches.
    share(tokens, &valid, &vec![0; valid.len()])
}

fn valid(geometry: &Geometry) -> Vec<usize> {
    (0..geometry.partitions()).map(|i| geometry.valid_in(i)).collect()
}
