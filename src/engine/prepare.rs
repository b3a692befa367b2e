//! Prepares requests: everything that the host can compute before the model runs.

use super::placeholder::Placeholder;
use super::request::{EngineOptions, Image, Prompt, Request};
use crate::checkpoint::synth::Preset;
use crate::config::{Architecture, ModelConfig};
use crate::image::{self, Layout, MAX_PIXELS, Normalization, Resample, RgbImage, Tiles};
use crate::model::vit::{Layers, resolve};
use crate::ops::sample::Sampling;
use crate::select::{self, Geometry, Late, Layer, Method, Plan, Rule, Score, Selection};
use crate::text::synth::tokenizer_json_with;
use crate::text::{ChatTemplate, SpecialTokens, Tokenizer};
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Prepares requests with a model's configuration, preprocessing, chat template and tokenizer.
#[derive(Debug)]
pub struct Preparer {
    pub config: ModelConfig,
    pub normalization: Normalization,
    pub tokenizer: Tokenizer,
    resample: Resample,
    max_pixels: usize,
    pub(super) template: ChatTemplate,
    pub(super) placeholder: Placeholder,
}

/// A prepared request.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Token ids before each image, then those after the last one.
    pub texts: Vec<Vec<u32>>,
    pub images: Vec<PreparedImage>,
    pub max_new_tokens: usize,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub ignore_eos: bool,
    pub keep_stages: bool,
    pub took: Duration,
}

/// A prepared image.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    pub tiles: Arc<Tiles>,
    pub plan: Plan,
    pub layers: Layers,
}

impl Prepared {
    /// Rows of the prompt; an upper bound if the plan is not exact.
    pub fn prompt_tokens(&self) -> usize {
        let visual: usize = self.images.iter().map(|i| i.plan.rows + i.plan.newlines).sum();
        self.text_tokens() + visual
    }

    /// Rows of the prompt that belong to no image.
    pub fn text_tokens(&self) -> usize {
        self.texts.iter().map(Vec::len).sum()
    }

    /// The row ranges of the images in the prompt, given the number of rows of each.
    pub fn image_rows(&self, slots: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
        let mut row = 0;
        let place = |(text, slots): (&Vec<u32>, usize)| {
            let first = row + text.len();
            row = first + slots;
            first..row
        };
        self.texts.iter().zip(slots).map(place).collect()
    }

    /// The distinct tokens that a repetition penalty applies to: those of the prompt including the image token, as in
    /// transformers.
    pub fn penalized(&self, image_token: u32) -> Vec<u32> {
        if !self.sampling.penalizes() {
            return Vec::new();
        }
        let image = self.images.first().map(|_| image_token);
        let mut ids: Vec<u32> = self.texts.iter().flatten().copied().chain(image).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Positions needed for the longest answer. The last token is not fed back.
    pub fn positions(&self) -> usize {
        self.prompt_tokens() + self.max_new_tokens - 1
    }

    /// What the decoder drops of the image; such requests have exactly one image.
    pub fn late(&self) -> Option<Late> {
        self.images.first().and_then(|image| image.plan.late)
    }

    /// Rows of the prompt that a decoder layer does not see.
    pub fn dropped(&self, layer: usize) -> usize {
        match (self.images.first(), self.late()) {
            (Some(image), Some(late)) if layer >= late.layer => {
                image.plan.rows + image.plan.newlines - late.rows
            }
            _ => 0,
        }
    }

    /// The rows of which the decoder drops some, and how many of them stay, if the image has `slots` rows.
    pub fn thinned(&self, slots: usize) -> Option<(Range<usize>, usize)> {
        let late = self.late()?;
        let first = self.texts[0].len();
        // The first token is generated from the prompt's last row, so that row stays even if it belongs to the image.
        let last = usize::from(self.texts[1].is_empty());
        Some((first..first + slots - last, late.rows - last))
    }

    /// Refuses requests that exceed the model's context.
    ///
    /// # Errors
    /// [`Error::Context`].
    pub fn check_positions(&self, config: &ModelConfig) -> Result<()> {
        let (prompt, new) = (self.prompt_tokens(), self.max_new_tokens);
        let limit = config.text.max_positions;
        if prompt.checked_add(new).is_some_and(|all| all <= limit) {
            return Ok(());
        }
        Err(Error::Context { prompt, new, limit })
    }
}

impl Preparer {
    pub fn open(dir: &Path, config: ModelConfig, options: &EngineOptions) -> Result<Self> {
        let tokenizer = Tokenizer::open(dir)?;
        let template = ChatTemplate::open(dir, config.text.family)?;
        Self::new(dir, config, tokenizer, template, &SpecialTokens::read(dir)?, options)
    }

