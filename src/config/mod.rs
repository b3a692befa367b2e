//! Reads the JSON files of a Hugging Face model folder into one validated [`ModelConfig`].
//!
//! Absent keys have the defaults of transformers' configuration classes, because published LLaVA checkpoints leave
//! out most of `text_config`. Keys that were renamed over transformers' releases are read in both spellings.

mod decoder;
mod generation;
mod hub;
mod json;
mod model;
mod preprocessor;
mod quantization;
mod rope;
mod vision;

pub use hub::folder;
pub use rope::{Rope, RopeScaling};

use std::path::{Path, PathBuf};

use crate::quant::Packing;
use crate::{Result, files};

// The limits on sizes guarantee that their products fit 64 bits.
const _: () = assert!(usize::BITS >= 64, "models do not fit an address space of 32 bits");

/// The architecture of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `LlavaNextForConditionalGeneration` (LLaVA-v1.6): a full image and a grid of sub-images.
    LlavaNext,
    /// `LlavaForConditionalGeneration` (LLaVA-1.5): one centre-cropped image.
    Llava,
    /// `InternVLForConditionalGeneration` (InternVL 2.5 to 3.5): sub-images without padding and a thumbnail, with
    /// four patches per token.
    /// to a token.
    InternVl,
    /// `LlavaOnevisionForConditionalGeneration`: as LLaVA-NeXT, with larger grids that are downscaled after the
    /// projector.
    OneVision,
}

impl Architecture {
    /// The class name in transformers.
    pub fn class(self) -> &'static str {
        match self {
            Self::LlavaNext => "LlavaNextForConditionalGeneration",
            Self::Llava => "LlavaForConditionalGeneration",
            Self::InternVl => "InternVLForConditionalGeneration",
            Self::OneVision => "LlavaOnevisionForConditionalGeneration",
        }
    }
}

/// The activation function between two linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·σ(1.702·x), CLIP's.
    QuickGelu,
    /// ½·x·(1 + erf(x/√2)).
    Gelu,
    /// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
    GeluTanh,
    /// x·σ(x).
    Silu,
}

/// A kind of vision transformer, which determines the differences in its computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tower {
    /// CLIP: a class token, and a norm before the first block.
    Clip,
    /// SigLIP: neither of these; a bias in the patch embedding.
    Siglip,
    /// InternViT: a class token, the bias, no norm before the first block, and layer scale.
    InternVit,
}

/// Configuration of the vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// The kind.
    pub tower: Tower,
    /// Hidden size.
    pub hidden: usize,
    /// Hidden size of the MLP.
    pub intermediate: usize,
    /// Blocks in the checkpoint (24 for ViT-L), of which [`ModelConfig::feature_blocks`] are run.
    pub layers: usize,
    /// Attention heads; divides `hidden`.
    pub heads: usize,
    /// Side of a partition in pixels (336).
    pub image_size: usize,
    /// Side of a patch in pixels (14). Pixels at the right and at the bottom that do not fill a patch are ignored.
    pub patch_size: usize,
    /// LayerNorm epsilon.
    pub eps: f32,
    /// MLP activation.
    pub activation: Activation,
    /// The query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Queries and keys are normalised over their whole width, all heads together (RMSNorm).
    pub qk_norm: bool,
    /// The files hold the tower's pooling head, a learned query that attends to all patches (SigLIP). No feature comes from
    /// it, but it can score patches.
    pub pooling_head: bool,
}

impl VisionConfig {
    /// Patches along one side of a partition (24).
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Returns true if each partition begins with a class token.
    pub fn class_token(&self) -> bool {
        self.tower != Tower::Siglip
    }

    /// Returns true if embeddings are normalised before the first block.
    pub fn pre_norm(&self) -> bool {
        self.tower == Tower::Clip
    }

    /// Returns true if the patch embedding has a bias.
    pub fn patch_bias(&self) -> bool {
        self.tower != Tower::Clip
    }

    /// Returns true if the outputs of attention and MLP are multiplied by a vector before they are added (layer
    /// scale).
    pub fn layer_scale(&self) -> bool {
        self.tower == Tower::InternVit
    }

    /// Patches per partition, without the class token (576).
    pub fn patches(&self) -> usize {
        self.side() * self.side()
    }

    /// Size of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }
}

/// A kind of decoder, by its `model_type`. It determines the prompt format and defaults; differences in the
/// computation are in [`TextConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `llama`: Vicuna, LLaMA 3, Yi, TinyLlama.
    Llama,
    /// `mistral`.
    Mistral,
    /// `qwen2`: Qwen 1.5 to 2.5.
    Qwen2,
    /// `qwen3`.
    Qwen3,
    /// `phi3`.
    Phi3,
    /// `phi`: Phi-1 to Phi-2.
    Phi,
}

/// The decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// The kind.
    pub family: Family,
    /// Hidden size.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads; not always `hidden / head_dim`.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Size of one head; even.
    pub head_dim: usize,
    /// Rows of the embedding and of the output matrix.
    pub vocab: usize,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Rotary position embeddings.
    pub rope: Rope,
    /// Context length; a sliding window counts as a limit, within which it has no effect.
    pub max_positions: usize,
    /// The output matrix is the embedding, unless the files contain a separate one.
    pub tied: bool,
    /// The query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Queries and keys are normalised per head before rotation.
    pub head_norm: bool,
    /// Queries, keys and values are stored as one tensor, and gate and up as another.
    pub fused: bool,
    /// One LayerNorm feeds a block's attention and beside it an MLP without a gate; their results are added. All linear
    /// layers of blocks have biases, and the final norm is a LayerNorm too.
    pub parallel: bool,
    /// The output matrix has a bias, unless the files hold none.
    pub head_bias: bool,
}

