//! Which visual tokens reach the language model.
//!
//! [`Geometry`] and [`plan`] use the image's size and the request alone, so that every shape of the `exact` rule is
//! known before the vision tower runs. [`choose`] adds the scores, [`order()`] puts what was kept into the order in
//! which it enters the decoder. All are pure functions over plain numbers.
//!
//! A score is the CLS row of one block's post-softmax attention over all T + 1 keys, the CLS column dropped, not
//! renormalised, summed over the heads, in f32. `init` scores tell where the content of the full image is, `final`
//! scores which patches of a partition matter.

mod budget;
mod exact;
mod geometry;
mod late;
mod order;
mod published;
mod selection;
mod topk;
mod uniform;

pub use budget::{Alpha, Budget};
pub use geometry::Geometry;
pub use late::Late;
pub use order::{Slot, order};
pub use selection::{Method, Newlines, Rule, Selection};
pub use uniform::Uniform;

pub(crate) use topk::highest;

use crate::{Error, Result};

/// What is known of a selection before any score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The image's patches.
    pub geometry: Geometry,
    /// How HiRED counts; `None`: no score is needed.
    pub rule: Option<Rule>,
    /// How the patches are chosen where no score is needed; `None`: every valid one is kept.
    pub uniform: Option<Uniform>,
    /// The full image's share, of which `repo` also derives how many patches it marks.
    pub alpha: Alpha,
    /// The budget *B* as asked for, as a count; it may exceed the valid patches.
    pub budget: usize,
    /// Tokens of the full image, *N₀* ≤ T.
    pub full_image: usize,
    /// Tokens to be shared among the sub-images, *N_sub*.
    pub sub_images: usize,
    /// How many patches are kept: exactly this many if [`Plan::is_exact`], else at most.
    pub kept: usize,
    /// Newline tokens, which no budget counts but one inside the language model.
    pub newlines: usize,
    /// What is dropped inside the language model of what enters it.
    pub late: Option<Late>,
}

impl Plan {
    /// Whether [`Plan::kept`] is the number itself. Not so for `paper` and `repo` with sub-images, which lose what
    /// they allot to padding and what rounding leaves over.
    pub fn is_exact(&self) -> bool {
        matches!(self.rule, None | Some(Rule::Exact)) || self.sub_images == 0
    }

    /// Whether [`choose`] needs the `init` scores: a rule is applied and there are sub-images.
    pub fn needs_init(&self) -> bool {
        self.rule.is_some() && self.geometry.grid().is_some()
    }

    /// Whether [`choose`] needs the `final` scores: a rule is applied.
    pub fn needs_final(&self) -> bool {
        self.rule.is_some()
    }

    /// How many `init` and `final` scores [`choose`] looks at.
    pub fn scores(&self) -> [usize; 2] {
        let (partitions, patches) = (self.geometry.partitions(), self.geometry.patches());
        let count = |needed, rows| if needed { rows * patches } else { 0 };
        [count(self.needs_init(), 1), count(self.needs_final(), partitions)]
    }
}

/// The scores that [`choose`] looks at: empty where the plan needs none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// \[T\]: the full image's content.
    pub init: Vec<f32>,
    /// \[P, T\]: the ranking in every partition.
    pub last: Vec<f32>,
}

/// What is kept of each partition, the full image first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Tokens allotted to each partition. `paper` and `repo` may lose some of them to padding.
    pub allocation: Vec<usize>,
    /// Patches that arrive, ascending in each partition.
    pub indices: Vec<Vec<u32>>,
}

impl Kept {
    /// Patches that arrive, over all partitions.
    pub fn count(&self) -> usize {
        self.indices.iter().map(Vec::len).sum()
    }
}

