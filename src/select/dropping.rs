//! The interface of a method: what it needs to look at, how many tokens it keeps, and which.

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
/// [`Dropping::needs`] and [`Dropping::size`] are called before the vision tower runs, [`Dropping::choose`] after it.
/// All three are pure: the same arguments give the same result on every executor.
pub trait Dropping: Any + Debug + Send + Sync + Same {
    /// The evidence that [`Dropping::choose`] needs on an image with this geometry.
    fn needs(&self, geometry: &Geometry) -> Needs;

    /// The number of rows that enter the decoder for a requested `budget` ≥ 1.
    fn size(&self, geometry: &Geometry, budget: usize) -> Size;

    /// Selects the tokens to keep. `evidence` contains what the plan needs, with the right lengths.
    ///
    /// # Errors
    /// [`Error::Numeric`] for invalid evidence, such as scores that are not finite.
    fn choose(&self, plan: &Plan, evidence: &Evidence<'_>) -> Result<Kept>;

    /// The steps for a device to run instead of [`Dropping::choose`], if there are kernels for them and the number of
    /// rows is known in advance. `None`: the selection runs on the host.
    fn program(&self, _: &Geometry, _budget: usize) -> Option<Program> {
        None
    }

    /// The shared options that have an effect on this method.
    fn parts(&self) -> Parts {
        Parts::default()
    }

    /// For a method that does not need all sub-images encoded, the largest number of them that get tokens.
    fn lazy(&self, _: &Geometry, _budget: usize) -> Option<usize> {
        None
    }

    /// What the decoder drops of the rows that enter it, row separators included.
    fn late(&self, _: &Geometry, _newlines: usize, _budget: usize) -> Option<Late> {
        None
    }

    /// Peak memory in bytes of [`Dropping::choose`] in addition to the evidence, whose rows have `width` elements.
    fn scratch(&self, _: &Plan, _width: usize) -> usize {
        0
    }
}

/// The options of a [`super::Selection`] that have an effect, apart from method and budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// [`super::Selection::rule`].
    pub rule: bool,
    /// [`super::Selection::alpha`] and [`super::Selection::init_layer`], if there are sub-images.
    pub shares: bool,
    /// [`super::Selection::final_layer`].
    pub ranks: bool,
    /// [`super::Selection::heads`].
    pub heads: bool,
}

/// Equality of methods behind `dyn` [`Dropping`].
pub trait Same {
    /// Returns true if `other` is the same method with the same parameters.
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
    /// The block with this index; negative counts from the end.
    At(i32),
    /// The last block that the image features need.
    Features,
}

impl From<Option<i32>> for Layer {
    fn from(layer: Option<i32>) -> Self {
        layer.map_or(Self::Features, Self::At)
    }
}

/// The evidence that a method needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// CLS attention of this block in the full image.
    pub init: Option<Layer>,
    /// CLS attention of this block in every partition.
    pub last: Option<Layer>,
    /// How the heads of both are combined.
    pub heads: Heads,
    /// The kind of score for both. It is determined by the vision tower and the request, not by the method.
    pub score: Score,
    /// Keys of this block, and the queries of its class tokens.
    pub keys: Option<Layer>,
    /// Features of every patch before the projector.
    pub features: bool,
    /// Projected features of every valid patch; the kept rows are then taken from them.
    pub projected: bool,
}

impl Needs {
    /// Returns true if the plan alone determines the selection, without any evidence.
    pub fn nothing(&self) -> bool {
        self.init.is_none() && self.last.is_none() && !self.rows()
    }

    /// Returns true if the method needs rows of all patches, not only scores.
    pub fn rows(&self) -> bool {
        self.keys.is_some() || self.features || self.projected
    }
}

/// The number of rows that enter the decoder, without row separators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The number of rows; an upper bound unless `exact`.
    pub rows: usize,
    /// True if no evidence changes the number.
    pub exact: bool,
    /// Upper bound on the sources of all rows, if rows are combinations of others; 0 if each is a copy of one.
    pub sources: usize,
}

/// Dropping inside the language model.
///
/// The first layers see every image row. After them, the rows stay to which the prompt's last token attends most in
/// the last of these layers, by attention weights averaged over heads; ties go to the earlier row. Rows that stay
/// keep their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// The number of layers that see every row, at least 1. With K such layers, the attention of layer K − 1 decides.
    pub layer: usize,
    /// The number of image rows that stay; fewer than there are.
    pub rows: usize,
}

/// A row-major matrix.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Matrix<'a> {
    /// The elements, row by row.
    pub numbers: &'a [f32],
    /// Elements per row.
    pub cols: usize,
}

impl<'a> Matrix<'a> {
    /// One row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.numbers[row * self.cols..][..self.cols]
    }
}

/// The evidence for a selection; parts that the plan does not need are empty.
///
/// Each of the P partitions has T + 1 rows: a class token and T patches.
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
    /// The number of heads that a row of keys consists of.
    pub heads: usize,
    /// \[P·(T+1), D\]: the input of the projector.
    pub features: Matrix<'a>,
    /// \[V, H\]: projected features of the valid patches, partition after partition.
    pub projected: Matrix<'a>,
}

impl<'a> Evidence<'a> {
    /// Evidence that consists of scores only: `init` \[T\] of the full image and `last` \[P, T\] of every partition.
    pub fn scores(init: &'a [f32], last: &'a [f32]) -> Self {
        Self { init, last, ..Self::default() }
    }

    /// Checks that everything that `plan` needs is there.
    ///
    /// # Errors
    /// [`Error::Request`] for a wrong number of rows; [`Error::Numeric`] for numbers that are not finite.
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

/// Scores are sums of probabilities: one per patch, finite and not negative.
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
            "the {name} score of partition {}, patch {} is {}, which is not a valid attention score: the vision tower \
             overflowed or its weights are damaged; try f32 or another copy of the checkpoint",
            at / patches,
            at % patches,
            scores[at]
        ))),
    }
}
