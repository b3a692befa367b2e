//! What a method of dropping visual tokens is: what it looks at, how much it keeps, and what.

use std::any::Any;
use std::fmt::Debug;

use super::geometry::Geometry;
use super::heads::Heads;
use super::program::Program;
use super::score::Score;
use super::{Kept, Plan};
use crate::{Error, Result};

/// A method with its parameters.
///
/// [`Dropping::needs`] and [`Dropping::size`] are asked before the vision tower runs, [`Dropping::choose`] after it.
/// All three are pure: the same arguments give the same answer on every executor.
pub trait Dropping: Any + Debug + Send + Sync + Same {
    /// What [`Dropping::choose`] looks at on an image of these patches.
    fn needs(&self, geometry: &Geometry) -> Needs;

    /// How many rows enter the decoder when `budget` ≥ 1 are asked for.
    fn size(&self, geometry: &Geometry, budget: usize) -> Size;

    /// Chooses. The evidence is there as far as the plan needs it, and of the right lengths.
    ///
    /// # Errors
    /// [`Error::Numeric`] for evidence that cannot be what it should be.
    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept>;

    /// What a device runs instead of [`Dropping::choose`], where its kernels have the steps and the number of rows is
    /// known before. `None`: the host chooses.
    fn program(&self, _: &Geometry, _budget: usize) -> Option<Program> {
        None
    }

    /// Which options play a part that other methods have too.
    fn parts(&self) -> Parts {
        Parts::default()
    }

    /// Most sub-images that get tokens, of a method that needs the others not even encoded.
    fn lazy(&self, _: &Geometry, _budget: usize) -> Option<usize> {
        None
    }

    /// What the decoder drops of the rows that enter it, the image's newlines among them.
    fn late(&self, _: &Geometry, _newlines: usize, _budget: usize) -> Option<Late> {
        None
    }

    /// Bytes that [`Dropping::choose`] takes at one moment beside the evidence, of which a row has `width` numbers.
    fn scratch(&self, _: &Plan, _width: usize) -> usize {
        0
    }
}

/// Which options of a [`super::Selection`] play a part, beside the method and the budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// [`super::Selection::rule`].
    pub rule: bool,
    /// [`super::Selection::alpha`] and [`super::Selection::init_layer`], where there are sub-images.
    pub shares: bool,
    /// [`super::Selection::final_layer`].
    pub ranks: bool,
    /// [`super::Selection::heads`].
    pub heads: bool,
}

/// Equality of methods behind [`Dropping`].
pub trait Same {
    /// Whether `other` is the same method with the same parameters.
    fn same(&self, other: &dyn Any) -> bool;
}

impl<T: PartialEq + 'static> Same for T {
    fn same(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>() == Some(self)
    }
}

/// A block of the vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// By number; a negative one counts from the end.
    At(i32),
    /// The last one that the features need.
    Features,
}

impl From<Option<i32>> for Layer {
    fn from(layer: Option<i32>) -> Self {
        layer.map_or(Self::Features, Self::At)
    }
}

/// What a method looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// CLS attention of this block in the full image.
    pub init: Option<Layer>,
    /// CLS attention of this block in every partition.
    pub last: Option<Layer>,
    /// How the heads of both become one score.
    pub heads: Heads,
    /// What both are made of; the model's vision tower and the request decide, not the method.
    pub score: Score,
    /// Keys of this block, and its class tokens' queries.
    pub keys: Option<Layer>,
    /// Features of every patch.
    pub features: bool,
    /// Projected features of every valid patch; what is kept is then taken from them.
    pub projected: bool,
}

impl Needs {
    /// Whether nothing is looked at: the plan alone decides.
    pub fn nothing(&self) -> bool {
        self.init.is_none() && self.last.is_none() && !self.rows()
    }

    /// Whether more than scores is looked at: rows of every patch.
    pub fn rows(&self) -> bool {
        self.keys.is_some() || self.features || self.projected
    }
}

