//! Selects the image tokens that reach the language model.
//!
//! [`Geometry`] and [`plan`] only use the image's size and the request, so that all shapes under the `exact` rule are
//! known before the vision tower runs. [`choose`] adds the evidence that the method looks at, and [`order()`] puts
//! the kept tokens into the order in which they enter the decoder. All of these are pure functions on plain numbers.
//!
//! A method is one implementation of [`Dropping`] and one row in the table of [`Method`]. No method keeps padding.
//!
//! A score is the CLS row of one block's attention after softmax over all T + 1 keys, without the CLS column, not
//! renormalised, summed over the heads (or as [`Heads`] says), in f32. The `init` scores locate the content of the
//! full image; the `final` scores rank the patches of a partition.

mod budget;
mod cosine;
mod divprune;
mod dropping;
mod exact;
mod fastv;
mod geometry;
mod globalcom2;
mod heads;
mod hired;
mod lazy;
mod method;
mod mix;
mod order;
mod program;
mod prumerge;
mod published;
mod scaled;
mod scope;
mod score;
mod selection;
mod topk;
mod uniform;
mod visionzip;

pub use budget::{Alpha, Budget, Factor};
pub use dropping::{Dropping, Evidence, Late, Layer, Matrix, Needs, Parts, Same, Size};
pub use geometry::Geometry;
pub use heads::Heads;
pub use hired::Ranking;
pub use method::Method;
pub use mix::Mix;
pub use order::{Slot, order};
pub use program::{Contextual, Program};
pub use score::Score;
pub use selection::{Counting, Newlines, Rule, Selection, Spacing, Tuning};

pub(crate) use exact::{fits_64_bits, mass_limit};
pub(crate) use topk::highest;

use crate::Result;
use std::any::Any;
use std::sync::Arc;

/// What is known of a selection before the vision tower runs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The image's patches.
    pub geometry: Geometry,
    dropping: Arc<dyn Dropping>,
    /// The evidence that [`choose`] needs.
    pub needs: Needs,
    /// The steps for a device, see [`Dropping::program`].
    pub program: Option<Program>,
    /// The requested budget *B* as a number of tokens; it may exceed the number of valid patches.
    pub budget: usize,
    /// The number of rows that enter the decoder, without row separators; an upper bound unless [`Plan::is_exact`].
    pub rows: usize,
    exact: bool,
    /// Upper bound on the sources of all rows, if rows are combinations; otherwise 0.
    pub sources: usize,
    /// Row separators. They count towards the budget only if tokens are dropped inside the language model.
    pub newlines: usize,
    /// What the language model drops of the rows that enter it.
    pub late: Option<Late>,
    /// Upper bound on the sub-images that are encoded, if the full image's scores decide which; `None`: all are.
    pub lazy: Option<usize>,
}

/// Equal plans select the same tokens from the same evidence.
impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        let numbers = |plan: &Self| (plan.budget, plan.rows, plan.newlines);
        let theirs: &dyn Any = &*other.dropping;
        numbers(self) == numbers(other)
            && self.needs.score == other.needs.score
            && self.geometry == other.geometry
            && self.dropping.same(theirs)
    }
}

impl Plan {
    fn of(
        geometry: &Geometry,
        dropping: Arc<dyn Dropping>,
        budget: usize,
        newlines: usize,
    ) -> Self {
        let Size { rows, exact, sources } = dropping.size(geometry, budget);
        let (needs, program) = (dropping.needs(geometry), dropping.program(geometry, budget));
        let late = dropping.late(geometry, newlines, budget);
        let lazy = dropping.lazy(geometry, budget);
        let geometry = geometry.clone();
        Self {
            geometry,
            dropping,
            needs,
            program,
            budget,
            rows,
            exact,
            sources,
            newlines,
            late,
            lazy,
        }
    }

