//! DivPrune (Alvar et al., "DivPrune: diversity-based visual token pruning for large multimodal models", CVPR 2025):
//! keeps tokens that are as dissimilar as possible.
//!
//! It works over all partitions together, on projected features, with the distance 1 − cosine. The first token kept
//! is the one farthest from its nearest neighbour; then, repeatedly, the one farthest from those already kept. Row
//! separators are not candidates; see [`super::Newlines`].

use super::cosine::{Units, greatest};
use super::dropping::{Dropping, Evidence, Needs, Size};
use super::geometry::Geometry;
use super::program::Program;
use super::{Kept, Plan};
use crate::Result;

/// DivPrune, which has no parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DivPrune;

impl Dropping for DivPrune {
    fn needs(&self, _: &Geometry) -> Needs {
        Needs { projected: true, ..Needs::default() }
    }

    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        Size { rows: budget.min(geometry.valid()), exact: true, sources: 0 }
    }

    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
        let geometry = &plan.geometry;
        let n = geometry.valid();
        // All pairs are computed once, because otherwise each pick would read all rows again.
        let cosines = Units::of(evidence.projected, 0..n).cosines();
        let of = |row: usize| &cosines[row * n..][..n];
        let mut kept = vec![false; n];
        // Distance of each token, less 1, to the nearest other token, later to the nearest kept one.
        let far = |row: usize| {
            let others = of(row).iter().enumerate().filter(|(other, _)| *other != row);
            others.fold(1.0f32, |least, (_, cosine)| least.min(-cosine))
        };
        let mut farness: Vec<f32> = (0..n).map(far).collect();
        let mut pick = greatest(&farness, |_| true);
        farness.fill(1.0);
        for _ in 0..plan.rows {
            let Some(next) = pick else { break };
            kept[next] = true;
            farness.iter_mut().zip(of(next)).for_each(|(far, cosine)| *far = far.min(-cosine));
            pick = greatest(&farness, |i| !kept[i]);
        }
        let mut marks = kept.into_iter();
        let of_partition = |i: usize| {
            let marked = geometry.valid_patches(i).zip(&mut marks).filter(|(_, kept)| *kept);
            marked.map(|(patch, _)| patch as u32).collect()
        };
        Ok(Kept::of((0..geometry.partitions()).map(of_partition).collect()))
    }

    fn program(&self, _: &Geometry, _: usize) -> Option<Program> {
        Some(Program::Spread)
    }

    fn scratch(&self, plan: &Plan, width: usize) -> usize {
        let tokens = plan.geometry.valid();
        Units::bytes(tokens, width) + Units::cosine_bytes(tokens)
    }
}
