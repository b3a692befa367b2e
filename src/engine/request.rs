//! Requests to the engine, and its options.

use super::messages::Message;
use crate::Result;
use crate::format::{Dtype, Formats};
use crate::image::Resample;
use crate::ops::cuda::Gemm;
use crate::ops::footprint::Footprint;
use crate::ops::sample::Sampling;
use crate::quant::Quantization;
use crate::select::{Budget, Selection};
use crate::setters::setters;

/// The device that the engine computes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The first CUDA device that works, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device: the one with this index, or the first one that works.
    Cuda(Option<usize>),
}

/// Options of an [`Engine`](super::Engine).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EngineOptions {
    /// The device to compute on.
    pub device: Device,
    /// Number format. On CUDA that of weights, activations and cache; on the CPU that of the key/value cache only,
    /// where weights stay as stored and arithmetic is f32. `None`: f16 on CUDA, f32 on the CPU.
    pub dtype: Option<Dtype>,
    /// Quantization of floating-point weights to integers while they are loaded. The folder's weights must not be
    /// quantized already.
    pub quantization: Option<Quantization>,
    /// The bicubic resampling to reproduce. `None`: torchvision's if the folder names an InternVL image processor
    /// that uses it, otherwise Pillow's.
    pub resample: Option<Resample>,
    /// Capacity of the key/value cache in tokens, over all requests of a batch. `None`: as many as the current
    /// requests need.
    pub kv_tokens: Option<usize>,
    /// Do not record decode steps as CUDA graphs, so that a profiler shows their kernels individually.
    pub no_graph: bool,
    /// Backend for large matrix multiplications on CUDA.
    pub gemm: Gemm,
    /// Read the weights into memory instead of memory-mapping their files. If another process truncates a mapped
    /// file, this process is killed by SIGBUS.
    pub no_mmap: bool,
    /// The most pixels that an image may have. `None`: 178 956 970, the limit of Pillow, which is also the largest
    /// value. An encoded image may have 8 bytes per allowed pixel plus 1 MiB, but never more than 768 MiB.
    pub max_pixels: Option<usize>,
}

setters! {
    EngineOptions {
        with_device(device: Device);
        with_dtype(dtype: impl Into<Option<Dtype>>);
        with_quantization(quantization: impl Into<Option<Quantization>>);
        with_resample(resample: impl Into<Option<Resample>>);
        with_kv_tokens(kv_tokens: impl Into<Option<usize>>);
        with_no_graph(no_graph: bool);
        with_gemm(gemm: Gemm);
        with_no_mmap(no_mmap: bool);
        with_max_pixels(max_pixels: impl Into<Option<usize>>);
    }
}

impl EngineOptions {
    /// The rules by which the executor takes memory. [`Device::Auto`] counts as the CPU, because planning must not
    /// depend on a device being present. On CUDA, cuBLAS is only assumed if it is required, since it is not known
    /// whether it is installed.
    pub(super) fn footprint(&self) -> Result<Footprint> {
        match self.device {
            Device::Cuda(_) => {
                let formats = self.cuda_formats();
                let library = self.gemm.library(formats)? == Some(true);
                Ok(Footprint::Cuda { formats, library })
            }
            Device::Cpu | Device::Auto => Ok(Footprint::Cpu { cache: self.cpu_cache() }),
        }
    }

    /// Format of the key/value cache on the CPU.
    pub(super) fn cpu_cache(&self) -> Dtype {
        self.dtype.unwrap_or(Dtype::F32)
    }

    /// Formats of weights, activations and cache on CUDA.
    pub(super) fn cuda_formats(&self) -> Formats {
        self.dtype.unwrap_or(Dtype::F16).into()
    }
}

/// An image of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Image {
    /// The content of an image file: PNG, JPEG, WebP, BMP or GIF (feature `image-formats`).
    Encoded {
        /// The name to use in error messages.
        name: String,
        /// The file's bytes.
        bytes: Vec<u8>,
    },
    /// RGB pixels, three bytes each, row by row.
    Rgb8 {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// `3 · width · height` bytes.
        pixels: Vec<u8>,
    },
}