    /// A preparer for a preset, without a folder.
    pub fn synthetic(preset: Preset, config: ModelConfig, options: &EngineOptions) -> Result<Self> {
        // Only used in error messages.
        let dir = Path::new(preset.name());
        let (template, settings) = preset.prompt_files();
        let special = SpecialTokens::parse(&settings, dir)?;
        let json = tokenizer_json_with(preset.vocab(), preset.image_token(), preset.image_tokens());
        let tokenizer = Tokenizer::parse(&json, dir, &special)?;
        let template = ChatTemplate::parse(&template, dir, &special.named)?;
        Self::new(dir, config, tokenizer, template, &special, options)
    }

    fn new(
        dir: &Path,
        config: ModelConfig,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        special: &SpecialTokens,
        options: &EngineOptions,
    ) -> Result<Self> {
        let placeholder = Placeholder::of(dir, &config, &tokenizer, special)?;
        let resample = Resample::of(&config.image, options.resample);
        let max_pixels = options.max_pixels.map_or(MAX_PIXELS, |most| most.min(MAX_PIXELS));
        let normalization = Normalization::new(&config.image, resample);
        Ok(Self { config, normalization, tokenizer, resample, max_pixels, template, placeholder })
    }

    /// Renders the folder's chat template for a user's prompt.
    pub fn render(&self, words: &str, with_image: bool) -> Result<String> {
        self.template.render(words, with_image)
    }

    pub fn prepare(&self, request: &Request) -> Result<Prepared> {
        let start = Instant::now();
        let images = request.images();
        let tiles = images.into_iter().map(|image| self.tiles(image)).collect::<Result<_>>()?;
        let mut prepared = self.prepare_on(request, tiles)?;
        prepared.took = start.elapsed();
        Ok(prepared)
    }