/// How many rows enter the decoder, newlines apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// So many; at most so many if not `exact`.
    pub rows: usize,
    /// Whether no evidence changes the number.
    pub exact: bool,
    /// Sources of all rows at most, where each is a combination of others; 0 where each is a copy.
    pub sources: usize,
}

/// Dropping inside the language model.
///
/// The first layers see every visual row. Then those stay that the prompt's last token attends to most in the last of
/// these layers, by the mean over heads of its attention weights; ties go to the earlier row. What stays keeps its
/// position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Layers that see every row, at least 1: of K such layers the one numbered K − 1 decides.
    pub layer: usize,
    /// How many visual rows stay, fewer than there are.
    pub rows: usize,
}

/// Rows of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Matrix<'a> {
    /// Row-major.
    pub numbers: &'a [f32],
    /// Numbers in a row.
    pub cols: usize,
}

impl<'a> Matrix<'a> {
    /// One row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.numbers[row * self.cols..][..self.cols]
    }
}

/// What a method looked at; empty where the plan needs nothing.
///
/// T patches and a class token before them make T + 1 rows of each of the P partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence<'a> {
    /// \[T\]: scores of the full image.
    pub init: &'a [f32],
    /// \[P, T\]: scores of every partition.
    pub last: &'a [f32],
    /// \[P, D\]: queries of the class tokens, unscaled.
    pub queries: Matrix<'a>,
    /// \[P·(T+1), D\]: keys.
    pub keys: Matrix<'a>,
    /// Heads that a row of keys is cut into.
    pub heads: usize,
    /// \[P·(T+1), D\]: what the projector takes.
    pub features: Matrix<'a>,
    /// \[V, H\]: what it makes of the valid patches, partition after partition.
    pub projected: Matrix<'a>,
}

impl<'a> Evidence<'a> {
    /// Scores alone: `init` \[T\] of the full image, `last` \[P, T\] of every partition.
    pub fn scores(init: &'a [f32], last: &'a [f32]) -> Self {
        Self { init, last, ..Self::default() }
    }

    /// Whether all that `plan` needs is there.
    ///
    /// # Errors
    /// [`Error::Request`] for a wrong number of rows; [`Error::Numeric`] for numbers that are none.
    pub(super) fn check(&self, plan: &Plan) -> Result<()> {
        let (geometry, needs) = (&plan.geometry, &plan.needs);
        let (partitions, patches) = (geometry.partitions(), geometry.patches());
        if needs.init.is_some() {
            check_scores("init", self.init, 1, patches)?;
        }
        if needs.last.is_some() {
            check_scores("final", self.last, partitions, patches)?;
        }
        let all = partitions * geometry.stride();
        let keys = needs.keys.is_some();
        for (needed, name, rows, wanted) in [
            (keys, "class queries", &self.queries, partitions),
            (keys, "keys", &self.keys, all),
            (needs.features, "features", &self.features, all),
            (needs.projected, "projected features", &self.projected, geometry.valid()),
        ] {
            if !needed {
                continue;
            }
            if rows.cols == 0 || rows.numbers.len() != wanted * rows.cols {
                return Err(Error::Request(format!(
                    "{} numbers of {name} in rows of {}: give {wanted} rows",
                    rows.numbers.len(),
                    rows.cols
                )));
            }
            if let Some(at) = rows.numbers.iter().position(|x| !x.is_finite()) {
                return Err(Error::Numeric(format!(
                    "the {name} are not finite (row {}): the vision tower overflowed or its weights are damaged; \
                     try f32 or another copy of the checkpoint",
                    at / rows.cols
                )));
            }
        }
        if keys && (self.heads == 0 || !self.keys.cols.is_multiple_of(self.heads)) {
            return Err(Error::Request(format!(
                "keys of {} numbers cannot be cut into {} heads",
                self.keys.cols, self.heads
            )));
        }
        Ok(())
    }
}

/// Scores are made of probabilities: there is one for each patch, finite and not negative.
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
