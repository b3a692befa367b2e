//! The results of a request: events while it runs, then the answer with its timings and memory.

use crate::ops::clock::Stage;
use crate::select::{Kept, Plan, Slot, order};
use serde::Serialize;

/// An event that is reported while requests are served. Returning [`std::ops::ControlFlow::Break`] stops all requests
/// of the batch; in [`Engine::generate_each`](super::Engine::generate_each) it stops only the request of the event.
///
/// A request that is stopped at [`Event::Progress`] has no answer and no further event. A request that is stopped at
/// [`Event::Token`] ends with that token, and one [`Event::Finished`] still follows, with [`FinishReason::Cancelled`]
/// unless that token was the last one anyway. Stopping at the last [`Event::Finished`] has no effect.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A layer of the vision tower or of the decoder is done.
    #[non_exhaustive]
    Progress {
        /// Index of the request in the batch.
        request: usize,
        /// The stage: vision or prefill.
        stage: Stage,
        /// Layers done so far.
        done: usize,
        /// Layers in total.
        all: usize,
    },
    /// A token was generated.
    #[non_exhaustive]
    Token {
        /// Index of the request in the batch.
        request: usize,
        /// The token's id.
        id: u32,
        /// The text that this token completes. It may be empty and never ends inside a character.
        text: &'a str,
    },
    /// An answer is complete.
    #[non_exhaustive]
    Finished {
        /// Index of the request in the batch.
        request: usize,
        /// The remaining text, which was held back because a character was incomplete.
        text: &'a str,
        /// The reason why the answer ended.
        reason: FinishReason,
    },
}

impl Event<'_> {
    /// The same event with the request's index mapped by `number`.
    pub(super) fn of(mut self, number: impl Fn(usize) -> usize) -> Self {
        let (Self::Progress { request, .. }
        | Self::Token { request, .. }
        | Self::Finished { request, .. }) = &mut self;
        *request = number(*request);
        self
    }
}

/// The reason why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model generated its end-of-sequence token, or a stop text appeared.
    Stop,
    /// The answer reached the requested number of tokens.
    Length,
    /// The caller stopped it.
    Cancelled,
}

/// The image tokens of one image: how many there were, and which of them were kept. With methods that drop tokens
/// inside the decoder, those that were left after the drop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Visual {
    /// Rows and columns of sub-images; `None` for models without sub-images.
    pub grid: Option<[usize; 2]>,
    /// The number of partitions: the full image and the sub-images.
    pub partitions: usize,
    /// The number of partitions that the vision tower encoded: all of them, unless tiles are lazy.
    pub encoded: usize,
    /// Patches per partition.
    pub tokens_per_partition: usize,
    /// Patches that are left after unpadding, summed over all partitions.
    pub valid: usize,
    /// The requested budget, as a number of image tokens.
    pub budget: usize,
    /// The number of patches kept.
    pub kept: usize,
    /// Further tokens that count towards the budget: merged from several patches, or not made from a patch at all.
    pub merged: usize,
    /// Row separators (image_newline).
    pub newlines: usize,
    /// The number of patches allotted to each partition, the full image first. With methods that drop in the decoder,
    /// the number that was left.
    pub allocation: Vec<usize>,
    /// Indices of the patches kept in each partition, ascending.
    pub kept_indices: Vec<Vec<u32>>,
    /// Indices of the patches in each partition that were not kept but merged into another token, ascending.
    pub merged_indices: Vec<Vec<u32>>,
}

impl Visual {
    /// The number of tokens that the decoder sees of the image: kept patches, merged tokens and row separators.
    pub fn tokens(&self) -> usize {
        self.kept + self.merged + self.newlines
    }

    /// Reports a selection.
    #[doc(hidden)]
    pub fn new(plan: &Plan, kept: Kept) -> Self {
        let geometry = &plan.geometry;
        Self {
            grid: geometry.grid().map(|(rows, cols)| [rows, cols]),
            partitions: geometry.partitions(),
            encoded: geometry.partitions(),
            tokens_per_partition: geometry.patches(),
            valid: geometry.valid(),
            budget: plan.budget,
            kept: kept.count(),
            merged: kept.merged(),
            newlines: plan.newlines,
            merged_indices: kept.merged_patches(geometry),
            allocation: kept.allocation,
            kept_indices: kept.indices,
        }
    }

    /// The same, for a selection in which only the listed partitions were encoded (`None`: all).
    pub(super) fn of_some(plan: &Plan, kept: Kept, partitions: Option<&[usize]>) -> Self {
        match partitions {
            None => Self::new(plan, kept),
            Some(some) => {
                let kept = kept.among(some, plan.geometry.partitions());
                Self { encoded: some.len(), ..Self::new(plan, kept) }
            }
        }
    }