/// Image preprocessing (`preprocessor_config.json`).
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// Side of a partition in pixels; equals the vision tower's `image_size`.
    pub side: usize,
    /// Candidate canvases as (height, width) in pixels, in file order; `None`: one centre crop (LLaVA-1.5).
    pub pinpoints: Option<Vec<(usize, usize)>>,
    /// Per-channel mean of the normalisation.
    pub mean: [f64; 3],
    /// Per-channel standard deviation of the normalisation.
    pub std: [f64; 3],
    /// Factor applied to a byte before normalisation (1/255).
    pub rescale: f64,
    /// Without sub-images: the image is first padded to a square with the mean colour (`do_pad`).
    pub pad: bool,
    /// Without sub-images: the image is resized to a square without keeping its aspect ratio (SigLIP's processor).
    pub squash: bool,
    /// Least and largest number of sub-images into which an image is cut, according to its aspect ratio (InternVL).
    pub sub_images: Option<(usize, usize)>,
    /// The file names a processor that resizes with torchvision, which is then the default.
    pub torchvision: bool,
}

/// The complete configuration of a model, checked for consistency.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The architecture.
    pub architecture: Architecture,
    /// The layout of quantized linear layers, if there are any.
    pub quantization: Option<Packing>,
    /// The vision tower.
    pub vision: VisionConfig,
    /// The decoder.
    pub text: TextConfig,
    /// Preprocessing.
    pub image: ImageConfig,
    /// Number of vision blocks needed for the image features (23 for layer −2 of 24).
    pub feature_blocks: usize,
    /// Patches along the side of a token, 1 or 2: InternVL and MobileVLM V2 make a token of the four patches of a cell.
    pub cell: usize,
    /// The projector makes a token of a cell's patches behind its layers (MobileVLM V2's LDPv2), not before them.
    pub pooled: bool,
    /// Patches of sub-images beyond which, by more than a tenth of the sides, their projected rows are resized to so many
    /// (LLaVA-OneVision's `anyres_max_9`: those of nine partitions).
    pub most_patches: Option<usize>,
    /// Activation between the projector's two layers.
    pub projector_activation: Activation,
    /// The projector's layers have biases.
    pub projector_bias: bool,
    /// Id of the token that stands for an image in a prompt.
    pub image_token: u32,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
    /// Settings of `generation_config.json` that would change greedy answers in transformers but are ignored here,
    /// each as a sentence for the user.
    pub ignored: Vec<String>,
}

/// A model folder with a valid configuration.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// The folder.
    pub dir: PathBuf,
    /// The content of its JSON files.
    pub config: ModelConfig,
}

impl ModelFolder {
    /// Reads the configuration of the model in `path`; see [`ModelConfig::read`]. If there is no such folder,
    /// `OWNER/NAME` stands for that model in the local Hugging Face cache (`HF_HUB_CACHE`, `HF_HOME`,
    /// `~/.cache/huggingface/hub`). A model's folder in the cache (`models--…`) stands for its snapshot of `main`.
    pub fn open(path: &Path) -> Result<Self> {
        let dir = hub::folder(path)?;
        let config = ModelConfig::read(&dir)?;
        Ok(Self { dir, config })
    }
}

/// The contents of the files that [`from_json`] reads.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// `config.json`.
    pub config: &'a [u8],
    /// `preprocessor_config.json`.
    pub preprocessor: Option<&'a [u8]>,
    /// `processor_config.json`; its `image_processor`, if present, takes precedence over `preprocessor`.
    pub processor: Option<&'a [u8]>,
    /// `generation_config.json`.
    pub generation: Option<&'a [u8]>,
}

const ADAPTER: &str = "adapter_config.json";

impl ModelConfig {
    /// Side of a token in pixels (14; 28 if four patches form one).
    pub fn token_size(&self) -> usize {
        self.vision.patch_size * self.cell
    }

    /// Tokens per partition (576).
    pub fn tokens(&self) -> usize {
        (self.vision.side() / self.cell).pow(2)
    }

    /// Reads `config.json`, `preprocessor_config.json` (or the `image_processor` inside `processor_config.json`) and,
    /// if present, `generation_config.json` of the folder `dir`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) or [`Error::Model`](crate::Error::Model): a file is missing or is not JSON, or
    /// a key has a value that is invalid or not supported.
    pub fn read(dir: &Path) -> Result<Self> {
        /// Limit on the file size in bytes; real files have a few kilobytes.
        const LARGEST: u64 = 16 << 20;
        files::expect_folder(dir)?;
        if dir.join(ADAPTER).exists() {
            let what = "is a PEFT adapter (LoRA), which transformers would apply to the weights of this folder but \
                        hired does not: merge it (PEFT's merge_and_unload, then save_pretrained) and give the \
                        merged folder; to run the weights without it, move this file elsewhere";
            return Err(crate::Error::model(dir.join(ADAPTER), what));
        }
        let read = |name| files::read(&dir.join(name), LARGEST);
        let Some(config) = read(model::CONFIG)? else {
            let what = "there is no config.json in this folder; give a Hugging Face model folder";
            return Err(crate::Error::model(dir, what));
        };
        let preprocessor = read(preprocessor::PREPROCESSOR)?;
        let processor = read(preprocessor::PROCESSOR)?;
        let generation = read(generation::GENERATION)?;
        let files = Files {
            config: &config,
            preprocessor: preprocessor.as_deref(),
            processor: processor.as_deref(),
            generation: generation.as_deref(),
        };
        from_json(dir, &files)
    }
}

/// The configuration described by the files of the folder `dir`, which is only used in messages.
///
/// # Errors
/// As [`ModelConfig::read`], without errors of the operating system.
pub fn from_json(dir: &Path, files: &Files) -> Result<ModelConfig> {
    model::model(dir, files)
}
