//! The table of methods.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::divprune::DivPrune;
use super::dropping::Dropping;
use super::fastv::FastV;
use super::globalcom2::GlobalCom2;
use super::hired::Hired;
use super::prumerge::PruMerge;
use super::scope::Scope;
use super::selection::Selection;
use super::uniform::{Full, Uniform};
use super::visionzip::VisionZip;
use crate::{Error, Result};

/// One row for each method: its name as typed, and how it is made of a request.
macro_rules! methods {
    ($($(#[$about:meta])+ $variant:ident = $name:literal, $make:expr;)+) => {
        /// How visual tokens are dropped; the repository's `docs/methods.md` puts the methods beside each other.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub enum Method {
            $($(#[$about])+ $variant),+
        }

        impl Method {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// With the parameters of a request.
            #[doc(hidden)]
            pub fn with(self, selection: &Selection) -> Arc<dyn Dropping> {
                let parameters = selection;
                match self {
                    $(Self::$variant => {
                        let make: fn(&Selection) -> _ = $make;
                        Arc::new(make(parameters))
                    })+
                }
            }
        }

        super::selection::named!(Method, "method", $($variant = $name),+);
    };
}

methods! {
    /// HiRED (Arif et al., AAAI 2025): the full image's early CLS attention shares the budget out among the
    /// sub-images, each partition keeps the patches that its late CLS attention ranks highest.
    #[default]
    Hired = "hired", Hired::new;
    /// Nothing is dropped; the budget plays no part.
    Full = "full", |_| Full;
    /// Patches at even distances in raster order, [`Tuning::spatial`](super::Tuning::spatial) says which: what a method
    /// must beat.
    Spatial = "spatial", Uniform::spatial;
    /// Any patches, by [`Selection::seed`], as many of each partition as `spatial` by default.
    Random = "random", |selection| Uniform::Random(selection.seed);
    /// FasterVLM (Zhang et al., 2024): HiRED's ranking with equal budgets.
    FasterVlm = "fastervlm", Hired::equal;
    /// PruMerge (Shang et al., 2024): what stands out, with what is like it merged into it.
    PruMerge = "prumerge", PruMerge::new;
    /// PruMerge+: and patches at even distances.
    PruMergePlus = "prumerge+", PruMerge::plus;
    /// VisionZip (Yang et al., CVPR 2025): the most attended patches, and rows that sum up the rest.
    VisionZip = "visionzip", VisionZip::new;
    /// DivPrune (Alvar et al., CVPR 2025): patches as unlike each other as can be.
    DivPrune = "divprune", |_| DivPrune;
    /// SCOPE (Deng et al., NeurIPS 2025): patches that are attended to and stand for many others.
    Scope = "scope", Scope::new;
    /// GlobalCom² (Liu et al., AAAI 2026): the full image's class attention before the softmax says how much each sub-image
    /// keeps, and with the sub-image's own says what.
    GlobalCom2 = "globalcom2", GlobalCom2::new;
    /// FastV (Chen et al., ECCV 2024): every patch enters the language model, whose later layers see those that the
    /// prompt's last token attends to most.
    FastV = "fastv", FastV::new;
}
