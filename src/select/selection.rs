//! What a request asks for.

use std::fmt;
use std::str::FromStr;

use super::budget::{Alpha, Budget};
use crate::{Error, Result};

/// How visual tokens are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// HiRED (Arif et al., AAAI 2025): the full image's early CLS attention shares the budget out among the
    /// sub-images, each partition keeps the patches that its late CLS attention ranks highest.
    #[default]
    Hired,
    /// Nothing is dropped; the budget plays no part.
    Full,
    /// Patches at even distances in raster order, in proportion to each partition's valid ones: what a method must beat.
    Spatial,
    /// Any patches, by [`Selection::seed`], as many of each partition as `spatial`.
    Random,
    /// FastV (Chen et al., "An image is worth 1/2 tokens after layer 2", ECCV 2024): see [`super::Late`].
    FastV,
}

/// How HiRED counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// Exactly min(budget, valid) tokens, padding never kept, whole-number arithmetic.
    #[default]
    Exact,
    /// The published paper: floors and loses what is left over.
    Paper,
    /// The published code: the most attended patches of the full image, counted in raster chunks.
    Repo,
}

/// Whether `image_newline` tokens end the canvas rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newlines {
    /// One after every valid canvas row, also a row that kept nothing.
    All,
    /// None.
    None,
}

/// What to keep of an image. The default is HiRED's exact rule at a fifth of all patches.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Of the method [`Method::Random`]: same seed, same patches.
    pub seed: u64,
    /// Of the method [`Method::FastV`]: the decoder's layers before the drop, 1 or more.
    pub fastv_layer: usize,
    /// Newline tokens. `None`: all when every patch enters the decoder by request, else none.
    pub newlines: Option<Newlines>,
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
            seed: 0,
            fastv_layer: 2,
            newlines: None,
        }
    }
}

impl Selection {
    /// Whether every patch enters the decoder by request.
    pub fn enters_whole(&self) -> bool {
        matches!(self.method, Method::Full | Method::FastV) || self.budget == Budget::Full
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

named!(
    Method,
    "method",
    Hired = "hired",
    Full = "full",
    Spatial = "spatial",
    Random = "random",
    FastV = "fastv"
);
named!(Rule, "rule", Exact = "exact", Paper = "paper", Repo = "repo");
named!(Newlines, "newlines", All = "all", None = "none");
