//! What a checkpoint is and what it will need, without reading a weight.

use super::dry_run::{BudgetNeed, DryRun};
use super::request::EngineOptions;
use crate::checkpoint::{self, DType};
use crate::config::{Architecture, ModelFolder};
use crate::kv::{PAGE, Room};
use crate::select::Selection;
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A checkpoint and its needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The class name in `config.json`.
    pub architecture: &'static str,
    /// Numbers in all tensors of the files.
    pub parameters: u64,
    /// Format of most of them: `f16`, `bf16` or `f32`.
    pub dtype: &'static str,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Bytes of keys and values for one token of context.
    pub kv_bytes_per_token: usize,
    /// Needs of the [typical request](super::typical_request) at several budgets; shares that come to no token are left
    /// out.
    pub budgets: Vec<BudgetNeed>,
}

/// Inspects a model folder for the device and formats of `options` and the given selection;
/// its budget is replaced by full, 40%, 30%, 20% and 10% in turn.
///
/// # Errors
/// As [`super::Engine::load`].
pub fn inspect(
    path: impl AsRef<Path>,
    options: &EngineOptions,
    selection: &Selection,
) -> Result<Inspection> {
    let (ModelFolder { config, .. }, checkpoint) = checkpoint::open(path.as_ref())?;
    let mut parameters = 0;
    let mut formats: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        parameters += tensor.elements() as u64;
        let format = match tensor.dtype {
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
        };
        *formats.entry(format).or_default() += tensor.bytes().len() as u64;
    }
    let architecture = match config.architecture {
        Architecture::LlavaNext => "LlavaNextForConditionalGeneration",
        Architecture::Llava => "LlavaForConditionalGeneration",
    };
    let mut dry_run = DryRun::of(config, Box::new(checkpoint), options)?;
    let mut budgets = Vec::new();
    for budget in ["full", "40%", "30%", "20%", "10%"] {
        match dry_run.budget(budget, selection) {
            // A small model's smallest shares come to no token.
            Err(Error::Request(_)) if !budgets.is_empty() => {}
            need => budgets.push(need?),
        }
    }
    Ok(Inspection {
        architecture,
        parameters,
        dtype: formats.iter().max_by_key(|(_, bytes)| **bytes).map_or("none", |(name, _)| name),
        bytes: formats.values().sum(),
        kv_bytes_per_token: dry_run.bytes(&Room::whole(1)) / PAGE,
        budgets,
    })
}
