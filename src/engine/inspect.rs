//! Describes a model folder and its memory needs without reading the weights.

use super::dry_run::{BudgetNeed, DryRun};
use super::prepare::Preparer;
use super::request::EngineOptions;
use crate::checkpoint::{self, Access};
use crate::config::{ModelConfig, ModelFolder};
use crate::kv::{PAGE, Room};
use crate::ops::footprint::Footprint;
use crate::select::Selection;
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A description of a model folder and of the memory it needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The class name in `config.json`.
    pub architecture: &'static str,
    /// Number of parameters in all weight files.
    pub parameters: u64,
    /// Number format of most parameters: `f16`, `bf16`, `f32`, `q8` or `q4`.
    pub dtype: &'static str,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Layers of the language model.
    pub layers: usize,
    /// Hidden size of the language model.
    pub hidden_size: usize,
    /// Hidden size of its MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Size of one attention head.
    pub head_dim: usize,
    /// Vocabulary size of the language model.
    pub vocabulary: usize,
    /// Context length in tokens, prompt and answer together.
    pub context: usize,
    /// The vision tower.
    pub vision: VisionInspection,
    /// Grids of sub-images as [rows, columns], from which the best one for an image is chosen; `None` for models
    /// without sub-images.
    pub grids: Option<Vec<[usize; 2]>>,
    /// The prompt that the chat template makes of an image and the question `{question}`.
    pub template: String,
    /// `cpu` or `cuda`: the device that `kv_bytes_per_token` and `budgets` are computed for.
    pub device: &'static str,
    /// Notes for the user: settings of the folder that are ignored.
    pub notes: Vec<String>,
    /// Bytes of keys and values per token of context.
    pub kv_bytes_per_token: usize,
    /// Memory needs of the [typical request](super::typical_request) at several budgets. Shares that round to no
    /// token are left out.
    pub budgets: Vec<BudgetNeed>,
}

/// A vision tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VisionInspection {
    /// Layers in the files.
    pub layers: usize,
    /// Layers that are computed for the image features.
    pub layers_used: usize,
    /// Hidden size.
    pub hidden_size: usize,
    /// Attention heads.
    pub heads: usize,
    /// Side of a partition in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Tokens per partition.
    pub tokens_per_partition: usize,
}

impl VisionInspection {
    fn of(config: &ModelConfig) -> Self {
        let vision = &config.vision;
        Self {
            layers: vision.layers,
            layers_used: config.feature_blocks,
            hidden_size: vision.hidden,
            heads: vision.heads,
            image_size: vision.image_size,
            patch_size: vision.patch_size,
            tokens_per_partition: config.tokens(),
        }
    }
}

/// Inspects a model folder for the device and formats of `options`. The budget of `selection` is replaced by full,
/// 40%, 30%, 20% and 10% in turn.
///
/// # Errors
/// As [`super::Engine::load`].
pub fn inspect(
    path: impl AsRef<Path>,
    options: &EngineOptions,
    selection: &Selection,
) -> Result<Inspection> {
    let (ModelFolder { dir, config }, checkpoint) =
        checkpoint::open_with(path.as_ref(), Access::default(), options.quantization)?;
    // Inspection must refuse everything that answering refuses.
    let preparer = Preparer::open(&dir, config.clone(), options)?;
    let template = preparer.render("{question}", true)?;
    let mut parameters = 0;
    let mut formats: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        // A scale is part of the quantized tensor it belongs to, not a parameter.
        if !checkpoint.is_scale(tensor) {
            parameters += tensor.elements() as u64;
        }
        *formats.entry(tensor.format.name()).or_default() += tensor.bytes().len() as u64;
    }
    for (format, numbers, bytes) in checkpoint.integer_weights() {
        parameters += numbers;
        *formats.entry(format.name()).or_default() += bytes;
    }
    let mut dry_run = DryRun::of(config, Box::new(checkpoint), options)?;
    let mut budgets = Vec::new();
    for budget in ["full", "40%", "30%", "20%", "10%"] {
        match dry_run.budget(budget, selection) {
            // For a small model the smallest shares round to no token.
            Err(Error::Request(_)) if !budgets.is_empty() => {}
            need => budgets.push(need?),
        }
    }
    let config = &dry_run.config;
    let (text, side) = (&config.text, config.image.side);
    let grids = match (&config.image.pinpoints, config.image.sub_images) {
        (Some(canvases), _) => {
            Some(canvases.iter().map(|(height, width)| [height / side, width / side]).collect())
        }
        (None, Some((least, most))) => Some(
            (least..=most)
                .flat_map(|count| (1..=count).map(move |columns| (count, columns)))
                .filter(|(count, columns)| count.is_multiple_of(*columns))
                .map(|(count, columns)| [count / columns, columns])
                .collect(),
        ),
        (None, None) => None,
    };
    Ok(Inspection {
        architecture: config.architecture.class(),
        layers: text.layers,
        hidden_size: text.hidden,
        intermediate_size: text.intermediate,
        heads: text.heads,
        kv_heads: text.kv_heads,
        head_dim: text.head_dim,
        vocabulary: text.vocab,
        context: text.max_positions,
        vision: VisionInspection::of(config),
        grids,
        template,
        device: match dry_run.footprint {
            Footprint::Cuda { .. } => "cuda",
            Footprint::Cpu { .. } => "cpu",
        },
        notes: config.ignored.clone(),
        parameters,
        dtype: formats.iter().max_by_key(|(_, bytes)| **bytes).map_or("none", |(name, _)| name),
        bytes: formats.values().sum(),
        kv_bytes_per_token: dry_run.bytes(&Room::whole(1)) / PAGE,
        budgets,
    })
}
