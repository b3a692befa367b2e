//! Which visual tokens reach the language model.
//!
//! [`Geometry`] and [`plan`] use the image's size and the request alone, so that every shape of the `exact` rule is
//! known before the vision tower runs. [`choose`] adds what the method looks at, [`order()`] puts what was kept into
//! the order in which it enters the decoder. All are pure functions over plain numbers.
//!
//! A method is one implementation of [`Dropping`] and one row in the table of [`Method`]. None keeps padding.
//!
//! A score is the CLS row of one block's post-softmax attention over all T + 1 keys, the CLS column dropped, not
//! renormalised, summed over the heads (or as [`Heads`] says), in f32. `init` scores tell where the content of the full image is, `final`
//! scores which patches of a partition matter.

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

/// What is known of a selection before anything is looked at.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The image's patches.
    pub geometry: Geometry,
    dropping: Arc<dyn Dropping>,
    /// What [`choose`] looks at.
    pub needs: Needs,
    /// What a device runs, see [`Dropping::program`].
    pub program: Option<Program>,
    /// The budget *B* as asked for, as a count; it may exceed the valid patches.
    pub budget: usize,
    /// How many rows enter the decoder, newlines apart: exactly this many if [`Plan::is_exact`], else at most.
    pub rows: usize,
    exact: bool,
    /// Sources of all rows at most, where rows are combinations; else 0.
    pub sources: usize,
    /// Newline tokens, which no budget counts but one inside the language model.
    pub newlines: usize,
    /// What is dropped inside the language model of what enters it.
    pub late: Option<Late>,
    /// Most sub-images that are encoded, where the full image's scores decide which; else all are.
    pub lazy: Option<usize>,
}

/// Equal plans choose the same of the same evidence.
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

    /// How HiRED counts, where that and the scores' ranks are all there is to the method.
    pub fn ranking(&self) -> Option<&Ranking> {
        match &self.program {
            Some(Program::Rank(ranking)) => Some(ranking),
            _ => None,
        }
    }

    /// Whether [`Plan::rows`] is the number itself, whatever the evidence.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// The budget from which on nothing is dropped.
    pub fn most(&self) -> usize {
        self.late.map_or(self.geometry.valid(), |_| self.rows + self.newlines)
    }

    /// How many `init` and `final` scores [`choose`] looks at.
    pub fn scores(&self) -> [usize; 2] {
        let (partitions, patches) = (self.geometry.partitions(), self.geometry.patches());
        let count = |layer: Option<Layer>, rows| layer.map_or(0, |_| rows * patches);
        [count(self.needs.init, 1), count(self.needs.last, partitions)]
    }

    /// Bytes of what the rows are made of at most, where they are combinations.
    pub fn mix_bytes(&self) -> usize {
        if self.sources == 0 { 0 } else { Mix::bytes(self.rows, self.sources) }
    }

    /// Bytes that [`choose`] takes at one moment beside the evidence, of which a row has `width` numbers.
    pub fn scratch(&self, width: usize) -> usize {
        self.dropping.scratch(self, width)
    }

    /// Whether kept rows are taken from projected ones: those of all valid patches.
    pub fn from_projected(&self) -> bool {
        self.needs.projected || self.geometry.is_scaled() || self.geometry.is_pooled()
    }

    /// Rows that a kept patch is made of in the matrix that it is taken from: those of its cell, where it is a cell.
    pub fn rows_each(&self) -> usize {
        if self.from_projected() { 1 } else { self.geometry.cell().pow(2) }
    }

    /// Rows of the kept patches in the matrix that they are taken from, partition after partition: among all rows of the
    /// tower (in \[P·(T+1), D\]), or among the valid patches where these were projected before.
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

    /// Rows of all valid patches in the matrices that methods look at, partition after partition.
    pub fn valid_rows(&self) -> Vec<usize> {
        let geometry = &self.geometry;
        let of = |i: usize| geometry.valid_patches(i).map(move |patch| geometry.row(i, patch));
        (0..geometry.partitions()).flat_map(of).collect()
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
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Patches allotted to each partition. `paper`, `repo` and [`Spacing::Stride`] may lose some of them to padding.
    pub allocation: Vec<usize>,
    /// Patches that arrive, ascending in each partition.
    pub indices: Vec<Vec<u32>>,
    /// What their rows are made of, and rows beside theirs; `None`: each is its patch's own, and there are no others.
    pub mix: Option<Mix>,
}

impl Kept {
    /// Patches of which each is kept as it is.
    pub fn of(indices: Vec<Vec<u32>>) -> Self {
        Self { allocation: indices.iter().map(Vec::len).collect(), indices, mix: None }
    }

    /// The same among all of so many partitions, of which those here are these.
    pub(crate) fn among(self, partitions: &[usize], of: usize) -> Self {
        let (mut allocation, mut indices) = (vec![0; of], vec![Vec::new(); of]);
        for ((&i, count), patches) in partitions.iter().zip(self.allocation).zip(self.indices) {
            (allocation[i], indices[i]) = (count, patches);
        }
        Self { allocation, indices, mix: self.mix }
    }

    /// Patches that arrive, over all partitions.
    pub fn count(&self) -> usize {
        self.indices.iter().map(Vec::len).sum()
    }

    /// Rows that stand for no single kept patch: merged of several, or not of a patch at all.
    pub fn merged(&self) -> usize {
        self.mix.as_ref().map_or(0, |mix| mix.added().len())
    }

    /// Patches of each partition that are not kept, but part of a row; ascending.
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

/// Plans `selection` on the patches of an image.
///
/// # Errors
/// [`crate::Error::Request`] for a budget that is out of range or comes to no token on this image.
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
    // What no method looks at may be anything.
    let asked = selection.score.filter(|_| needs.init.is_some() || needs.last.is_some());
    needs.score = Score::of(asked, geometry.class_token())?;
    if selection.lazy_tiles && needs.score != Score::Cls {
        return Err(crate::Error::Request(format!(
            "score {}: lazy tiles are chosen by the class token's attention: take cls, or encode all tiles",
            needs.score
        )));
    }
    Ok(plan)
}

/// Chooses what to keep. Evidence that the plan does not need ([`Plan::needs`]) is not looked at and may be left empty.
///
/// # Errors
/// [`crate::Error::Numeric`] for a score that is not finite or cannot be attention, and for rows that are not finite;
/// [`crate::Error::Request`] for a wrong number of either.
pub fn choose(plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept> {
    evidence.check(plan)?;
    match plan.needs.last.and_then(|_| plan.geometry.shrunk(evidence.last)) {
        Some(last) => plan.dropping.choose(plan, &Evidence { last: &last, ..*evidence }),
        None => plan.dropping.choose(plan, evidence),
    }
}
