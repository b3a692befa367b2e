//! HiRED (Arif et al., "HiRED: attention-guided token dropping for efficient inference of high-resolution
//! vision-language models", AAAI 2025): the early CLS attention in the full image splits the budget among the
//! sub-images, and each partition keeps the patches that its late CLS attention ranks highest.
//!
//! With equal budgets this is FasterVLM (Zhang et al., "\[CLS\] attention is all you need for training-free visual
//! token pruning", 2024), whose mean over heads gives the same ranking as the sum.

use super::budget::Alpha;
use super::dropping::{Dropping, Evidence, Layer, Needs, Parts, Size};
use super::geometry::Geometry;
use super::heads::Heads;
use super::program::Program;
use super::selection::{Rule, Selection};
use super::{Kept, Plan, exact, published, topk};
use crate::Result;

/// HiRED with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hired {
    rule: Rule,
    alpha: Alpha,
    init: Layer,
    last: Layer,
    heads: Heads,
}

/// HiRED's allocation on one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    /// The allocation rule.
    pub rule: Rule,
    /// The full image's share; the rule `repo` also derives from it how many patches it marks.
    pub alpha: Alpha,
    /// Tokens of the full image, *N₀* ≤ T.
    pub full_image: usize,
    /// Tokens to be split among the sub-images, *N_sub*.
    pub sub_images: usize,
    /// Tokens of every partition, if scores do not affect them.
    pub allocation: Option<Vec<usize>>,
}

impl Hired {
    pub(super) fn new(selection: &Selection) -> Self {
        let &Selection { rule, alpha, init_layer, final_layer, heads, .. } = selection;
        // Options without effect are normalised, so that equal methods compare equal.
        let (alpha, init_layer) = match rule {
            Rule::Equal => (Alpha::default(), 0),
            _ => (alpha, init_layer),
        };
        Self { rule, alpha, init: Layer::At(init_layer), last: final_layer.into(), heads }
    }

    /// Equal budgets, whatever the selection's rule.
    pub(super) fn equal(selection: &Selection) -> Self {
        Self::new(&Selection { rule: Rule::Equal, ..selection.clone() })
    }

    /// The `exact` rule, whatever the selection's rule: for methods that use HiRED's budgets.
    pub(super) fn exact(selection: &Selection) -> Self {
        Self::new(&Selection { rule: Rule::Exact, ..selection.clone() })
    }

    pub(super) fn count(&self, geometry: &Geometry, budget: usize) -> Ranking {
        let (rule, alpha) = (self.rule, self.alpha);
        let tokens = budget.min(geometry.valid());
        let allocation = (rule == Rule::Equal).then(|| exact::equal(geometry, tokens));
        let (full_image, sub_images) = match (&allocation, rule) {
            (Some(allocation), _) => (allocation[0], allocation[1..].iter().sum()),
            (None, Rule::Exact | Rule::Equal) => exact::split(geometry, alpha, tokens),
            (None, Rule::Paper) => published::paper_split(geometry, alpha, budget),
            (None, Rule::Repo) => published::repo_split(geometry, alpha, budget),
        };
        Ranking { rule, alpha, full_image, sub_images, allocation }
    }

    /// The tokens of every partition, the full image first. `init`: \[T\], if [`Dropping::needs`] asks for it.
    pub(super) fn allocate(
        &self,
        geometry: &Geometry,
        budget: usize,
        init: &[f32],
    ) -> Result<Vec<usize>> {
        let Ranking { alpha, full_image, sub_images, allocation, .. } =
            self.count(geometry, budget);
        if let Some(allocation) = allocation {
            return Ok(allocation);
        }
        let mut allocation = vec![full_image];
        if geometry.grid().is_some() {
            allocation.extend(match self.rule {
                Rule::Exact | Rule::Equal => {
                    let partitions = 1..geometry.partitions();
                    let valid: Vec<usize> = partitions.map(|i| geometry.valid_in(i)).collect();
                    exact::share(sub_images, &valid, &exact::contents(geometry, init)?)
                }
                Rule::Paper => published::paper_share(geometry, sub_images, init),
                Rule::Repo => published::repo_share(geometry, alpha, sub_images, init),
            });
        }
        Ok(allocation)
    }
}

impl Dropping for Hired {
    fn parts(&self) -> Parts {
        Parts { shares: self.rule != Rule::Equal, ranks: true, heads: true, ..Parts::default() }
    }

    fn needs(&self, geometry: &Geometry) -> Needs {
        let shares = geometry.grid().is_some() && self.rule != Rule::Equal;
        Needs {
            init: shares.then_some(self.init),
            last: Some(self.last),
            heads: self.heads,
            ..Needs::default()
        }
    }

    /// With sub-images, `paper` and `repo` lose the tokens that fall into padding or are lost by rounding.
    fn size(&self, geometry: &Geometry, budget: usize) -> Size {
        let Ranking { full_image, sub_images, .. } = self.count(geometry, budget);
        Size {
            rows: full_image + sub_images.min(geometry.valid_in_sub_images()),
            exact: matches!(self.rule, Rule::Exact | Rule::Equal) || sub_images == 0,
            sources: 0,
        }
    }

    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
        let geometry = &plan.geometry;
        let patches = geometry.patches();
        let allocation = self.allocate(geometry, plan.budget, evidence.init)?;
        let ranked = evidence.last.chunks_exact(patches).zip(&allocation).enumerate();
        let indices = ranked.map(|(i, (scores, &count))| match self.rule {
            // A downscaled canvas has no padding among its tokens.
            _ if geometry.is_scaled() => topk::highest(scores, geometry.valid_patches(i), count),
            Rule::Exact | Rule::Equal => topk::highest(scores, geometry.valid_patches(i), count),
            Rule::Paper | Rule::Repo => {
                let mut arriving = topk::highest(scores, 0..patches, count);
                arriving.retain(|&patch| geometry.is_valid(i, patch as usize));
                arriving
            }
        });
        let indices = indices.collect();
        Ok(Kept { allocation, indices, mix: None })
    }

    fn program(&self, geometry: &Geometry, budget: usize) -> Option<Program> {
        Some(Program::Rank(self.count(geometry, budget)))
    }
}
