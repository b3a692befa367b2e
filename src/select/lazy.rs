//! HiRED that only encodes sub-images which get part of the budget.
//!
//! The early scores of the full image split the budget among the sub-images (the `exact` rule) before these are
//! encoded. As long as one of them gets less than a quarter of its tokens, the one with the least content gets
//! nothing and the others share its part, as far as they can hold it. Sub-images that get nothing are not encoded.
//! The allocation differs from that of `exact`, which gives every sub-image its part.

use super::budget::Alpha;
use super::dropping::{Dropping, Evidence, Layer, Needs, Parts, Size};
use super::geometry::Geometry;
use super::heads::Heads;
use super::hired::{Hired, Ranking};
use super::program::Program;
use super::selection::{Rule, Selection};
use super::{Kept, Plan, exact, topk};
use crate::Result;
use std::cmp::Reverse;
use std::sync::Arc;

/// A sub-image must get at least 1 / this of its tokens.
const QUARTER: usize = 4;

/// The method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lazy {
    hired: Hired,
    last: Layer,
    heads: Heads,
}

impl Lazy {
    pub(super) fn new(selection: &Selection) -> Self {
        let Selection { final_layer, heads, .. } = selection;
        Self { hired: Hired::exact(selection), last: (*final_layer).into(), heads: *heads }
    }

    /// The tokens of every partition; 0 for a sub-image that need not be encoded. `init`: \[T\].
    fn allocate(&self, geometry: &Geometry, budget: usize, init: &[f32]) -> Result<Vec<usize>> {
        let Ranking { full_image, sub_images, .. } = self.hired.count(geometry, budget);
        if geometry.grid().is_none() {
            return Ok(vec![full_image]);
        }
        let contents = exact::contents(geometry, init)?;
        let mut room: Vec<usize> =
            (1..geometry.partitions()).map(|i| geometry.valid_in(i)).collect();
        loop {
            let shares = exact::share(sub_images, &room, &contents);
            let open = (0..room.len()).filter(|&i| room[i] > 0);
            // Ties go to the later sub-image.
            let poorest = open.min_by_key(|&i| (contents[i], Reverse(i)));
            let others = |i: usize| room.iter().sum::<usize>() - room[i];
            match poorest {
                Some(i) if QUARTER * shares[i] < room[i] && others(i) >= sub_images => room[i] = 0,
                _ => return Ok([vec![full_image], shares].concat()),
            }
        }
    }

    /// Upper bound on the sub-images that get tokens, whatever the scores.
    fn most(&self, geometry: &Geometry, budget: usize) -> usize {
        let tokens = self.hired.count(geometry, budget).sub_images;
        let each = geometry.patches();
        let most = (QUARTER * tokens / each).max(tokens.div_ceil(each));
        most.min(geometry.partitions() - 1)
    }
}

impl Dropping for Lazy {
    fn parts(&self) -> Parts {
        self.hired.parts()
    }

    fn needs(&self, geometry: &Geometry) -> Needs {
        self.hired.needs(geometry)
    }

    /// The number of rows is known in advance, but not the number of partitions.
    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        let exact = geometry.grid().is_none();
        Size { rows: budget.min(geometry.valid()), exact, sources: 0 }
    }

    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
        let allocation = self.allocate(&plan.geometry, plan.budget, evidence.init)?;
        Ok(ranked(&plan.geometry, allocation, evidence))
    }

    fn lazy(&self, geometry: &Geometry, budget: usize) -> Option<usize> {
        geometry.grid().map(|_| self.most(geometry, budget))
    }
}

/// Keeps the highest final scores of each partition, with a given allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    allocation: Vec<usize>,
    last: Layer,
    heads: Heads,
}

impl Dropping for Given {
    fn needs(&self, _: &Geometry) -> Needs {
        Needs { last: Some(self.last), heads: self.heads, ..Needs::default() }
    }

    fn size(&self, _: &Geometry, _: usize) -> Size {
        Size { rows: self.allocation.iter().sum(), exact: true, sources: 0 }
    }

    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
        Ok(ranked(&plan.geometry, self.allocation.clone(), evidence))
    }

    fn program(&self, _: &Geometry, _: usize) -> Option<Program> {
        let sub_images = self.allocation[1..].iter().sum();
        Some(Program::Rank(Ranking {
            rule: Rule::Equal,
            alpha: Alpha::default(),
            full_image: self.allocation[0],
            sub_images,
            allocation: Some(self.allocation.clone()),
        }))
    }
}

fn ranked(geometry: &Geometry, allocation: Vec<usize>, evidence: &Evidence<'_>) -> Kept {
    let scores = evidence.last.chunks_exact(geometry.patches()).zip(&allocation).enumerate();
    let indices =
        scores.map(|(i, (scores, &count))| topk::highest(scores, geometry.valid_patches(i), count));
    let indices = indices.collect();
    Kept { allocation, indices, mix: None }
}

impl Plan {
    /// A plan for the full image alone that only asks for `init` scores, as its final scores, in order to read them.
    pub(crate) fn glance(&self) -> Result<Plan> {
        let layer = self.needs.init.unwrap_or(Layer::At(0));
        let given = Given { allocation: vec![1], last: layer, heads: self.needs.heads };
        let plan = self.of_some(given, 1)?;
        // The number of partitions is only known during the computation, so products must not be split differently
        // from here on.
        Ok(Plan { exact: false, ..plan })
    }

    /// The partitions to encode, the full image first, and a plan for them alone. `init`: the full image's scores; if
    /// it is empty, as when work is only counted, the largest possible number of partitions.
    pub(crate) fn encoded(&self, init: &[f32]) -> Result<(Vec<usize>, Plan)> {
        let theirs: &dyn std::any::Any = &*self.dropping;
        let lazy = theirs.downcast_ref::<Lazy>().expect("only this method encodes less than all");
        let geometry = &self.geometry;
        let allocation = if init.is_empty() {
            let Ranking { full_image, sub_images, .. } = lazy.hired.count(geometry, self.budget);
            let most = lazy.most(geometry, self.budget);
            let valid = vec![geometry.patches(); most];
            // Without contents all sub-images get the same number.
            [vec![full_image], exact::share(sub_images, &valid, &vec![0; most])].concat()
        } else {
            lazy.allocate(geometry, self.budget, init)?
        };
        let is_encoded = |i: &usize| *i == 0 || allocation[*i] > 0;
        let partitions: Vec<usize> = (0..allocation.len()).filter(is_encoded).collect();
        let given = Given {
            allocation: partitions.iter().map(|&i| allocation[i]).collect(),
            last: lazy.last,
            heads: lazy.heads,
        };
        let plan = self.of_some(given, partitions.len())?;
        Ok((partitions, plan))
    }

    fn of_some(&self, given: Given, partitions: usize) -> Result<Plan> {
        let geometry = self.geometry.of_some(partitions)?;
        let budget = given.allocation.iter().sum();
        Ok(Plan::of(&geometry, Arc::new(given), budget, 0))
    }
}
