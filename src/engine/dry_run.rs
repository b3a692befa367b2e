//! A request on a model without weights, a picture or a device: what can be said of them beforehand.

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

/// Width and height of the picture.
const PICTURE: usize = 672;
/// Its prompt, beside the image.
const TEXT_TOKENS: usize = 60;
/// Its answer.
pub const NEW_TOKENS: usize = 128;

/// The request that figures without an image are about, in words.
pub fn typical_request() -> String {
    format!(
        "an image of {PICTURE}×{PICTURE} pixels, {TEXT_TOKENS} tokens of text, up to {NEW_TOKENS} new ones"
    )
}

/// Which model.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A Hugging Face folder.
    Folder(&'a Path),
    /// An architecture that there need be no files of.
    Preset(Preset),
}

/// What one budget needs; bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
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

/// A model that is only counted.
pub struct DryRun {
    pub config: ModelConfig,
    pub footprint: Footprint,
    pub predictor: Predictor,
    source: Box<dyn Source<Counter>>,
    norm: Normalization,
}

impl DryRun {
    /// A model that takes memory as `options` say.
    pub fn new(subject: Subject<'_>, options: &EngineOptions) -> Result<Self> {
        match subject {
            Subject::Folder(path) => {
                let (ModelFolder { config, .. }, checkpoint) =
                    checkpoint::open_with(path, Access::default(), options.quantization)?;
                Self::of(config, Box::new(checkpoint), options)
            }
            // As presets are written.
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
        // Numbers of the picture play no part.
        let norm = Normalization::new(&config.image, Resample::default());
        Ok(Self { config, footprint, predictor, source, norm })
    }

    /// The typical request with another length of its answer.
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

    /// What requests need together; the predictor's counter then has what they cost.
    pub fn need(&mut self, batch: &[Prepared]) -> Result<Need> {
        self.need_in(batch, &room_for([batch].into_iter()))
    }

    /// The same in caches of this room.
    pub fn need_in(&mut self, batch: &[Prepared], room: &Room) -> Result<Need> {
        for image in batch.iter().flat_map(|p| &p.images) {
            self.predictor.require(image, &*self.source)?;
        }
        self.predictor.need(&self.config, &self.norm, batch, room, Held::default())
    }

    /// What the typical request needs at a budget.
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

    /// Bytes of the keys and values that there is room for.
    pub fn bytes(&self, room: &Room) -> usize {
        let shapes = room.shapes(&self.config.text);
        let numbers: usize = shapes.iter().map(Shape::elements).sum();
        numbers * self.footprint.cache_format().size()
    }
}
