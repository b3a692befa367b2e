//! Predicts the cost of a request on a model without weights, image or device.

use super::predict::{Held, Need, Predictor};
use super::prepare::{Prepared, PreparedImage, plan};
use super::request::EngineOptions;
use super::runner::room_for;
use crate::Result;
use crate::checkpoint::synth::Preset;
use crate::checkpoint::{self, Access};
use crate::config::{ModelConfig, ModelFolder};
use crate::format::Format;
use crate::image::{Layout, Normalization, Resample, Tiles};
use crate::kv::{Room, Shape};
use crate::model::{Imagined, Source};
use crate::ops::count::Counter;
use crate::ops::footprint::Footprint;
use crate::ops::sample::Sampling;
use crate::select::{Budget, Selection};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Width and height of the typical request's image in pixels.
const PICTURE: usize = 672;
/// Text tokens of the typical request.
const TEXT_TOKENS: usize = 60;
/// The largest number of new tokens of the typical request.
pub const NEW_TOKENS: usize = 128;

/// Describes the request that is assumed where no image is given.
pub fn typical_request() -> String {
    format!(
        "an image of {PICTURE}×{PICTURE} pixels, {TEXT_TOKENS} tokens of text, up to {NEW_TOKENS} new ones"
    )
}

/// The model to plan for.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A Hugging Face folder.
    Folder(&'a Path),
    /// A known architecture, without any files.
    Preset(Preset),
}

/// The memory that one budget needs, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BudgetNeed {
    /// The budget as the caller gave it.
    pub budget: String,
    /// Rows of the image in the prompt, row separators included.
    pub visual_tokens: usize,
    /// Weights copied out of the files.
    pub weights: usize,
    /// Weights used in place from memory-mapped files; not part of `peak`.
    pub mapped: usize,
    /// The key/value cache.
    pub kv: usize,
    /// The largest amount of activations and scratch memory at any time.
    pub workspace: usize,
    /// The largest sum of weights, cache and workspace at any time.
    pub peak: usize,
}

/// A model that is only counted, not computed.
pub struct DryRun {
    pub config: ModelConfig,
    pub footprint: Footprint,
    pub predictor: Predictor,
    source: Box<dyn Source<Counter>>,
    norm: Normalization,
}

impl DryRun {
    /// A model whose memory follows `options`.
    pub fn new(subject: Subject<'_>, options: &EngineOptions) -> Result<Self> {
        match subject {
            Subject::Folder(path) => {
                let (ModelFolder { config, .. }, checkpoint) =
                    checkpoint::open_with(path, Access::default(), options.quantization)?;
                Self::of(config, Box::new(checkpoint), options)
            }
            // Presets are written in f16.
            Subject::Preset(preset) => Self::of(
                preset.config()?,
                Box::new(Imagined { format: Format::F16, quantization: options.quantization }),
                options,
            ),
        }
    }

    pub fn of(
        config: ModelConfig,
        source: Box<dyn Source<Counter>>,
        options: &EngineOptions,
    ) -> Result<Self> {
        let footprint = options.footprint()?;
        let predictor = Predictor::new(&config, footprint, &*source)?;
        // Pixel values have no effect on the cost.
        let norm = Normalization::new(&config.image, Resample::default());
        Ok(Self { config, footprint, predictor, source, norm })
    }

    /// The typical request with another number of new tokens.
    pub fn request(&self, selection: &Selection, max_new_tokens: usize) -> Result<Prepared> {
        let layout = Layout::new(PICTURE, PICTURE, &self.config.image)?;
        let (plan, layers) = plan(&self.config, &layout, selection)?;
        let tiles = Tiles { layout, pixels: Vec::new() };
        Ok(Prepared {
            texts: vec![vec![0; TEXT_TOKENS], Vec::new()],
            images: vec![PreparedImage { tiles: tiles.into(), plan, layers }],
            max_new_tokens,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_eos: false,
            keep_stages: false,
            took: Duration::ZERO,
        })
    }

    /// The memory that requests need together. Afterwards the predictor's counter holds their cost.
    pub fn need(&mut self, batch: &[Prepared]) -> Result<Need> {
        self.need_in(batch, &room_for([batch].into_iter()))
    }

    /// The same, in caches of the given size.
    pub fn need_in(&mut self, batch: &[Prepared], room: &Room) -> Result<Need> {
        for image in batch.iter().flat_map(|p| &p.images) {
            self.predictor.require(image, &*self.source)?;
        }
        self.predictor.need(&self.config, &self.norm, batch, room, Held::default())
    }

    /// The memory of the typical request with the given budget.
    pub fn budget(&mut self, typed: &str, selection: &Selection) -> Result<BudgetNeed> {
        let selection = Selection { budget: typed.parse::<Budget>()?, ..selection.clone() };
        let request = self.request(&selection, NEW_TOKENS)?;
        let need = self.need(std::slice::from_ref(&request))?;
        let (weights, mapped) = self.predictor.weights();
        let image = &request.images[0];
        Ok(BudgetNeed {
            budget: typed.into(),
            visual_tokens: image.plan.rows + image.plan.newlines,
            weights,
            mapped,
            kv: need.kv,
            workspace: need.workspace,
            peak: need.peak,
        })
    }

    /// Bytes of a key/value cache of the given size.
    pub fn bytes(&self, room: &Room) -> usize {
        let shapes = room.shapes(&self.config.text);
        let numbers: usize = shapes.iter().map(Shape::elements).sum();
        numbers * self.footprint.cache_format().size()
    }
}