/// Plans `selection` on the patches of an image.
///
/// # Errors
/// [`Error::Request`] for a budget that is out of range or comes to no token on this image.
pub fn plan(geometry: &Geometry, selection: &Selection) -> Result<Plan> {
    let everything = selection.method == Method::Full || selection.budget == Budget::Full;
    let wanted = if everything { Budget::Full } else { selection.budget };
    let valid = geometry.valid();
    let budget = wanted.tokens(geometry.partitions(), geometry.patches(), valid)?;
    let (rule, uniform) = match selection.method {
        _ if everything => (None, None),
        Method::Hired | Method::Full => (Some(selection.rule), None),
        Method::Spatial => (None, Some(Uniform::Spatial)),
        Method::Random => (None, Some(Uniform::Random(selection.seed))),
        Method::FastV => (None, None),
    };
    let alpha = selection.alpha;
    let (full_image, sub_images) = match rule {
        None if uniform.is_some() => {
            let allocation = uniform::allocation(geometry, budget.min(valid));
            (allocation[0], allocation[1..].iter().sum())
        }
        None => (geometry.patches(), geometry.valid_in_sub_images()),
        Some(Rule::Exact) => exact::split(geometry, alpha, budget.min(valid)),
        Some(Rule::Paper) => published::paper_split(geometry, alpha, budget),
        Some(Rule::Repo) => published::repo_split(geometry, alpha, budget),
    };
    let newlines = match selection.newlines() {
        Newlines::All => geometry.rows().len(),
        Newlines::None => 0,
    };
    let kept = full_image + sub_images.min(geometry.valid_in_sub_images());
    // At the budget `full` as many rows may stay as there are.
    let stay = if everything { usize::MAX } else { budget };
    let late = Late::of(selection, geometry, newlines, stay);
    let geometry = geometry.clone();
    Ok(Plan {
        geometry,
        rule,
        uniform,
        alpha,
        budget,
        full_image,
        sub_images,
        kept,
        newlines,
        late,
    })
}

/// Chooses the patches to keep.
///
/// `init`: \[T\], the full image's; `final_scores`: \[P, T\], of every partition. Scores that the plan does not need
/// ([`Plan::needs_init`], [`Plan::needs_final`]) are not looked at and may be left empty.
///
/// # Errors
/// [`Error::Numeric`] for a score that is not finite or cannot be attention; [`Error::Request`] for a wrong number
/// of scores.
pub fn choose(plan: &Plan, init: &[f32], final_scores: &[f32]) -> Result<Kept> {
    let geometry = &plan.geometry;
    let (partitions, patches) = (geometry.partitions(), geometry.patches());
    let valid_of = |i: usize| (0..patches).filter(move |&patch| geometry.is_valid(i, patch));
    if let Some(uniform) = plan.uniform {
        let allocation = uniform::allocation(geometry, plan.kept);
        let indices = allocation.iter().enumerate().map(|(i, &count)| {
            let valid: Vec<u32> = valid_of(i).map(|patch| patch as u32).collect();
            uniform.choose(i, &valid, count)
        });
        let indices = indices.collect();
        return Ok(Kept { allocation, indices });
    }
    let Some(rule) = plan.rule else {
        let indices = (0..partitions).map(|i| valid_of(i).map(|patch| patch as u32).collect());
        let allocation = (0..partitions).map(|i| geometry.valid_in(i)).collect();
        return Ok(Kept { allocation, indices: indices.collect() });
    };
    let mut allocation = vec![plan.full_image];
    if plan.needs_init() {
        check_scores("init", init, 1, patches)?;
        allocation.extend(match rule {
            Rule::Exact => {
                let valid: Vec<usize> = (1..partitions).map(|i| geometry.valid_in(i)).collect();
                exact::share(plan.sub_images, &valid, &exact::contents(geometry, init)?)
            }
            Rule::Paper => published::paper_share(geometry, plan.sub_images, init),
            Rule::Repo => published::repo_share(geometry, plan.alpha, plan.sub_images, init),
        });
    }
    check_scores("final", final_scores, partitions, patches)?;
    let ranked = final_scores.chunks_exact(patches).zip(&allocation).enumerate();
    let indices = ranked.map(|(i, (scores, &count))| match rule {
        Rule::Exact => topk::highest(scores, valid_of(i), count),
        Rule::Paper | Rule::Repo => {
            let mut arriving = topk::highest(scores, 0..patches, count);
            arriving.retain(|&patch| geometry.is_valid(i, patch as usize));
            arriving
        }
    });
    let indices = indices.collect();
    Ok(Kept { allocation, indices })
}

/// Scores are sums of probabilities: there is one for each patch, finite and not negative.
fn check_scores(name: &str, scores: &[f32], partitions: usize, patches: usize) -> Result<()> {
    if scores.len() != partitions * patches {
        return Err(Error::Request(format!(
            "{} {name} scores for {partitions} x {patches} patches: give one for each",
            scores.len()
        )));
    }
    match scores.iter().position(|score| !(score.is_finite() && *score >= 0.0)) {
        None => Ok(()),
        Some(at) => Err(Error::Numeric(format!(
            "the {name} score of partition {}, patch {} is {}, which no attention can be: the vision tower \
             overflowed or its weights are damaged; try f32 or another copy of the checkpoint",
            at / patches,
            at % patches,
            scores[at]
        ))),
    }
}
