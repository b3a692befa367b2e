//! Where a model comes from: a folder, or random numbers.

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

/// A model before its weights are taken.
pub struct Origin {
    pub config: ModelConfig,
    pub weights: Weights,
}

/// What weights are taken from.
pub enum Weights {
    /// Files of a folder.
    Stored(PathBuf, Checkpoint),
    /// Numbers that are made when they are taken.
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

    /// What turns requests into numbers, and the weights for blocks that are needed later.
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
    /// Bytes of a weight as it is stored.
    pub fn bytes(&self, wanted: &Wanted<'_>) -> Result<usize> {
        match self {
            Self::Stored(_, checkpoint) => Ok(wanted.of(checkpoint)?.bytes().len()),
            Self::Synthetic(_) => {
                Ok(wanted.taken().iter().product::<usize>() * size_of::<half::f16>())
            }
        }
    }

    /// Fails if files in use have been changed.
    pub fn check_unchanged(&self) -> Result<()> {
        match self {
            Self::Stored(_, checkpoint) => checkpoint.check_unchanged(),
            Self::Synthetic(_) => Ok(()),
        }
    }

    /// Whether they take memory even where an executor uses them in place.
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
