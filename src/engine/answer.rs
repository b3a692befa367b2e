//! What the engine gives back.

use crate::ops::clock::Stage;
use crate::select::{Kept, Plan, Slot, order};
use serde::Serialize;

/// News while requests are served. Returning [`std::ops::ControlFlow::Break`] stops the work: of all requests of a batch,
/// in [`Engine::generate_each`](super::Engine::generate_each) of the event's request alone.
///
/// Stopped at [`Event::Progress`], a request has no answer and no further event. Stopped at [`Event::Token`], it ends with
/// that token, and one [`Event::Finished`] still comes for it, with [`FinishReason::Cancelled`] if the token was not its last
/// one anyway. Stopped at the last [`Event::Finished`], nothing changes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A block of the vision tower or of the decoder is done.
    #[non_exhaustive]
    Progress {
        /// Index of the request.
        request: usize,
        /// Vision or prefill.
        stage: Stage,
        /// Blocks done.
        done: usize,
        /// Blocks in all.
        all: usize,
    },
    /// A token was drawn.
    #[non_exhaustive]
    Token {
        /// Index of the request.
        request: usize,
        /// The token.
        id: u32,
        /// Text that is complete with it; may be empty, never holds half a character.
        text: &'a str,
    },
    /// An answer has ended.
    #[non_exhaustive]
    Finished {
        /// Index of the request.
        request: usize,
        /// Text that was held back, waiting for the rest of a character.
        text: &'a str,
        /// Why it ended.
        reason: FinishReason,
    },
}

impl Event<'_> {
    /// The same with another number of the request.
    pub(super) fn of(mut self, number: impl Fn(usize) -> usize) -> Self {
        let (Self::Progress { request, .. }
        | Self::Token { request, .. }
        | Self::Finished { request, .. }) = &mut self;
        *request = number(*request);
        self
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
    /// The caller stopped it.
    Cancelled,
}

/// What became of an image's patches: what entered the decoder, or what was left where it drops some itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Visual {
    /// Sub-images as [rows, columns]; `None` for a model without them.
    pub grid: Option<[usize; 2]>,
    /// The full image and the sub-images.
    pub partitions: usize,
    /// Those of them that the vision tower encoded: all, unless tiles are lazy.
    pub encoded: usize,
    /// Patches of a partition.
    pub tokens_per_partition: usize,
    /// Patches that are left after unpadding, over all partitions.
    pub valid: usize,
    /// The budget asked for, as a count.
    pub budget: usize,
    /// Patches kept.
    pub kept: usize,
    /// Rows beside them, which the budget counts too: merged of several patches, or not of a patch at all.
    pub merged: usize,
    /// Newline tokens.
    pub newlines: usize,
    /// Patches allotted to each partition, the full image first; those left, where the decoder drops.
    pub allocation: Vec<usize>,
    /// Patches kept of each partition, ascending.
    pub kept_indices: Vec<Vec<u32>>,
    /// Patches of each partition that are not kept, but part of a merged row or of a kept patch's; ascending.
    pub merged_indices: Vec<Vec<u32>>,
}

impl Visual {
    /// What the decoder sees of the image: patches kept, rows beside them, newlines.
    pub fn tokens(&self) -> usize {
        self.kept + self.merged + self.newlines
    }

    /// The report of a selection.
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

    /// The same where only these partitions were encoded, if not all were.
    pub(super) fn of_some(plan: &Plan, kept: Kept, partitions: Option<&[usize]>) -> Self {
        match partitions {
            None => Self::new(plan, kept),
            Some(some) => {
                let kept = kept.among(some, plan.geometry.partitions());
                Self { encoded: some.len(), ..Self::new(plan, kept) }
            }
        }
    }

    /// The report of a selection of which the decoder dropped some. `rows` are those of the prompt that were left; the
    /// image's begin at row `first`.
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
        // Sub-images take turns in the decoder's order; in each, patches come row by row.
        let allocation = indices.iter().map(Vec::len).collect();
        Self { newlines, merged, ..Self::new(plan, Kept { allocation, indices, mix: None }) }
    }
}

/// Where the time went, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Timings {
    /// Opening the folder and taking the weights, once for the engine.
    pub load: f64,
    /// Image decoding, resizing and cutting; template and tokenizer.
    pub preprocess: f64,
    /// Pixels on their way to a card; 0 on the CPU.
    pub upload: f64,
    /// The vision tower.
    pub vision: f64,
    /// Scores to kept patches.
    pub select: f64,
    /// The projector.
    pub project: f64,
    /// The decoder over the prompt.
    pub prefill: f64,
    /// From the call to this request's first token; loading is not in it.
    pub ttft: f64,
    /// From the first token to the last.
    pub decode: f64,
    /// Tokens after the first per second of `decode`; `None` when there was only one.
    pub decode_tokens_per_second: Option<f64>,
}

/// Where the memory went, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// Weights copied out of the files.
    pub weights: usize,
    /// Weights used where they lie: mapped files, whose pages the system may drop and reread, or synthetic numbers.
    pub mapped: usize,
    /// Keys and values.
    pub kv: usize,
    /// The most activations and scratch at one moment.
    pub workspace: usize,
    /// Contexts, modules and libraries of a device; none on the CPU.
    pub other: usize,
    /// The most of `weights`, `kv` and `workspace` together at one moment, counted where it was taken.
    pub peak: usize,
    /// What was predicted for `peak` before any of it was taken.
    pub predicted_peak: usize,
}

/// Intermediate results, row-major f32 unless said; those of several images one after the other.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stages {
    /// `[P, 3, S, S]`, normalised.
    pub pixel_values: Option<Vec<f32>>,
    /// Side *S* of a partition.
    pub side: usize,
    /// The prompt as fed, the image token repeated for every visual row.
    pub input_ids: Vec<u32>,
    /// `[P, T]` scores of the content layer; rows that the method did not need are NaN.
    pub cls_attention_init: Option<Vec<f32>>,
    /// `[P, T]` scores of the ranking layer; rows that the method did not need are NaN.
    pub cls_attention_final: Option<Vec<f32>>,
    /// `[K, D]`, the rows in image positions, newlines included.
    pub visual_tokens: Option<Vec<f32>>,
    /// *D*.
    pub hidden: usize,
    /// `[V]`, from which the first token was drawn.
    pub prefill_logits: Vec<f32>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The text, special tokens left out.
    pub text: String,
    /// The tokens drawn, the ending one included.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Rows of the prompt as prefilled, visual ones included.
    pub prompt_tokens: usize,
    /// Those of them that a [`Scheduler`](super::Scheduler) had computed for an earlier request.
    pub cached_tokens: usize,
    /// Images that it had encoded for an earlier request.
    pub cached_images: usize,
    /// What became of the image; of the first one, where there are several.
    pub visual: Option<Visual>,
    /// What became of each image, in their order in the prompt.
    pub visuals: Vec<Visual>,
    /// Whether a device had to wait for the host: to choose what to keep, or to learn how many rows that is.
    pub host_round_trip: bool,
    /// Time.
    pub timings: Timings,
    /// Memory, of the whole batch.
    pub memory: Memory,
    /// Present if the request asked to keep them.
    pub stages: Option<Stages>,
}