    /// HiRED's allocation, if the method consists only of that and of ranking scores.
    pub fn ranking(&self) -> Option<&Ranking> {
        match &self.program {
            Some(Program::Rank(ranking)) => Some(ranking),
            _ => None,
        }
    }

    /// Returns true if [`Plan::rows`] is the exact number for any evidence.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// The budget from which nothing is dropped.
    pub fn most(&self) -> usize {
        self.late.map_or(self.geometry.valid(), |_| self.rows + self.newlines)
    }

    /// The numbers of `init` and `final` scores that [`choose`] needs.
    pub fn scores(&self) -> [usize; 2] {
        let (partitions, patches) = (self.geometry.partitions(), self.geometry.patches());
        let count = |layer: Option<Layer>, rows| layer.map_or(0, |_| rows * patches);
        [count(self.needs.init, 1), count(self.needs.last, partitions)]
    }

    /// Upper bound on the bytes of the mixture, if rows are combinations.
    pub fn mix_bytes(&self) -> usize {
        if self.sources == 0 { 0 } else { Mix::bytes(self.rows, self.sources) }
    }

    /// Peak memory in bytes of [`choose`] in addition to the evidence, whose rows have `width` elements.
    pub fn scratch(&self, width: usize) -> usize {
        self.dropping.scratch(self, width)
    }

    /// Returns true if the kept rows are taken from projected features of all valid patches.
    pub fn from_projected(&self) -> bool {
        self.needs.projected || self.geometry.is_scaled() || self.geometry.is_pooled()
    }

    /// Source rows per kept patch: those of its cell, if a token merges a cell of patches.
    pub fn rows_each(&self) -> usize {
        if self.from_projected() { 1 } else { self.geometry.cell().pow(2) }
    }

    /// Source rows of the kept patches, partition after partition: among all rows of the tower (\[P·(T+1), D\]), or
    /// among the valid patches if these were projected before.
    pub fn rows_of(&self, indices: &[Vec<u32>]) -> Vec<usize> {
        let geometry = &self.geometry;
        let mut rows = Vec::new();
        let mut before = 0;
        for (i, indices) in indices.iter().enumerate() {
            if self.from_projected() {
                let valid: Vec<usize> = geometry.valid_patches(i).collect();
                let place = |&patch: &u32| valid.binary_search(&(patch as usize));
                rows.extend(
                    indices.iter().map(|p| before + place(p).expect("only valid patches are kept")),
                );
                before += valid.len();
            } else {
                rows.extend(indices.iter().flat_map(|&patch| geometry.rows_of(i, patch as usize)));
            }
        }
        rows
    }

    /// Rows of all valid patches among all rows of the tower, partition after partition.
    pub fn tower_rows(&self) -> Vec<usize> {
        let geometry = &self.geometry;
        let of =
            |i: usize| geometry.valid_patches(i).flat_map(move |patch| geometry.rows_of(i, patch));
        (0..geometry.partitions()).flat_map(of).collect()
    }

    /// Rows of all valid patches in the matrices that methods see, partition after partition.
    pub fn valid_rows(&self) -> Vec<usize> {
        let geometry = &self.geometry;
        let of = |i: usize| geometry.valid_patches(i).map(move |patch| geometry.row(i, patch));
        (0..geometry.partitions()).flat_map(of).collect()
    }
}

/// The scores that [`choose`] needs; empty if the plan needs none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// \[T\]: content scores of the full image.
    pub init: Vec<f32>,
    /// \[P, T\]: ranking scores of every partition.
    pub last: Vec<f32>,
}

/// The tokens kept in each partition, the full image first.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Patches allotted to each partition. `paper`, `repo` and [`Spacing::Stride`] may lose some of them to padding.
    pub allocation: Vec<usize>,
    /// Patches that are kept, ascending in each partition.
    pub indices: Vec<Vec<u32>>,
    /// How the rows are mixed, including additional rows; `None`: each row is that of its patch, and there are no
    /// others.
    pub mix: Option<Mix>,
}

