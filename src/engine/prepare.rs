//! From a request to numbers: everything that the host can know before the model runs.

use super::request::{EngineOptions, Image, Prompt, Request};
use crate::checkpoint::synth::Preset;
use crate::config::ModelConfig;
use crate::image::{self, Layout, MAX_PIXELS, Normalization, Resample, RgbImage, Tiles};
use crate::model::llava;
use crate::model::vit::{Layers, resolve};
use crate::ops::sample::Sampling;
use crate::select::{self, Geometry, Late, Layer, Method, Plan, Selection};
use crate::text::synth::tokenizer_json;
use crate::text::{ChatTemplate, SpecialTokens, Tokenizer};
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What turns requests into numbers: a folder's configuration, preprocessing, template and tokenizer.
#[derive(Debug)]
pub struct Preparer {
    pub config: ModelConfig,
    pub normalization: Normalization,
    pub tokenizer: Tokenizer,
    resample: Resample,
    max_pixels: usize,
    template: ChatTemplate,
}

/// A request in numbers.
#[derive(Debug)]
pub struct Prepared {
    pub before: Vec<u32>,
    pub after: Vec<u32>,
    pub image: Option<PreparedImage>,
    pub max_new_tokens: usize,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub ignore_eos: bool,
    pub keep_stages: bool,
    pub took: Duration,
}

/// An image in numbers.
#[derive(Debug)]
pub struct PreparedImage {
    pub tiles: Arc<Tiles>,
    pub plan: Plan,
    pub layers: Layers,
}

impl Prepared {
    /// Rows of the prompt; the most there can be when the plan is not exact.
    pub fn prompt_tokens(&self) -> usize {
        let visual = self.image.as_ref().map_or(0, |i| i.plan.rows + i.plan.newlines);
        self.before.len() + visual + self.after.len()
    }

    /// Tokens that a repetition penalty looks at, each once: transformers' are the prompt's, the image's own among them.
    pub fn penalized(&self, image_token: u32) -> Vec<u32> {
        if !self.sampling.penalizes() {
            return Vec::new();
        }
        let image = self.image.as_ref().map(|_| image_token);
        let mut ids: Vec<u32> =
            self.before.iter().chain(&self.after).copied().chain(image).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Positions when the answer is as long as it may get. The last token drawn is not fed back.
    pub fn positions(&self) -> usize {
        self.prompt_tokens() + self.max_new_tokens - 1
    }

    /// What the decoder drops of the image.
    pub fn late(&self) -> Option<Late> {
        self.image.as_ref().and_then(|image| image.plan.late)
    }

    /// Rows of the prompt that a layer of the decoder does not see.
    pub fn dropped(&self, layer: usize) -> usize {
        match (&self.image, self.late()) {
            (Some(image), Some(late)) if layer >= late.layer => {
                image.plan.rows + image.plan.newlines - late.rows
            }
            _ => 0,
        }
    }

    /// The rows of the prompt of which the decoder drops some, and how many of them stay. The image has `slots` rows.
    pub fn thinned(&self, slots: usize) -> Option<(Range<usize>, usize)> {
        let late = self.late()?;
        let first = self.before.len();
        // The answer begins with the prompt's last row, so that stays, also where it is the image's.
        let last = usize::from(self.after.is_empty());
        Some((first..first + slots - last, late.rows - last))
    }

    /// Refuses what the model has no positions for.
    ///
    /// # Errors
    /// [`Error::Capacity`] with the numbers.
    pub fn check_positions(&self, config: &ModelConfig) -> Result<()> {
        let (prompt, new) = (self.prompt_tokens(), self.max_new_tokens);
        let limit = config.text.max_positions;
        if prompt.checked_add(new).is_some_and(|all| all <= limit) {
            return Ok(());
        }
        Err(Error::Capacity(format!(
            "the prompt has {prompt} tokens and up to {new} new ones are asked for, \
             the model has {limit} positions: use a smaller budget or fewer new tokens"
        )))
    }

    /// Ids around the image.
    pub fn prompt(&self) -> llava::Prompt<'_> {
        llava::Prompt { before: &self.before, after: &self.after }
    }
}

impl Preparer {
    pub fn open(dir: &Path, config: ModelConfig, options: &EngineOptions) -> Result<Self> {
        let tokenizer = Tokenizer::open(dir)?;
        let template = ChatTemplate::open(dir, config.text.family)?;
        Self::new(dir, config, tokenizer, template, options)
    }