    /// Prepares a request with images that are already cut, in place of the request's own.
    pub fn prepare_on(&self, request: &Request, tiles: Vec<Arc<Tiles>>) -> Result<Prepared> {
        let start = Instant::now();
        if request.max_new_tokens == 0 {
            return Err(Error::Request("max_new_tokens is 0: ask for at least one token".into()));
        }
        if request.stop.iter().any(String::is_empty) {
            return Err(Error::Request("a stop text is empty: give at least one character".into()));
        }
        request.sampling.check()?;
        if tiles.is_empty() {
            check_layers(&self.config, &request.selection)?;
        }
        if self.config.architecture == Architecture::OneVision && tiles.len() > 1 {
            return Err(Error::Request(format!(
                "LLaVA-OneVision cuts one image into sub-images and sees several only whole, which is not computed; the \
                 request has {}: ask about one image at a time",
                tiles.len()
            )));
        }
        let ids = self.ids(request, tiles.len())?;
        let is_whole = matches!(request.prompt, Prompt::Raw(_) | Prompt::Ids(_));
        let texts = self.split(ids, tiles.len(), is_whole)?;
        let selections = self.selections(request, &tiles)?;
        let images = tiles.into_iter().zip(&selections);
        let images = images.map(|(tiles, selection)| self.plan(tiles, selection));
        let prepared = Prepared {
            texts,
            images: images.collect::<Result<_>>()?,
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

    /// The selection for each image.
    fn selections(&self, request: &Request, tiles: &[Arc<Tiles>]) -> Result<Vec<Selection>> {
        let selection = &request.selection;
        if selection.method == Method::FastV && tiles.len() > 1 {
            return Err(Error::Request(format!(
                "the method fastv drops rows of one image, the request has {}: use another method, or ask about one \
                 image at a time",
                tiles.len()
            )));
        }
        let Some(total) = request.budget_total else {
            return Ok(vec![selection.clone(); tiles.len()]);
        };
        let geometries = tiles.iter().map(|t| geometry(&self.config, &t.layout));
        let geometries = geometries.collect::<Result<Vec<_>>>()?;
        let budgets = total.shared(&geometries)?;
        Ok(budgets.into_iter().map(|budget| selection.clone().with_budget(budget)).collect())
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

    /// Replaces the selection of a prepared request.
    pub fn plan_again(&self, prepared: &mut Prepared, selection: &Selection) -> Result<()> {
        for image in &mut prepared.images {
            (image.plan, image.layers) = plan(&self.config, &image.tiles.layout, selection)?;
        }
        prepared.check_positions(&self.config)
    }
}

/// The geometry of an image with this layout.
pub fn geometry(config: &ModelConfig, layout: &Layout) -> Result<Geometry> {
    Geometry::of(layout, config)
}

/// Plans a selection for an image with this layout.
pub fn plan(
    config: &ModelConfig,
    layout: &Layout,
    selection: &Selection,
) -> Result<(Plan, Layers)> {
    check_layers(config, selection)?;
    check_lazy(config, selection)?;
    let plan = select::plan(&geometry(config, layout)?, selection)?;
    if config.pooled && (plan.needs.features || plan.needs.keys.is_some()) {
        return Err(Error::Request(format!(
            "{} looks at patches in front of the projector, and this model's tokens are made of four of them behind it \
             (projector_type ldpv2): take hired, fastervlm, divprune, fastv, spatial or random",
            selection.method
        )));
    }
    if config.cell > 1 && plan.needs.keys.is_some() {
        return Err(Error::Request(format!(
            "{} looks at the keys of single patches, but InternVL merges four patches into one token: use hired, fastervlm, \
             divprune, scope, fastv, spatial or random",
            selection.method
        )));
    }
    if plan.geometry.is_scaled() && (plan.needs.features || plan.needs.keys.is_some()) {
        return Err(Error::Request(format!(
            "{} looks at patches before the projector, but this image's tokens are resampled from several after it: \
             use hired, fastervlm, divprune, fastv, spatial or random, or a smaller image",
            selection.method
        )));
    }
    if !config.vision.class_token() && plan.needs.keys.is_some() {
        return Err(Error::Request(format!(
            "{} looks at the class token, which SigLIP's vision tower does not have: use hired, fastervlm, divprune, scope, \
             fastv, spatial or random",
            selection.method
        )));
    }
    if plan.needs.score == Score::Head && !config.vision.pooling_head {
        return Err(Error::Request(
            "score head: this checkpoint has no vision_tower.vision_model.head.*, its tower's pooling head was left out: take \
             received, which needs no more than the tower has"
                .into(),
        ));
    }
    let layers = Layers::of(&plan.needs, config)?;
    Ok((plan, layers))
}

/// Refuses lazy tiles for methods without per-partition scores and for models that combine sub-images.
fn check_lazy(config: &ModelConfig, selection: &Selection) -> Result<()> {
    if !selection.lazy_tiles {
        return Ok(());
    }
    let wrong = |what: &str| Err(Error::Request(format!("lazy tiles (--lazy-tiles) {what}")));
    if config.image.sub_images.is_none() {
        return wrong(
            "need a model that encodes sub-images independently (InternVL): leave it out",
        );
    }
    if selection.method != Method::Hired || selection.rule != Rule::Exact {
        return wrong("work only with HiRED's exact rule: leave out --method and --rule");
    }
    Ok(())
}

/// Refuses layers and heads that the model does not have, even if the method ignores them.
fn check_layers(config: &ModelConfig, selection: &Selection) -> Result<()> {
    resolve(selection.final_layer.into(), config, "final layer")?;
    resolve(Layer::At(selection.init_layer), config, "init layer")?;
    resolve(selection.tuning.key_layer.into(), config, "key layer")?;
    selection.heads.check(config.vision.heads)?;
    check_late(config, selection)
}

/// Refuses dropping in the decoder after a layer that does not exist, or after the last one.
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
            "fastv after layer {layer}: the decoder has {layers} layers, so use 1 to {}",
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
            what: "this build cannot decode image files: give RGB8 pixels, \
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
