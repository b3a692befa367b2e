//! What is asked of the engine.

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

/// Where the engine computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The first CUDA device that works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number, or the first.
    Cuda(Option<usize>),
}

/// How an engine is set up.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Where to compute.
    pub device: Device,
    /// On the CPU the format of the cache alone: weights stay as stored, arithmetic is f32. On CUDA that of weights,
    /// activations and cache. `None`: the device's own, f32 on the CPU, f16 on CUDA.
    pub dtype: Option<Dtype>,
    /// Weights that become integers as they are loaded; the folder's must be floating-point numbers.
    pub quantization: Option<Quantization>,
    /// Whose bicubic resampling to reproduce. `None`: torchvision's where the folder names an image processor of InternVL's
    /// that uses it, else Pillow's.
    pub resample: Option<Resample>,
    /// Tokens the cache may hold, over all requests of a batch. `None`: as many as the requests at hand need.
    pub kv_tokens: Option<usize>,
    /// Do not record decode steps as CUDA graphs, so that a profiler shows their kernels one by one.
    pub no_graph: bool,
    /// Who makes large matrix products on CUDA.
    pub gemm: Gemm,
    /// Read the weights into memory when the model is loaded, instead of mapping their files. A mapped file that is cut
    /// short by somebody else ends the process.
    pub no_mmap: bool,
    /// Most pixels of an image. `None`, and at most: 178 956 970, as in Pillow. An encoded image may have 8 bytes for each
    /// of them and 1 MiB more, and never more than 768 MiB.
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
    /// How the executor takes memory. [`Device::Auto`] counts as the CPU: what is planned need not be there. On CUDA a
    /// library multiplies only if that is demanded, for whether one is installed is not known.
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

    /// The format of the cache on the CPU.
    pub(super) fn cpu_cache(&self) -> Dtype {
        self.dtype.unwrap_or(Dtype::F32)
    }

    /// The formats on CUDA.
    pub(super) fn cuda_formats(&self) -> Formats {
        self.dtype.unwrap_or(Dtype::F16).into()
    }
}

/// An image as the caller has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Image {
    /// A file's content: PNG, JPEG, WebP, BMP or GIF (feature `image-formats`).
    Encoded {
        /// Named in messages.
        name: String,
        /// The file's bytes.
        bytes: Vec<u8>,
    },
    /// Pixels, three bytes each, row by row.
    Rgb8 {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// `3 · width · height` bytes.
        pixels: Vec<u8>,
    },
}

impl Image {
    /// A file's content; `name` is what messages call it.
    pub fn encoded(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::Encoded { name: name.into(), bytes: bytes.into() }
    }

    /// Pixels, three bytes each, row by row: `3 · width · height` bytes.
    pub fn rgb8(width: usize, height: usize, pixels: impl Into<Vec<u8>>) -> Self {
        Self::Rgb8 { width, height, pixels: pixels.into() }
    }
}

/// The words of a request. Text becomes [`Prompt::User`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// The user's words, put into the folder's chat template. Special tokens written in them (`</s>`, `<image>`) are
    /// recognised, as transformers does, unless the request is [literal](Request::literal).
    User(String),
    /// The whole prompt, one `<image>` (or the token that the model has for it) where the image goes.
    Raw(String),
    /// The whole prompt as token ids, the image token once where the image goes; tokens around an image, which InternVL has,
    /// are put there.
    Ids(Vec<u32>),
    /// A conversation, put into the folder's chat template as transformers puts it. Its images are in the messages, any
    /// number of them; [`Request::image`] is then `None`.
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

/// One question.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The words.
    pub prompt: Prompt,
    /// A user's words, and the texts of all messages, are plain text through and through: a special token written in
    /// them is text too, so that nobody can end their turn and begin another. For words of people whom you do not know.
    pub literal: bool,
    /// The image, if there is one. Messages bring their own.
    pub image: Option<Image>,
    /// Which visual tokens to keep, of each image.
    pub selection: Selection,
    /// A budget for all images together, in place of that of `selection`: each image gets a share of it that its valid
    /// patches are of all.
    pub budget_total: Option<Budget>,
    /// The answer ends after this many tokens at the latest; at least 1.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Texts of which the first to appear ends the answer: [`Answer::text`](crate::engine::Answer::text) ends before it,
    /// the tokens that it came with are still among [`Answer::token_ids`](crate::engine::Answer::token_ids). None is empty.
    pub stop: Vec<String>,
    /// Go on after the model ended its answer, up to `max_new_tokens`: for measurements.
    pub ignore_eos: bool,
    /// Take from what a [`Scheduler`](super::Scheduler) keeps of earlier requests, and leave something for later ones.
    pub cache: bool,
    /// Keep the intermediate results in [`crate::engine::Answer::stages`].
    pub keep_stages: bool,
}

impl Request {
    /// A question, by default in the user's words: HiRED at 20%, greedy, up to 128 tokens.
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
    /// Its images, in the order in which they come in the prompt.
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
