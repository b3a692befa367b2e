//! FastV (Chen et al., "An image is worth 1/2 tokens after layer 2: plug-and-play inference acceleration for large
//! vision-language models", ECCV 2024): every patch enters the language model, but from layer K on its layers see
//! only the image rows that the prompt's last token attends to most.
//!
//! Row separators are ranked like patches and count towards the budget, as in the published code, which ranks every
//! row of the image.

use super::dropping::{Dropping, Evidence, Late, Needs, Size};
use super::geometry::Geometry;
use super::selection::Selection;
use super::uniform::Full;
use super::{Kept, Plan};
use crate::Result;

/// FastV with its parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastV {
    layer: usize,
}

impl FastV {
    pub(super) fn new(selection: &Selection) -> Self {
        Self { layer: selection.tuning.fastv_layer }
    }
}

impl Dropping for FastV {
    fn needs(&self, geometry: &Geometry) -> Needs {
        Full.needs(geometry)
    }

    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        Full.size(geometry, budget)
    }

    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
        Full.choose(plan, evidence)
    }

    fn late(&self, geometry: &Geometry, newlines: usize, budget: usize) -> Option<Late> {
        let drops = budget < geometry.valid() + newlines;
        drops.then_some(Late { layer: self.layer, rows: budget })
    }
}
