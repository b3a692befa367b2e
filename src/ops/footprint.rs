//! What memory an executor takes for an operation, as pure functions: the prediction and the executor ask the same.

use super::arena::{Arena, Region, rounded};
use super::cpu;
use super::cuda::scratch;
use super::memory::{Charge, Meter, Purpose};
use super::sample::Sampling;
use super::{Batch, DECODE_ROWS, Storage, Widths};
use crate::Result;
use crate::checkpoint::DType;
use crate::kv;
use crate::select;
use std::sync::Arc;

/// An executor's way with memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Footprint {
    /// Weights used in place, activations in f32, memory taken piece by piece.
    Cpu {
        /// The cache holds f16, else f32.
        half_cache: bool,
    },
    /// Everything on the device in one format, one block for all activations.
    Cuda(Card),
}

/// What decides the memory of the CUDA executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// Matrices, activations and cache are f16, else f32.
    pub half: bool,
    /// A library multiplies, which takes no epilogues.
    pub library: bool,
}

/// Memory taken for a while.
#[derive(Debug)]
pub enum Hold {
    /// By itself.
    Alone(Charge),
    /// A part of the workspace.
    Part(Region),
}

impl Card {
    /// Bytes of a number.
    pub fn number(self) -> usize {
        if self.half { 2 } else { 4 }
    }

    /// Numbers from one row of a matrix of weights to the next: whole vectors of 16 bytes.
    pub fn stride(self, cols: usize) -> usize {
        cols.next_multiple_of(16 / self.number())
    }

    /// Bytes of a weight on the device.
    pub fn weight(self, rows: usize, cols: usize, storage: Storage) -> usize {
        rounded(match storage {
            Storage::Matrix => rows * self.stride(cols) * self.number(),
            Storage::Vector => rows * cols * size_of::<f32>(),
        })
    }
}

impl Footprint {
    /// Bytes of an activation.
    pub fn activation(self) -> usize {
        match self {
            Self::Cpu { .. } => size_of::<f32>(),
            Self::Cuda(card) => card.number(),
        }
    }

    /// Bytes of a number in the cache.
    pub fn cache_number(self) -> usize {
        match self {
            Self::Cpu { half_cache } => {
                if half_cache {
                    2
                } else {
                    4
                }
            }
            Self::Cuda(card) => card.number(),
        }
    }

    /// Takes `bytes`.
    pub(super) fn hold(self, meter: &Arc<Meter>, arena: &Arena, bytes: usize) -> Hold {
        match self {
            Self::Cpu { .. } => Hold::Alone(meter.charge(Purpose::Workspace, bytes)),
            Self::Cuda(_) => Hold::Part(arena.take(bytes).expect("a plan's arena has no end")),
        }
    }

    /// Bytes taken for a weight; 0 when it is used where it is mapped.
    pub(super) fn weight(
        self,
        rows: usize,
        cols: usize,
        dtype: DType,
        storage: Storage,
        aligned: bool,
    ) -> usize {
        match (self, storage) {
            (Self::Cpu { .. }, Storage::Vector) => rows * cols * size_of::<f32>(),
            (Self::Cpu { .. }, Storage::Matrix) if aligned => 0,
            (Self::Cpu { .. }, Storage::Matrix) => rows * cols * dtype.size(),
            (Self::Cuda(card), _) => card.weight(rows, cols, storage),
        }
    }

    /// Bytes of a stored number of a matrix.
    pub(super) fn stored(self, dtype: DType) -> usize {
        match self {
            Self::Cpu { .. } => dtype.size(),
            Self::Cuda(card) => card.number(),
        }
    }

    /// Bytes of a cache and of what lies beside it.
    pub(super) fn cache(self, shape: kv::Shape) -> usize {
        let pages = shape.elements() * self.cache_number();
        match self {
            Self::Cpu { .. } => pages,
            Self::Cuda(_) => rounded(pages) + scratch::step(shape).bytes(),
        }
    }

    /// Numbers in a row of patches.
    pub(super) fn padded(self, cols: usize) -> usize {
        match self {
            Self::Cpu { .. } => cols,
            Self::Cuda(card) => card.stride(cols),
        }
    }

    /// The RMSNorm of a few rows is part of the product after it.
    pub(super) fn fuses_norm(self) -> bool {
        matches!(self, Self::Cuda(_))
    }

