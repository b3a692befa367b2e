//! What a request asks for.

use std::fmt;
use std::str::FromStr;

use super::budget::{Alpha, Budget, Factor};
use super::dropping::Parts;
use super::heads::Heads;
use super::method::Method;
use super::score::Score;
use crate::setters::setters;
use crate::{Error, Result};

/// How HiRED counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Rule {
    /// Exactly min(budget, valid) tokens, padding never kept, whole-number arithmetic.
    #[default]
    Exact,
    /// The published paper: floors and loses what is left over.
    Paper,
    /// The published code: the most attended patches of the full image, counted in raster chunks.
    Repo,
    /// Every partition as many as every other, as far as it has valid patches; exactly min(budget, valid) tokens.
    Equal,
}

/// Whether `image_newline` tokens end the canvas rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newlines {
    /// One after every valid canvas row, also a row that kept nothing.
    All,
    /// None.
    None,
}

/// How many tokens PruMerge keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Counting {
    /// As many as stand out in each partition, together at most the budget.
    #[default]
    Adaptive,
    /// HiRED's budgets, by its exact rule.
    Budget,
}

/// Which patches `spatial` keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Spacing {
    /// Exactly the budget, at even distances among the valid patches.
    #[default]
    Even,
    /// Every so many-th patch of each partition, padding among them, as HiRED's published code does: what falls into
    /// padding is lost, and up to twice the budget is kept.
    Stride,
}

/// Parameters of single methods; as published by default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// `spatial`: which patches.
    pub spatial: Spacing,
    /// PruMerge: how many tokens.
    pub prumerge: Counting,
    /// PruMerge: patches merged into each kept one.
    pub neighbours: usize,
    /// PruMerge: attention stands out from so many times the distance of the quartiles above the third one on.
    pub outliers: Factor,
    /// VisionZip: the contextual rows' share of each partition's rows.
    pub contextual: Alpha,
    /// SCOPE: the exponent of attention.
    pub saliency: Factor,
    /// The vision block whose keys say what is alike; negative counts from the end. `None`: the last one for PruMerge,
    /// the last one that the features need for VisionZip.
    pub key_layer: Option<i32>,
    /// FastV: the decoder's layers that see every visual row, 1 or more.
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

/// What to keep of an image. The default is HiRED's exact rule at a fifth of all patches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selection {
    /// How tokens are dropped.
    pub method: Method,
    /// How many may stay.
    pub budget: Budget,
    /// How HiRED counts.
    pub rule: Rule,
    /// The full image's share of the budget.
    pub alpha: Alpha,
    /// Vision block whose CLS attention scores content; negative counts from the end.
    pub init_layer: i32,
    /// Vision block whose CLS attention ranks patches; negative counts from the end.
    /// `None`: the last one that the features need.
    pub final_layer: Option<i32>,
    /// How the heads of these blocks become one score.
    pub heads: Heads,
    /// What scores are made of. `None`: the class token's attention where there is one, else what patches receive.
    pub score: Option<Score>,
    /// Of the method [`Method::Random`]: same seed, same patches.
    pub seed: u64,
    /// Of single methods.
    pub tuning: Tuning,
    /// HiRED's exact rule, with which only sub-images that get at least a quarter of their tokens are encoded, as far as these
    /// can hold the budget; of models that read sub-images one by one (InternVL).
    pub lazy_tiles: bool,
    /// Newline tokens. `None`: all when every patch enters the decoder by request, else none.
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
    /// Which options play a part in what is kept.
    #[doc(hidden)]
    pub fn parts(&self) -> Parts {
        if self.keeps_everything() {
            return Parts::default();
        }
        // FasterVLM is HiRED by one of its rules, and has no others.
        Parts { rule: self.method == Method::Hired, ..self.method.with(self).parts() }
    }

    /// Whether nothing is to be dropped.
    pub fn keeps_everything(&self) -> bool {
        self.method == Method::Full || self.budget == Budget::Full
    }

    /// Whether every patch enters the decoder by request.
    #[doc(hidden)]
    pub fn enters_whole(&self) -> bool {
        self.keeps_everything() || self.method == Method::FastV
    }

    /// Newline tokens, as asked for or by default.
    pub fn newlines(&self) -> Newlines {
        let default = if self.enters_whole() { Newlines::All } else { Newlines::None };
        self.newlines.unwrap_or(default)
    }
}

/// Names as typed: `FromStr` and `Display` of a plain enum.
macro_rules! named {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(Error::Request(format!(
                        "unknown {} `{text}`: give one of {}", $what, [$($name),+].join(", ")
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
