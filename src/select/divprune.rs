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
        let units = Units::of(evidence.projected, 0..geometry.valid());
        let mut kept = vec![false; units.len()];
        // Of every token how near the nearest of the others is, then of those kept, as a cosine.
        let farness = |nearest: &[f32]| nearest.iter().map(|x| -x).collect::<Vec<f32>>();
        let mut nearest = units.nearest();
        let mut pick = greatest(&farness(&nearest), |_| true);
        nearest.fill(-1.0);
        let mut cosines = vec![0.0; units.len()];
        for _ in 0..plan.rows {
            let Some(next) = pick else { break };
            kept[next] = true;
            units.cosines_with(next, &mut cosines);
            nearest
                .iter_mut()
                .zip(&cosines)
                .for_each(|(nearest, cosine)| *nearest = nearest.max(*cosine));
            pick = greatest(&farness(&nearest), |i| !kept[i]);
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
        Units::bytes(tokens, width) + Units::nearest_scratch(tokens)
    }
}