impl Kept {
    /// Patches that are kept unchanged.
    pub fn of(indices: Vec<Vec<u32>>) -> Self {
        Self { allocation: indices.iter().map(Vec::len).collect(), indices, mix: None }
    }

    /// The same selection expressed in all `of` partitions, of which only `partitions` were part of it.
    pub(crate) fn among(self, partitions: &[usize], of: usize) -> Self {
        let (mut allocation, mut indices) = (vec![0; of], vec![Vec::new(); of]);
        for ((&i, count), patches) in partitions.iter().zip(self.allocation).zip(self.indices) {
            (allocation[i], indices[i]) = (count, patches);
        }
        Self { allocation, indices, mix: self.mix }
    }

    /// The number of kept patches over all partitions.
    pub fn count(&self) -> usize {
        self.indices.iter().map(Vec::len).sum()
    }

    /// The number of additional rows, which belong to no kept patch.
    pub fn merged(&self) -> usize {
        self.mix.as_ref().map_or(0, |mix| mix.added().len())
    }

    /// Patches of each partition that are not kept but merged into a row, ascending.
    pub fn merged_patches(&self, geometry: &Geometry) -> Vec<Vec<u32>> {
        let mut all = vec![Vec::new(); self.indices.len()];
        let Some(mix) = &self.mix else { return all };
        for (source, _) in (0..mix.rows()).flat_map(|row| mix.row(row)) {
            let (i, Some(patch)) = geometry.patch_of(source) else { continue };
            if self.indices[i].binary_search(&(patch as u32)).is_err() {
                all[i].push(patch as u32);
            }
        }
        for patches in &mut all {
            patches.sort_unstable();
            patches.dedup();
        }
        all
    }
}

/// Plans `selection` for an image with this geometry.
///
/// # Errors
/// [`crate::Error::Request`] for a budget that is out of range or rounds to no token on this image.
pub fn plan(geometry: &Geometry, selection: &Selection) -> Result<Plan> {
    let everything = selection.keeps_everything();
    let (method, wanted) = match everything {
        true => (Method::Full, Budget::Full),
        false => (selection.method, selection.budget),
    };
    let valid = geometry.valid();
    let budget = match geometry.is_scaled() {
        true => wanted.tokens(1, geometry.all(), valid)?,
        false => wanted.tokens(geometry.partitions(), geometry.patches(), valid)?,
    };
    let newlines = match selection.newlines() {
        Newlines::All => geometry.newlines(),
        Newlines::None => 0,
    };
    let dropping = match selection.lazy_tiles {
        true if !everything => Arc::new(lazy::Lazy::new(selection)),
        _ => method.with(selection),
    };
    let mut plan = Plan::of(geometry, dropping, budget, newlines);
    let needs = &mut plan.needs;
    // The score option is only checked for methods that use scores.
    let asked = selection.score.filter(|_| needs.init.is_some() || needs.last.is_some());
    needs.score = Score::of(asked, geometry.class_token())?;
    if selection.lazy_tiles && needs.score != Score::Cls {
        return Err(crate::Error::Request(format!(
            "score {}: lazy tiles need the class token's attention: use cls, or encode all tiles",
            needs.score
        )));
    }
    Ok(plan)
}

/// Selects the tokens to keep. Evidence that the plan does not need ([`Plan::needs`]) may be empty.
///
/// # Errors
/// [`crate::Error::Numeric`] for a score that is not finite or is not a valid attention score, and for rows that are
/// not finite; [`crate::Error::Request`] for a wrong number of scores or rows.
pub fn choose(plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
    evidence.check(plan)?;
    match plan.needs.last.and_then(|_| plan.geometry.shrunk(evidence.last)) {
        Some(last) => plan.dropping.choose(plan, &Evidence { last: &last, ..*evidence }),
        None => plan.dropping.choose(plan, evidence),
    }
}