    /// The gated product of `rows` needs no buffer for its second factor.
    pub(super) fn fuses_gate(self, rows: usize) -> bool {
        match self {
            Self::Cpu { .. } => false,
            Self::Cuda(card) => rows <= DECODE_ROWS || !card.library,
        }
    }

    pub(super) fn patches_scratch(self, pixels: usize) -> Option<usize> {
        matches!(self, Self::Cuda(_)).then(|| scratch::patches(pixels).bytes())
    }

    /// Bytes beside products of `m` rows with weights of `cols` rows, made at the same time; `whole`: in one part.
    pub(super) fn products_scratch(
        self,
        m: usize,
        whole: bool,
        cols: &[usize],
        k: usize,
        stored: usize,
    ) -> Option<usize> {
        match self {
            Self::Cpu { .. } => {
                let is_f32 = stored == size_of::<f32>();
                cols.iter().map(|&n| cpu::linear_scratch(m, n, k, is_f32)).max()
            }
            Self::Cuda(card) if m <= DECODE_ROWS || card.library => None,
            Self::Cuda(_) if whole => None,
            Self::Cuda(_) => scratch::products(m, cols, k),
        }
    }

    /// Bytes of scores on their way to a selection, head by head.
    pub(super) fn scores(self, partitions: usize, heads: usize, patches: usize) -> usize {
        match self {
            Self::Cpu { .. } => partitions * heads * patches * size_of::<f32>(),
            Self::Cuda(_) => scratch::scores(partitions, heads, patches).bytes(),
        }
    }

    pub(super) fn vision_scratch(self, tasks: usize, keys: usize, width: usize) -> Option<usize> {
        match self {
            Self::Cpu { .. } => Some(cpu::vision_scratch(tasks, keys, width)),
            Self::Cuda(_) => None,
        }
    }

    pub(super) fn attention_scratch(
        self,
        shape: kv::Shape,
        heads: usize,
        batch: &Batch,
    ) -> Option<usize> {
        match self {
            Self::Cpu { .. } => Some(cpu::decoder_scratch(shape, heads, &batch.spans)),
            Self::Cuda(_) => None,
        }
    }

    /// The same of a decode step.
    pub(super) fn step_scratch(
        self,
        shape: kv::Shape,
        heads: usize,
        batch: &Batch,
    ) -> Option<usize> {
        match self {
            Self::Cpu { .. } => Some(cpu::decoder_scratch(shape, heads, &batch.spans)),
            Self::Cuda(_) => {
                let slots = scratch::reach(&batch.spans);
                Some(scratch::decode(shape, heads, batch.spans.len(), slots).bytes())
            }
        }
    }

    /// Bytes that the scores of a prompt's rows take while `among` of them are ranked.
    pub(super) fn retain_scratch(self, heads: usize, rows: usize, among: usize) -> usize {
        match self {
            Self::Cpu { .. } => cpu::last_row_scratch(rows),
            Self::Cuda(_) => scratch::retain(heads, rows, among).bytes(),
        }
    }

    /// Bytes of a selection with its scores.
    pub(super) fn selection(self, plan: &select::Plan) -> Result<usize> {
        match self {
            Self::Cpu { .. } => Ok(cpu::kept_bytes(plan)),
            Self::Cuda(_) => scratch::selection(plan),
        }
    }

    /// Bytes beside these while it is made, of evidence so wide; what a host holds for a device is not the device's.
    pub(super) fn choosing(self, plan: &select::Plan, widths: Widths) -> Option<usize> {
        match self {
            Self::Cpu { .. } => Some(plan.scratch(widths.widest())),
            Self::Cuda(_) => scratch::choosing(plan, widths),
        }
    }

    /// Bytes of indices that go along with an operation.
    pub(super) fn indices(self, count: usize) -> Option<usize> {
        matches!(self, Self::Cuda(_)).then_some(count * size_of::<u32>())
    }

    pub(super) fn batch(self, batch: &Batch) -> Option<usize> {
        let rows = batch.spans.iter().map(|s| s.rows).sum();
        let pages = batch.spans.iter().map(|s| s.pages.len()).max().unwrap_or(0);
        let apart = matches!(self, Self::Cuda(_)) && batch.tokens.is_empty();
        apart.then(|| scratch::rows(rows, batch.spans.len(), pages).bytes())
    }

    pub(super) fn sample_scratch(self, vocab: usize, how: &[(Sampling, usize)]) -> Option<usize> {
        matches!(self, Self::Cuda(_)).then(|| scratch::sample(vocab, how))
    }
}