impl Image {
    /// An encoded image from the content of a file; `name` is used in error messages.
    pub fn encoded(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::Encoded { name: name.into(), bytes: bytes.into() }
    }

    /// An image from `3 · width · height` bytes of RGB pixels, row by row.
    pub fn rgb8(width: usize, height: usize, pixels: impl Into<Vec<u8>>) -> Self {
        Self::Rgb8 { width, height, pixels: pixels.into() }
    }
}

/// The prompt of a request. Strings become [`Prompt::User`], lists of messages [`Prompt::Messages`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// The user's text, inserted into the folder's chat template. Special tokens in it (`</s>`, `<image>`) are
    /// recognised, as in transformers, unless the request is [literal](Request::literal).
    User(String),
    /// The complete prompt, with one `<image>` (or the model's own image token) where the image goes.
    Raw(String),
    /// The complete prompt as token ids, with the image token once per image. Tokens that enclose an image, as in
    /// InternVL, are added.
    Ids(Vec<u32>),
    /// A conversation, inserted into the folder's chat template as transformers does. Any number of images are part
    /// of the messages; [`Request::image`] must be `None`.
    Messages(Vec<Message>),
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Self::Messages(messages)
    }
}

impl From<String> for Prompt {
    fn from(words: String) -> Self {
        Self::User(words)
    }
}

impl From<&str> for Prompt {
    fn from(words: &str) -> Self {
        Self::User(words.into())
    }
}

impl From<&String> for Prompt {
    fn from(words: &String) -> Self {
        Self::User(words.clone())
    }
}

/// A question, about an image or not.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The prompt.
    pub prompt: Prompt,
    /// Encode the user's text, and the texts of all messages, without recognising special tokens, so that a user
    /// cannot end their turn and forge another one. Recommended for untrusted text.
    pub literal: bool,
    /// The image, if there is one. Conversations carry their images in the messages.
    pub image: Option<Image>,
    /// Which image tokens to keep of each image.
    pub selection: Selection,
    /// One budget for all images together, in place of the one in `selection`. It is split in proportion to the
    /// images' numbers of valid patches.
    pub budget_total: Option<Budget>,
    /// The largest number of tokens to generate; at least 1.
    pub max_new_tokens: usize,
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// Stop texts: the answer ends before the first of them to appear. [`Answer::text`](crate::engine::Answer::text)
    /// leaves it out, [`Answer::token_ids`](crate::engine::Answer::token_ids) includes the tokens that it came with.
    /// None may be empty.
    pub stop: Vec<String>,
    /// Continue after the end-of-sequence token up to `max_new_tokens`; for measurements.
    pub ignore_eos: bool,
    /// Use the [`Scheduler`](super::Scheduler)'s cache of earlier requests, and leave this request's results in it.
    pub cache: bool,
    /// Return the intermediate results in [`crate::engine::Answer::stages`].
    pub keep_stages: bool,
}

impl Request {
    /// A request with defaults: HiRED with a budget of 20%, greedy decoding, up to 128 tokens.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self {
            prompt: prompt.into(),
            literal: false,
            image: None,
            selection: Selection::default(),
            budget_total: None,
            max_new_tokens: 128,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_eos: false,
            cache: true,
            keep_stages: false,
        }
    }
}

impl Request {
    /// All images, in their order in the prompt.
    pub fn images(&self) -> Vec<&Image> {
        let messages: &[Message] = match &self.prompt {
            Prompt::Messages(messages) => messages,
            _ => &[],
        };
        messages.iter().flat_map(Message::images).chain(&self.image).collect()
    }
}

setters! {
    Request {
        with_prompt(prompt: Prompt);
        with_literal(literal: bool);
        with_image(image: impl Into<Option<Image>>);
        with_selection(selection: Selection);
        with_budget_total(budget_total: impl Into<Option<Budget>>);
        with_max_new_tokens(max_new_tokens: usize);
        with_sampling(sampling: Sampling);
        with_stop(stop: impl Into<Vec<String>>);
        with_ignore_eos(ignore_eos: bool);
        with_cache(cache: bool);
        with_keep_stages(keep_stages: bool);
    }
}
