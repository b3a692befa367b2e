//! A Hugging Face model folder's JSON files, read into one validated [`ModelConfig`].

/// Which of the two LLaVA layouts a checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `LlavaNextForConditionalGeneration` (LLaVA-v1.6): a base image and a grid of sub-images.
    LlavaNext,
    /// `LlavaForConditionalGeneration` (LLaVA-1.5): one centre-cropped image.
    Llava,
}

/// Non-linearity between two linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·σ(1.702·x), CLIP's.
    QuickGelu,
    /// ½·x·(1 + erf(x/√2)).
    Gelu,
    /// x·σ(x).
    Silu,
}

/// The CLIP vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Blocks in the checkpoint (24 for ViT-L), of which [`ModelConfig::feature_blocks`] are run.
    pub layers: usize,
    /// Attention heads; divides `hidden`.
    pub heads: usize,
    /// Side of a partition in pixels (336).
    pub image_size: usize,
    /// Side of a patch in pixels (14); divides `image_size`.
    pub patch_size: usize,
    /// LayerNorm epsilon.
    pub eps: f32,
    /// MLP activation.
    pub activation: Activation,
}

impl VisionConfig {
    /// Patches along one side of a partition (24).
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Patches of one partition, the CLS token not counted (576).
    pub fn patches(&self) -> usize {
        self.side() * self.side()
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }
}

/// Which prompt format and defaults a decoder has; the arithmetic is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `llama`: Vicuna.
    Llama,
    /// `mistral`.
    Mistral,
}

/// The LLaMA-type decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// LLaMA or Mistral.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the SwiGLU MLP.
    pub intermediate: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head, even.
    pub head_dim: usize,
    /// Rows of the embedding and of the output matrix.
    pub vocab: usize,
    /// RMSNorm epsilon.
    pub eps: f32,
    /// RoPE base.
    pub rope_theta: f32,
    /// Positions the model may see; a sliding window counts as a limit, inside which it changes nothing.
    pub max_positions: usize,
    /// The output matrix is the embedding.
    pub tied: bool,
}

/// How pixels reach the vision tower (`preprocessor_config.json`).
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
}

/// Everything the engine must know about a model, checked for consistency.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// LLaVA-NeXT or LLaVA-1.5.
    pub architecture: Architecture,
    /// The vision tower.
    pub vision: VisionConfig,
    /// The decoder.
    pub text: TextConfig,
    /// Preprocessing.
    pub image: ImageConfig,
    /// Blocks of the vision tower whose output the features need (23 for layer −2 of 24).
    pub feature_blocks: usize,
    /// Activation between the projector's two layers.
    pub projector_activation: Activation,
    /// The projector's layers have biases.
    pub projector_bias: bool,
    /// Id that stands for the image in a prompt.
    pub image_token: u32,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
}
