//! VisionZip (Yang et al., "VisionZip: longer is better but not necessary in vision language models", CVPR 2025):
//! keeps dominant tokens, and contextual ones that summarise the rest.
//!
//! Every partition gets an equal share of the budget, n rows. c = ⌊share·n⌋ of them are contextual; the published
//! split of 54 dominant and 10 contextual tokens is the share 10/64. The dominant ones are the class token and the n
//! − c − 1 patches that it attends to most (no class token if that would leave no patch). Of the remaining patches,
//! every ⌊remaining/c⌋-th is a target; each other one is assigned to the most similar target, by the cosine of keys
//! averaged over heads. A contextual row is its target plus the mean of the patches assigned to it.

use super::budget::Alpha;
use super::cosine::Units;
use super::dropping::{Dropping, Evidence, Layer, Needs, Parts, Size};
use super::geometry::Geometry;
use super::heads::Heads;
use super::program::{Contextual, Program};
use super::selection::Selection;
use super::topk::highest;
use super::{Kept, Mix, Plan, exact};
use crate::Result;

/// VisionZip with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisionZip {
    last: Layer,
    heads: Heads,
    keys: Layer,
    contextual: Alpha,
}

/// The rows of one partition, as patches.
struct Rows {
    dominant: Vec<u32>,
    class: bool,
    /// Each target with the patches assigned to it.
    contextual: Vec<(usize, Vec<usize>)>,
}

impl VisionZip {
    pub(super) fn new(selection: &Selection) -> Self {
        let Selection { final_layer, heads, tuning, .. } = selection;
        Self {
            last: (*final_layer).into(),
            heads: *heads,
            keys: tuning.key_layer.into(),
            contextual: tuning.contextual,
        }
    }

    /// Splits `count` rows of a partition into dominant and contextual ones.
    fn split(&self, count: usize) -> Contextual {
        let contexts = self.contextual.of(count);
        let class = count >= contexts + 2;
        Contextual { dominant: count - contexts - usize::from(class), class, contexts }
    }

    /// The patches of `count` ≤ Vᵢ rows of partition `i`.
    fn rows(&self, geometry: &Geometry, evidence: &Evidence<'_>, i: usize, count: usize) -> Rows {
        let patches = geometry.patches();
        let Contextual { dominant, class, contexts } = self.split(count);
        let scores = &evidence.last[i * patches..][..patches];
        let dominant = highest(scores, geometry.valid_patches(i), dominant);
        if contexts == 0 {
            return Rows { dominant, class, contextual: Vec::new() };
        }
        let is_left = |patch: &usize| dominant.binary_search(&(*patch as u32)).is_err();
        let left: Vec<usize> = geometry.valid_patches(i).filter(is_left).collect();
        let rows = left.iter().map(|patch| geometry.row(i, *patch));
        let width = evidence.keys.cols / evidence.heads;
        let mean = |row: usize| {
            let key = evidence.keys.row(row);
            let number =
                move |j: usize| key[j..].iter().step_by(width).sum::<f32>() / evidence.heads as f32;
            (0..width).map(number)
        };
        let units = Units::new(rows.flat_map(mean).collect(), width);
        // There are at least as many patches left as targets, because the rows are at most the valid patches.
        let step = (left.len() / contexts).max(1);
        let mut contextual: Vec<(usize, Vec<usize>)> =
            (0..contexts).map(|target| (left[target * step], Vec::new())).collect();
        // For each remaining patch, the similarity and index of its target.
        let mut nearest = vec![(f32::NEG_INFINITY, 0); left.len()];
        let mut likeness = vec![0.0; left.len()];
        for target in 0..contexts {
            units.cosines_with(target * step, &mut likeness);
            for (nearest, &like) in nearest.iter_mut().zip(&likeness) {
                if like > nearest.0 {
                    *nearest = (like, target);
                }
            }
        }
        for (place, (&patch, (_, target))) in left.iter().zip(nearest).enumerate() {
            let is_target = place % step == 0 && place / step < contexts;
            if !is_target {
                contextual[target].1.push(patch);
            }
        }
        Rows { dominant, class, contextual }
    }
}

impl Dropping for VisionZip {
    fn parts(&self) -> Parts {
        Parts { ranks: true, heads: true, ..Parts::default() }
    }

    fn needs(&self, _: &Geometry) -> Needs {
        Needs {
            last: Some(self.last),
            heads: self.heads,
            keys: Some(self.keys),
            ..Needs::default()
        }
    }

    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        let rows = budget.min(geometry.valid());
        let counts = exact::equal(geometry, rows).into_iter().enumerate();
        let sources = counts.map(|(i, count)| {
            let split = self.split(count);
            split.dominant + split.sources(geometry.valid_in(i))
        });
        Size { rows, exact: true, sources: sources.sum() }
    }

    /// Additional rows are in the published order: the full image's class token and contextual rows, then the class
    /// tokens of all sub-images, then their contextual rows.
    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
        let geometry = &plan.geometry;
        let counts = exact::equal(geometry, plan.rows).into_iter().enumerate();
        let all: Vec<Rows> = counts.map(|(i, n)| self.rows(geometry, evidence, i, n)).collect();
        let mut mix = Mix::default();
        let row = |i: usize, patch: usize| geometry.row(i, patch);
        for (i, rows) in all.iter().enumerate() {
            rows.dominant.iter().for_each(|&patch| mix.push([(row(i, patch as usize), 1.0)]));
        }
        for group in [0..1, 1..all.len()] {
            for i in group.clone().filter(|&i| all[i].class) {
                mix.push_added(i, [(row(i, 0) - 1, 1.0)]);
            }
            for i in group {
                for (target, others) in &all[i].contextual {
                    let share = 1.0 / others.len() as f32;
                    let others = others.iter().map(|&patch| (row(i, patch), share));
                    mix.push_added(i, [(row(i, *target), 1.0)].into_iter().chain(others));
                }
            }
        }
        let kept = Kept::of(all.into_iter().map(|rows| rows.dominant).collect());
        Ok(Kept { mix: Some(mix), ..kept })
    }

    fn program(&self, geometry: &Geometry, budget: usize) -> Option<Program> {
        let counts = exact::equal(geometry, budget.min(geometry.valid()));
        Some(Program::Contexts(counts.into_iter().map(|count| self.split(count)).collect()))
    }

    fn scratch(&self, plan: &Plan, width: usize) -> usize {
        // The number of heads is not known here; whole keys are an upper bound on their mean over heads.
        Units::bytes(plan.geometry.patches(), width)
    }
}
