//! SCOPE (Deng et al., "SCOPE: saliency-coverage oriented token pruning for efficient multimodal LLMs", NeurIPS
//! 2025): keeps tokens that are attended to and that represent many others.
//!
//! Every partition gets an equal share of the budget. In each of them the token with the largest gain is kept,
//! repeatedly:
//!
//! ```text
//! gain(j) = a[j]^exponent · Σ_i max(0, S[i][j] − covered[i])
//! ```
//! S: cosine similarities of features before the projector; a: CLS attention; covered\[i\]: the similarity of token i
//! to the most similar kept token, at least 0.

use super::budget::Factor;
use super::cosine::{Units, greatest};
use super::dropping::{Dropping, Evidence, Layer, Needs, Parts, Size};
use super::geometry::Geometry;
use super::heads::Heads;
use super::program::Program;
use super::selection::Selection;
use super::{Kept, Plan, exact};
use crate::Result;
use rayon::prelude::*;

/// SCOPE with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    last: Layer,
    heads: Heads,
    exponent: Factor,
}

impl Scope {
    pub(super) fn new(selection: &Selection) -> Self {
        let Selection { final_layer, heads, tuning, .. } = selection;
        Self { last: (*final_layer).into(), heads: *heads, exponent: tuning.saliency }
    }
}

impl Dropping for Scope {
    fn parts(&self) -> Parts {
        Parts { ranks: true, heads: true, ..Parts::default() }
    }

    fn needs(&self, _: &Geometry) -> Needs {
        Needs { last: Some(self.last), heads: self.heads, features: true, ..Needs::default() }
    }

    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        Size { rows: budget.min(geometry.valid()), exact: true, sources: 0 }
    }

    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
        let geometry = &plan.geometry;
        let patches = geometry.patches();
        let exponent = self.exponent.value();
        let counts = exact::equal(geometry, plan.rows).into_iter().enumerate();
        let indices = counts.map(|(i, count)| {
            let valid: Vec<usize> = geometry.valid_patches(i).collect();
            let rows = valid.iter().map(|patch| geometry.row(i, *patch));
            let scores = &evidence.last[i * patches..][..patches];
            let saliency: Vec<f64> =
                valid.iter().map(|&patch| f64::from(scores[patch]).powf(exponent)).collect();
            let kept = cover(&Units::of(evidence.features, rows).cosines(), &saliency, count);
            kept.into_iter().map(|place| valid[place] as u32).collect()
        });
        Ok(Kept::of(indices.collect()))
    }

    fn program(&self, geometry: &Geometry, budget: usize) -> Option<Program> {
        let counts = exact::equal(geometry, budget.min(geometry.valid()));
        Some(Program::Cover { counts, exponent: self.exponent.value() })
    }

    fn scratch(&self, plan: &Plan, width: usize) -> usize {
        let patches = plan.geometry.patches();
        Units::bytes(patches, width) + Units::cosine_bytes(patches)
    }
}

/// Selects `count` of the indices 0 to n − 1, ascending. `likeness`: the symmetric matrix S \[n, n\].
fn cover(likeness: &[f32], saliency: &[f64], count: usize) -> Vec<usize> {
    let n = saliency.len();
    let mut covered = vec![0.0f32; n];
    let mut kept = vec![false; n];
    let mut gains = vec![0.0f64; n];
    for _ in 0..count {
        gains
            .par_iter_mut()
            .zip(likeness.par_chunks_exact(n))
            .with_min_len(64)
            .zip(saliency)
            .for_each(|((gain, likeness), saliency)| {
                let more =
                    likeness.iter().zip(&covered).map(|(like, covered)| (like - covered).max(0.0));
                *gain = saliency * more.map(f64::from).sum::<f64>();
            });
        let Some(next) = greatest(&gains, |i| !kept[i]) else { break };
        kept[next] = true;
        let likeness = &likeness[next * n..][..n];
        covered.iter_mut().zip(likeness).for_each(|(covered, like)| *covered = covered.max(*like));
    }
    (0..n).filter(|&i| kept[i]).collect()
}
