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

/// One row per method: its name on the command line and its constructor.
macro_rules! methods {
    ($($(#[$about:meta])+ $variant:ident = $name:literal, $make:expr;)+) => {
        /// The methods of dropping image tokens; `docs/methods.md` in the repository compares them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub enum Method {
            $($(#[$about])+ $variant),+
        }

        impl Method {
            /// All methods.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Creates the method with the parameters of a selection.
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
    /// HiRED (Arif et al., AAAI 2025): the early CLS attention in the full image splits the budget among the
    /// sub-images, and each partition keeps the patches that its late CLS attention ranks highest.
    #[default]
    Hired = "hired", Hired::new;
    /// Drops nothing; the budget is ignored.
    Full = "full", |_| Full;
    /// Baseline: evenly spaced patches in raster order, see [`Tuning::spatial`](super::Tuning::spatial).
    Spatial = "spatial", Uniform::spatial;
    /// Baseline: random patches with [`Selection::seed`], with the same number per partition as `spatial` by default.
    Random = "random", |selection| Uniform::Random(selection.seed);
    /// FasterVLM (Zhang et al., 2024): HiRED's ranking with equal budgets.
    FasterVlm = "fastervlm", Hired::equal;
    /// PruMerge (Shang et al., 2024): keeps patches with outlying attention and merges similar ones into them.
    PruMerge = "prumerge", PruMerge::new;
    /// PruMerge+: PruMerge with additional, evenly spaced patches.
    PruMergePlus = "prumerge+", PruMerge::plus;
    /// VisionZip (Yang et al., CVPR 2025): keeps the most attended patches, and contextual tokens that summarise the
    /// rest.
    VisionZip = "visionzip", VisionZip::new;
    /// DivPrune (Alvar et al., CVPR 2025): keeps patches that are as dissimilar as possible.
    DivPrune = "divprune", |_| DivPrune;
    /// SCOPE (Deng et al., NeurIPS 2025): keeps patches that are attended to and that represent many others.
    Scope = "scope", Scope::new;
    /// GlobalCom² (Liu et al., AAAI 2026): the full image's class attention before the softmax determines how many
    /// patches each sub-image keeps and, with the sub-image's own, which.
    GlobalCom2 = "globalcom2", GlobalCom2::new;
    /// FastV (Chen et al., ECCV 2024): every patch enters the language model, and its later layers see those that the
    /// prompt's last token attends to most.
    FastV = "fastv", FastV::new;
}
