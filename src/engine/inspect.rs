//! What a checkpoint is and what it will need, without reading a weight.

use super::predict::{Held, Predictor};
use super::prepare::{Prepared, PreparedImage, plan};
use super::request::EngineOptions;
use crate::checkpoint::{Checkpoint, DType};
use crate::config::{Architecture, ModelConfig, ModelFolder};
use crate::image::{Layout, Normalization, Tiles};
use crate::kv;
use crate::ops::sample::Sampling;
use crate::select::{Budget, Selection};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The picture that figures without an image are about.
const PICTURE: usize = 672;
/// Its prompt, beside the image.
const TEXT_TOKENS: usize = 60;
/// Its answer.
const NEW_TOKENS: usize = 128;

/// A checkpoint and its needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Needs at several budgets, for a picture of 672×672 pixels, 60 tokens of text and up to 128 new ones; shares
    /// that come to no token are left out.
    pub budgets: Vec<BudgetNeed>,
}

/// What one budget needs; bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetNeed {
    /// As typed.
    pub budget: String,
    /// Rows that the image takes in the prompt, newlines included.
    pub visual_tokens: usize,
    /// Weights copied out of the files.
    pub weights: usize,
    /// Weights used where the files are mapped, which `peak` leaves out.
    pub mapped: usize,
    /// Keys and values.
    pub kv: usize,
    /// The most activations and scratch at one moment.
    pub workspace: usize,
    /// The most of weights, keys and values, and workspace at one moment.
    pub peak: usize,
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
    let ModelFolder { dir, config } = ModelFolder::open(path.as_ref())?;
    let checkpoint = Checkpoint::open(&dir)?;
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
    let footprint = options.footprint();
    let mut predictor = Predictor::new(&config, footprint, &checkpoint)?;
    let norm = Normalization::new(&config.image, options.resample);
    let mut budgets = Vec::new();
    for budget in ["full", "40%", "30%", "20%", "10%"] {
        let selection = Selection { budget: budget.parse::<Budget>()?, ..selection.clone() };
        let prepared = match imagine(&config, &selection) {
            // A small model's smallest shares come to no token.
            Err(Error::Request(_)) if !budgets.is_empty() => continue,
            prepared => prepared?,
        };
        let image = prepared.image.as_ref().expect("imagined with an image");
        predictor.require(image, &checkpoint)?;
        let need =
            predictor.need(&config, &norm, std::slice::from_ref(&prepared), Held::default())?;
        let (weights, mapped) = predictor.weights();
        budgets.push(BudgetNeed {
            budget: budget.into(),
            visual_tokens: image.plan.kept + image.plan.newlines,
            weights,
            mapped,
            kv: need.kv,
            workspace: need.workspace,
            peak: need.peak,
        });
    }
    let page = kv::Shape::new(&config.text, 1);
    Ok(Inspection {
        architecture: match config.architecture {
            Architecture::LlavaNext => "LlavaNextForConditionalGeneration",
            Architecture::Llava => "LlavaForConditionalGeneration",
        },
        parameters,
        dtype: formats.iter().max_by_key(|(_, bytes)| **bytes).map_or("none", |(name, _)| name),
        bytes: formats.values().sum(),
        kv_bytes_per_token: page.elements() / kv::PAGE * footprint.cache_number(),
        budgets,
    })
}

/// The request that figures without an image are about.
fn imagine(config: &ModelConfig, selection: &Selection) -> Result<Prepared> {
    let layout = Layout::new(PICTURE, PICTURE, &config.image)?;
    let (plan, layers) = plan(config, &layout, selection)?;
    let tiles = Tiles { layout, pixels: Vec::new() };
    Ok(Prepared {
        before: vec![0; TEXT_TOKENS],
        after: Vec::new(),
        image: Some(PreparedImage { tiles, plan, layers }),
        max_new_tokens: NEW_TOKENS,
        sampling: Sampling::default(),
        ignore_eos: false,
        keep_stages: false,
        took: Duration::ZERO,
    })
}
