//! The selection options of a request.

use std::fmt;
use std::str::FromStr;

use super::budget::{Alpha, Budget, Factor};
use super::dropping::Parts;
use super::heads::Heads;
use super::method::Method;
use super::score::Score;
use crate::setters::setters;
use crate::{Error, Result};

/// HiRED's rule for allotting tokens to partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Rule {
    /// Exactly min(budget, valid) tokens, padding never kept, integer arithmetic.
    #[default]
    Exact,
    /// As in the published paper, which loses tokens to flooring and padding.
    Paper,
    /// As in the published code: the most attended patches of the full image, counted in raster chunks.
    Repo,
    /// The same number for every partition, as far as it has valid patches; exactly min(budget, valid) tokens.
    Equal,
}

/// Whether row separators (`image_newline`) end the canvas rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newlines {
    /// One after every valid canvas row, even one without kept patches.
    All,
    /// No row separators.
    None,
}

/// How PruMerge determines the number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Counting {
    /// The outliers of each partition, together at most the budget.
    #[default]
    Adaptive,
    /// HiRED's budgets, by its exact rule.
    Budget,
}

/// Which patches the method `spatial` keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Spacing {
    /// Exactly the budget, evenly spaced among the valid patches.
    #[default]
    Even,
    /// Every n-th patch of each partition, padding included, as in HiRED's published code. Patches in padding are
    /// lost, and up to twice the budget is kept.
    Stride,
}

/// Parameters of individual methods. The defaults are the published values.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// `spatial`: how the patches are spaced.
    pub spatial: Spacing,
    /// PruMerge: how the number of tokens is determined.
    pub prumerge: Counting,
    /// PruMerge: number of patches merged into each kept one.
    pub neighbours: usize,
    /// PruMerge: outlier threshold F; patches with attention above Q3 + F·(Q3 − Q1) are outliers.
    pub outliers: Factor,
    /// VisionZip: share of contextual rows among each partition's rows.
    pub contextual: Alpha,
    /// SCOPE: exponent of the attention.
    pub saliency: Factor,
    /// PruMerge, VisionZip, GlobalCom²: the vision block whose keys are compared; negative counts from the end.
    /// `None`: the last block; for VisionZip the last one that the image features need.
    pub key_layer: Option<i32>,
    /// FastV: number of decoder layers that see every image row, at least 1.
    pub fastv_layer: usize,
}

setters! {
    Tuning {
        with_spatial(spatial: Spacing);
        with_prumerge(prumerge: Counting);
        with_neighbours(neighbours: usize);
        with_outliers(outliers: Factor);
        with_contextual(contextual: Alpha);
        with_saliency(saliency: Factor);
        with_key_layer(key_layer: impl Into<Option<i32>>);
        with_fastv_layer(fastv_layer: usize);
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            spatial: Spacing::default(),
            prumerge: Counting::default(),
            neighbours: 32,
            outliers: Factor::tenths(15),
            contextual: Alpha::parts(10, 64),
            saliency: Factor::tenths(10),
            key_layer: None,
            fastv_layer: 2,
        }
    }
}

/// Which tokens of an image to keep. The default is HiRED's exact rule with a budget of 20% of all patches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selection {
    /// The method.
    pub method: Method,
    /// The number of tokens to keep.
    pub budget: Budget,
    /// HiRED's allocation rule.
    pub rule: Rule,
    /// The full image's share of the budget.
    pub alpha: Alpha,
    /// Vision block whose CLS attention locates content; negative counts from the end.
    pub init_layer: i32,
    /// Vision block whose CLS attention ranks patches; negative counts from the end. `None`: the last one that the
    /// image features need.
    pub final_layer: Option<i32>,
    /// How the heads of these blocks are combined.
    pub heads: Heads,
    /// The kind of score. `None`: the class token's attention if the tower has one, otherwise the attention received.
    pub score: Option<Score>,
    /// Seed of the method [`Method::Random`]; the same seed keeps the same patches.
    pub seed: u64,
    /// Parameters of individual methods.
    pub tuning: Tuning,
    /// Use HiRED's exact rule and only encode sub-images that get at least a quarter of their tokens, as far as these
    /// can hold the budget. For models that encode sub-images independently (InternVL).
    pub lazy_tiles: bool,
    /// Row separators. `None`: all if every patch enters the decoder, otherwise none.
    pub newlines: Option<Newlines>,
}

setters! {
    Selection {
        with_method(method: Method);
        with_budget(budget: Budget);
        with_rule(rule: Rule);
        with_alpha(alpha: Alpha);
        with_init_layer(init_layer: i32);
        with_final_layer(final_layer: impl Into<Option<i32>>);
        with_heads(heads: Heads);
        with_score(score: impl Into<Option<Score>>);
        with_seed(seed: u64);
        with_tuning(tuning: Tuning);
        with_lazy_tiles(lazy_tiles: bool);
        with_newlines(newlines: impl Into<Option<Newlines>>);
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            method: Method::default(),
            budget: Budget::Percent(20_000_000),
            rule: Rule::default(),
            alpha: Alpha::default(),
            init_layer: 0,
            final_layer: None,
            heads: Heads::default(),
            score: None,
            seed: 0,
            tuning: Tuning::default(),
            lazy_tiles: false,
            newlines: None,
        }
    }
}

impl Selection {
    /// The options that have an effect on the result.
    #[doc(hidden)]
    pub fn parts(&self) -> Parts {
        if self.keeps_everything() {
            return Parts::default();
        }
        // FasterVLM is HiRED with one of its rules, and ignores the rule option.
        Parts { rule: self.method == Method::Hired, ..self.method.with(self).parts() }
    }

    /// Returns true if nothing is dropped.
    pub fn keeps_everything(&self) -> bool {
        self.method == Method::Full || self.budget == Budget::Full
    }

    /// Returns true if every patch enters the decoder.
    #[doc(hidden)]
    pub fn enters_whole(&self) -> bool {
        self.keeps_everything() || self.method == Method::FastV
    }

    /// Row separators, as requested or by default.
    pub fn newlines(&self) -> Newlines {
        let default = if self.enters_whole() { Newlines::All } else { Newlines::None };
        self.newlines.unwrap_or(default)
    }
}

/// Implements `FromStr` and `Display` for a plain enum with the given names.
macro_rules! named {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(Error::Request(format!(
                        "unknown {} `{}`: give one of {}", $what, $crate::error::excerpt(text, $crate::error::QUOTED), [$($name),+].join(", ")
                    ))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $name),+ })
            }
        }
    };
}

pub(super) use named;

named!(Rule, "rule", Exact = "exact", Paper = "paper", Repo = "repo", Equal = "equal");
named!(Counting, "count", Adaptive = "adaptive", Budget = "budget");
named!(Spacing, "spacing", Even = "even", Stride = "stride");
named!(Newlines, "newlines", All = "all", None = "none");
