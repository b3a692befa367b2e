//! The source of a model: a folder, or random weights.

use super::prepare::Preparer;
use super::request::EngineOptions;
use crate::Result;
use crate::checkpoint::synth::Synthetic;
use crate::checkpoint::{self, Access, Checkpoint};
use crate::config::{ModelConfig, ModelFolder};
use crate::model::{Source, Wanted};
use crate::ops::{Ops, Storage};
use crate::quant::Quantization;
use std::path::{Path, PathBuf};

/// A model before its weights are loaded.
pub struct Origin {
    pub config: ModelConfig,
    pub weights: Weights,
}

/// The source of weights.
pub enum Weights {
    /// The files of a folder.
    Stored(PathBuf, Checkpoint),
    /// Random weights, generated when they are loaded.
    Synthetic(Synthetic),
}

impl Origin {
    /// A Hugging Face folder.
    pub fn folder(path: &Path, access: Access, quantization: Option<Quantization>) -> Result<Self> {
        let (ModelFolder { dir, config }, checkpoint) =
            checkpoint::open_with(path, access, quantization)?;
        Ok(Self { config, weights: Weights::Stored(dir, checkpoint) })
    }

    /// An architecture with random weights.
    pub fn synthetic(synthetic: Synthetic) -> Result<Self> {
        let config = synthetic.preset.config()?;
        Ok(Self { config, weights: Weights::Synthetic(synthetic) })
    }

    /// Splits into the part that prepares requests and the weights, some of which are only loaded when needed.
    pub fn into_parts(self, options: &EngineOptions) -> Result<(Preparer, Weights)> {
        let Self { config, weights } = self;
        let preparer = match &weights {
            Weights::Stored(dir, _) => Preparer::open(dir, config, options)?,
            Weights::Synthetic(s) => Preparer::synthetic(s.preset, config, options)?,
        };
        Ok((preparer, weights))
    }
}

impl Weights {
    /// Bytes of a weight in its stored format.
    pub fn bytes(&self, wanted: &Wanted<'_>) -> Result<usize> {
        match self {
            Self::Stored(_, checkpoint) => Ok(wanted.of(checkpoint)?.bytes().len()),
            Self::Synthetic(_) => {
                Ok(wanted.taken().iter().product::<usize>() * size_of::<half::f16>())
            }
        }
    }

    /// Fails if weight files have changed since they were opened.
    pub fn check_unchanged(&self) -> Result<()> {
        match self {
            Self::Stored(_, checkpoint) => checkpoint.check_unchanged(),
            Self::Synthetic(_) => Ok(()),
        }
    }

    /// Returns true if the weights take memory even where an executor uses them in place.
    pub fn take_memory(&self) -> bool {
        matches!(self, Self::Synthetic(_))
    }
}

impl<O: Ops> Source<O> for Weights {
    fn take(&self, ops: &mut O, wanted: &Wanted<'_>, storage: Storage) -> Result<O::Weight> {
        match self {
            Self::Stored(_, checkpoint) => checkpoint.take(ops, wanted, storage),
            Self::Synthetic(synthetic) => {
                let recipe = synthetic.recipe(wanted.name, wanted.shape);
                let recipe = match &wanted.rows {
                    Some(rows) => recipe.rows(rows.clone())?,
                    None => recipe,
                };
                ops.synthesize(&recipe, storage)
            }
        }
    }
}