    /// For a preset without a folder.
    pub fn synthetic(preset: Preset, config: ModelConfig, options: &EngineOptions) -> Result<Self> {
        // Named in errors only.
        let dir = Path::new(preset.name());
        let (template, settings) = preset.prompt_files();
        let special = SpecialTokens::parse(&settings, dir)?;
        let json = tokenizer_json(preset.vocab(), preset.image_token());
        let tokenizer = Tokenizer::parse(&json, dir, &special)?;
        let template = ChatTemplate::parse(&template, dir, &special.named)?;
        Self::new(dir, config, tokenizer, template, options)
    }

    fn new(
        dir: &Path,
        config: ModelConfig,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        options: &EngineOptions,
    ) -> Result<Self> {
        if let Some(id) = tokenizer.token_id("<image>").filter(|&id| id != config.image_token) {
            return Err(Error::model(
                dir.join("tokenizer.json"),
                format!(
                    "<image> has id {id} here and {} in config.json (image_token_index): \
                     take both files from one model",
                    config.image_token
                ),
            ));
        }
        let resample = options.resample;
        let max_pixels = options.max_pixels.map_or(MAX_PIXELS, |most| most.min(MAX_PIXELS));
        let normalization = Normalization::new(&config.image, resample);
        Ok(Self { config, normalization, tokenizer, resample, max_pixels, template })
    }

    /// The prompt that the folder's template makes of the user's words.
    pub fn render(&self, words: &str, with_image: bool) -> Result<String> {
        self.template.render(words, with_image)
    }

    pub fn prepare(&self, request: &Request) -> Result<Prepared> {
        let start = Instant::now();
        let tiles = request.image.as_ref().map(|image| self.tiles(image)).transpose()?;
        let mut prepared = self.prepare_on(request, tiles)?;
        prepared.took = start.elapsed();
        Ok(prepared)
    }

    /// A request about an image that is cut already, whatever image the request has.
    pub fn prepare_on(&self, request: &Request, tiles: Option<Arc<Tiles>>) -> Result<Prepared> {
        let start = Instant::now();
        if request.max_new_tokens == 0 {
            return Err(Error::Request("max_new_tokens is 0: ask for at least one token".into()));
        }
        if request.stop.iter().any(String::is_empty) {
            return Err(Error::Request("a stop text is empty: give some words".into()));
        }
        request.sampling.check()?;
        if tiles.is_none() {
            check_layers(&self.config, &request.selection)?;
        }
        let ids = self.ids(request, tiles.is_some())?;
        let image = tiles.map(|tiles| self.plan(tiles, &request.selection)).transpose()?;
        let is_whole = !matches!(request.prompt, Prompt::User(_));
        let (before, after) = self.split(ids, image.is_some(), is_whole)?;
        let prepared = Prepared {
            before,
            after,
            image,
            max_new_tokens: request.max_new_tokens,
            sampling: request.sampling,
            stop: request.stop.clone(),
            ignore_eos: request.ignore_eos,
            keep_stages: request.keep_stages,
            took: start.elapsed(),
        };
        prepared.check_positions(&self.config)?;
        Ok(prepared)
    }

    pub fn image(&self, image: &Image, selection: &Selection) -> Result<PreparedImage> {
        self.plan(self.tiles(image)?, selection)
    }

    pub fn tiles(&self, image: &Image) -> Result<Arc<Tiles>> {
        let tiles =
            image::tiles(&decode(image, self.max_pixels)?, &self.config.image, self.resample)?;
        Ok(Arc::new(tiles))
    }

    fn plan(&self, tiles: Arc<Tiles>, selection: &Selection) -> Result<PreparedImage> {
        let (plan, layers) = plan(&self.config, &tiles.layout, selection)?;
        Ok(PreparedImage { tiles, plan, layers })
    }

    /// Plans another selection on a request's image.
    pub fn plan_again(&self, prepared: &mut Prepared, selection: &Selection) -> Result<()> {
        if let Some(image) = &mut prepared.image {
            (image.plan, image.layers) = plan(&self.config, &image.tiles.layout, selection)?;
        }
        prepared.check_positions(&self.config)
    }

