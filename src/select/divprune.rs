//! DivPrune (Alvar et al., "DivPrune: diversity-based visual token pruning for large multimodal models", CVPR 2025):
//! tokens as unlike each other as can be.
//!
//! Over all partitions together, on projected features, by the distance 1 − cosine: first the token farthest from its
//! nearest neighbour, then always the one farthest from those that are kept. Newlines are no candidates here: they are
//! [`super::Newlines`]' matter.

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
        // All pairs once: every pick would else read all rows again.
        let cosines = Units::of(evidence.projected, 0..n).cosines();
        let of = |row: usize| &cosines[row * n..][..n];
        let mut kept = vec![false; n];
        // How far every token is from the nearest of all others, then of those kept, less 1.
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