    /// Reports a selection of which the decoder dropped some tokens. `rows` are the prompt rows that were left; the
    /// image's rows begin at row `first`.
    #[doc(hidden)]
    pub fn thinned(plan: &Plan, kept: &Kept, first: usize, rows: &[u32]) -> Self {
        let mut indices = vec![Vec::new(); plan.geometry.partitions()];
        let (mut newlines, mut merged) = (0, 0);
        let slots = order(plan, kept);
        let left = rows.iter().filter_map(|&row| (row as usize).checked_sub(first));
        for slot in left.filter_map(|slot| slots.get(slot)) {
            match *slot {
                Slot::Patch { partition, patch } => indices[partition].push(patch),
                Slot::Newline => newlines += 1,
                Slot::Merged(_) => merged += 1,
            }
        }
        // Sub-images alternate in the decoder's order; within each of them patches come row by row.
        let allocation = indices.iter().map(Vec::len).collect();
        Self { newlines, merged, ..Self::new(plan, Kept { allocation, indices, mix: None }) }
    }
}

/// The time spent in each stage, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Timings {
    /// Opening the folder and loading the weights, once per engine.
    pub load: f64,
    /// Decoding, resizing and cutting the image; chat template and tokenizer.
    pub preprocess: f64,
    /// Uploading the pixels to the GPU; 0 on the CPU.
    pub upload: f64,
    /// The vision tower.
    pub vision: f64,
    /// Selecting the patches to keep from their scores.
    pub select: f64,
    /// The projector.
    pub project: f64,
    /// Prefill: the decoder over the prompt.
    pub prefill: f64,
    /// Time to first token: from the call to this request's first token, without loading.
    pub ttft: f64,
    /// Decoding: from the first token to the last.
    pub decode: f64,
    /// Tokens per second after the first one; `None` if there was only one token.
    pub decode_tokens_per_second: Option<f64>,
}

/// The memory in use, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// Weights that were copied out of the files.
    pub weights: usize,
    /// Weights used in place: memory-mapped files, whose pages the system may drop and read again, or synthetic
    /// weights.
    pub mapped: usize,
    /// The key/value cache.
    pub kv: usize,
    /// The largest amount of activations and scratch memory at any time.
    pub workspace: usize,
    /// Contexts, modules and libraries of a device; 0 on the CPU.
    pub other: usize,
    /// The largest sum of `weights`, `kv` and `workspace` at any time, counted at allocation.
    pub peak: usize,
    /// The value of `peak` that was predicted before the work began.
    pub predicted_peak: usize,
}

/// Intermediate results, row-major f32 unless noted; those of several images are concatenated.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stages {
    /// `[P, 3, S, S]`: the normalised pixels of all partitions.
    pub pixel_values: Option<Vec<f32>>,
    /// Side *S* of a partition in pixels.
    pub side: usize,
    /// The prompt's token ids, with the image token repeated for every image row.
    pub input_ids: Vec<u32>,
    /// `[P, T]`: attention scores of the content layer; NaN in partitions that the method did not need.
    pub cls_attention_init: Option<Vec<f32>>,
    /// `[P, T]`: attention scores of the ranking layer; NaN in partitions that the method did not need.
    pub cls_attention_final: Option<Vec<f32>>,
    /// `[K, D]`: the rows in image positions, row separators included.
    pub visual_tokens: Option<Vec<f32>>,
    /// The decoder's hidden size *D*.
    pub hidden: usize,
    /// `[V]`: the logits from which the first token was chosen.
    pub prefill_logits: Vec<f32>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The text, without special tokens.
    pub text: String,
    /// The generated tokens, the one that ended the answer included.
    pub token_ids: Vec<u32>,
    /// The reason why the answer ended.
    pub finish_reason: FinishReason,
    /// Rows of the prompt in the prefill, image rows included.
    pub prompt_tokens: usize,
    /// The number of these rows that a [`Scheduler`](super::Scheduler) had already computed for an earlier request.
    pub cached_tokens: usize,
    /// The number of images that a scheduler had already encoded for an earlier request.
    pub cached_images: usize,
    /// The tokens kept of the first image; `None` without an image.
    pub visual: Option<Visual>,
    /// The tokens kept of each image, in their order in the prompt.
    pub visuals: Vec<Visual>,
    /// True if a device had to wait for the host, either to select tokens there or to learn how many were kept.
    pub host_round_trip: bool,
    /// Where the time went.
    pub timings: Timings,
    /// Memory of the whole batch.
    pub memory: Memory,
    /// Intermediate results, if the request asked for them.
    pub stages: Option<Stages>,
}