    fn ids(&self, request: &Request, with_image: bool) -> Result<Vec<u32>> {
        match &request.prompt {
            Prompt::User(words) if request.literal => {
                let (marked, mark) = self.tokenizer.mark(words)?;
                let rendered = self.template.render(&marked, with_image)?;
                self.tokenizer.encode_marked(&rendered, mark)
            }
            _ if request.literal => Err(Error::Request(
                "only a user's words can be taken literally, this request has a whole prompt: leave out literal".into(),
            )),
            Prompt::User(words) => {
                self.tokenizer.encode_prompt(&self.template.render(words, with_image)?)
            }
            Prompt::Raw(text) => self.tokenizer.encode_prompt(text),
            Prompt::Ids(ids) => Ok(ids.clone()),
        }
    }

    /// Cuts the ids at the one image token.
    fn split(
        &self,
        mut ids: Vec<u32>,
        with_image: bool,
        is_whole: bool,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let vocab = self.config.text.vocab;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::Request(format!(
                "the prompt has token id {id}, the model has {vocab} tokens: \
                 tokenizer.json and config.json do not belong together, or the ids are another model's"
            )));
        }
        let image_token = self.config.image_token;
        let places: Vec<usize> = (0..ids.len()).filter(|&i| ids[i] == image_token).collect();
        match (places.as_slice(), with_image) {
            ([], false) => {
                if ids.is_empty() {
                    return Err(Error::Request("the prompt has no tokens: give some words".into()));
                }
                Ok((ids, Vec::new()))
            }
            (&[place], true) => {
                let after = ids.split_off(place + 1);
                ids.pop();
                Ok((ids, after))
            }
            (places, true) if places.len() > 1 && !is_whole => Err(Error::Request(format!(
                "the question holds `<image>`, which marks where the image goes, so the prompt has {} of them: leave \
                 it out of the question (the image is placed before it), have the question taken literally \
                 (--literal), or write the whole prompt yourself (--raw-prompt)",
                places.len(),
            ))),
            (&[_, ..], false) if !is_whole => Err(Error::Request(
                "the question holds `<image>`, which marks where an image goes, and the request has no image: give one, \
                 or have the question taken literally (--literal)".into(),
            )),
            (places, _) => Err(Error::Request(format!(
                "the prompt has {} image placeholders (<image>), the request has {}: \
                 they must be as many",
                places.len(),
                if with_image { "one image" } else { "no image" },
            ))),
        }
    }
}

/// What a selection comes to on an image of this layout.
pub fn plan(
    config: &ModelConfig,
    layout: &Layout,
    selection: &Selection,
) -> Result<(Plan, Layers)> {
    check_layers(config, selection)?;
    let geometry = Geometry::new(layout, config.vision.patch_size)?;
    let plan = select::plan(&geometry, selection)?;
    let layers = Layers::of(&plan.needs, config)?;
    Ok((plan, layers))
}

/// Refuses layers and heads that the model has not, also the tower's where they play no part.
fn check_layers(config: &ModelConfig, selection: &Selection) -> Result<()> {
    resolve(selection.final_layer.into(), config, "final layer")?;
    resolve(Layer::At(selection.init_layer), config, "init layer")?;
    resolve(selection.tuning.key_layer.into(), config, "key layer")?;
    selection.heads.check(config.vision.heads)?;
    check_late(config, selection)
}

/// Refuses to drop rows where no layer decides, or none is left.
fn check_late(config: &ModelConfig, selection: &Selection) -> Result<()> {
    let (layer, layers) = (selection.tuning.fastv_layer, config.text.layers);
    if selection.method != Method::FastV || (1..layers).contains(&layer) {
        return Ok(());
    }
    Err(Error::Request(match layers {
        0 | 1 => format!(
            "fastv drops tokens between two layers, the decoder has {layers}: use another method"
        ),
        _ => format!(
            "fastv after layer {layer}: the decoder has {layers} layers, of which 1 to {} can come before the drop",
            layers - 1
        ),
    }))
}

fn decode(image: &Image, max_pixels: usize) -> Result<RgbImage> {
    match image {
        #[cfg(feature = "image-formats")]
        Image::Encoded { name, bytes } => image::decode_within(bytes, name, max_pixels),
        #[cfg(not(feature = "image-formats"))]
        Image::Encoded { name, .. } => Err(Error::Image {
            name: name.clone(),
            what: "this build reads no image files: give RGB8 pixels, \
                   or build with the feature image-formats"
                .into(),
        }),
        Image::Rgb8 { width, height, pixels } => {
            image::check_pixels(*width, *height, max_pixels)
                .map_err(|what| Error::image("image", what))?;
            RgbImage::new(*width, *height, pixels.clone())
        }
    }
}
