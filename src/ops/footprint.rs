//! How much memory an executor takes for an operation, as pure functions that prediction and executor share.

use super::arena::{Arena, Region, rounded};
use super::cuda::{self, scratch};
use super::memory::{Charge, Meter, Purpose};
use super::sample::Sampling;
use super::{Batch, DECODE_ROWS, Storage, Widths, cpu};
use crate::format::{Dtype, Format, Formats};
use crate::{Result, kv, select};
use std::sync::Arc;

/// The memory model of an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Footprint {
    /// Weights used in the mapped files, activations in f32, each buffer allocated separately.
    Cpu {
        /// Format of keys and values.
        cache: Dtype,
    },
    /// Weights copied to the device, one block for all activations.
    Cuda {
        /// The formats on the device.
        formats: Formats,
        /// Whether cuBLAS makes large products. It supports no epilogues.
        library: bool,
    },
}

/// Memory in use, released when dropped.
#[derive(Debug)]
pub enum Hold {
    /// A separate allocation.
    Alone(Charge),
    /// A region of the workspace.
    Part(Region),
}

impl Footprint {
    /// Format of activations.
    pub fn activations(self) -> Dtype {
        match self {
            Self::Cpu { .. } => Dtype::F32,
            Self::Cuda { formats, .. } => formats.activations,
        }
    }

    /// Format of keys and values.
    pub fn cache_format(self) -> Dtype {
        match self {
            Self::Cpu { cache } => cache,
            Self::Cuda { formats, .. } => formats.cache,
        }
    }

    /// Format on the device of a matrix of weights that is stored as `stored`.
    pub(super) fn weights(self, stored: Format) -> Format {
        match self {
            Self::Cpu { .. } => stored,
            Self::Cuda { formats, .. } => scratch::device_format(formats.weights, stored),
        }
    }

    /// Takes `bytes` of memory.
    pub(super) fn hold(self, meter: &Arc<Meter>, arena: &Arena, bytes: usize) -> Hold {
        match self {
            Self::Cpu { .. } => Hold::Alone(meter.charge(Purpose::Workspace, bytes)),
            Self::Cuda { .. } => Hold::Part(arena.take(bytes).expect("a plan's arena has no end")),
        }
    }

    /// Bytes taken for a weight; 0 when it is used in the mapped file.
    pub(super) fn weight(
        self,
        rows: usize,
        cols: usize,
        stored: Format,
        storage: Storage,
        aligned: bool,
    ) -> usize {
        match self {
            Self::Cpu { .. } => cpu::weight_bytes(rows, cols, stored, storage, aligned),
            Self::Cuda { formats, .. } => scratch::weight(
                scratch::device_format(formats.weights, stored),
                rows,
                cols,
                storage,
            ),
        }
    }

    /// Bytes of a cache and of the arrays allocated with it.
    pub(super) fn cache(self, shape: kv::Shape) -> usize {
        let pages = shape.elements() * self.cache_format().size();
        match self {
            Self::Cpu { .. } => pages,
            Self::Cuda { .. } => rounded(pages) + scratch::step(shape).bytes(),
        }
    }

    /// Numbers in a row of patches, with padding.
    pub(super) fn padded(self, cols: usize) -> usize {
        match self {
            Self::Cpu { .. } => cols,
            Self::Cuda { formats, .. } => Format::from(formats.activations).stride(cols),
        }
    }

    /// Whether the RMSNorm of `rows` rows is fused into the products after it, with weights of these formats.
    pub(super) fn fuses_norm(self, rows: usize, weights: &[Format]) -> bool {
        match self {
            Self::Cpu { .. } => false,
            Self::Cuda { .. } => cuda::matmul::fuses_norm(rows, weights),
        }
    }

    /// Whether gate and up of `rows` rows, with weights of these formats, are multiplied in one kernel, without a
    /// buffer for the second factor.
    pub(super) fn fuses_gate(self, rows: usize, weights: &[Format]) -> bool {
        match self {
            Self::Cpu { .. } => false,
            Self::Cuda { library, .. } => cuda::matmul::fuses_gate(rows, weights, library),
        }
    }

    /// Whether activations are quantized in a pass before products with weights of this format.
    pub(super) fn quantizes(self, weights: Format) -> bool {
        matches!(self, Self::Cuda { .. }) && cuda::matmul::quantizes(weights)
    }

    /// See [`cuda::matmul::attention_leaves_codes`].
    pub(super) fn attention_leaves_codes(
        self,
        rows: usize,
        cols: usize,
        of_integers: bool,
    ) -> bool {
        matches!(self, Self::Cuda { .. })
            && cuda::matmul::attention_leaves_codes(rows, cols, of_integers)
    }

    /// See [`cuda::matmul::gate_leaves_codes`].
    pub(super) fn gate_leaves_codes(self, rows: usize, cols: usize, weights: &[Format]) -> bool {
        matches!(self, Self::Cuda { .. }) && cuda::matmul::gate_leaves_codes(rows, cols, weights)
    }

    /// Bytes of rows as int8.
    pub(super) fn coded(self, rows: usize, cols: usize) -> usize {
        scratch::tokens(rows, cols).bytes()
    }

    pub(super) fn patches_scratch(self, pixels: usize) -> Option<usize> {
        matches!(self, Self::Cuda { .. }).then(|| scratch::patches(pixels).bytes())
    }

    /// Bytes of scratch for products of `m` rows with weights of `cols` rows, made in one launch; `whole`: without
    /// split-K.
    pub(super) fn products_scratch(
        self,
        m: usize,
        whole: bool,
        cols: &[usize],
        k: usize,
        weights: Format,
    ) -> Option<usize> {
        match self {
            Self::Cpu { .. } => cols.iter().map(|&n| cpu::matmul_scratch(m, n, k, weights)).max(),
            Self::Cuda { .. } if cuda::matmul::quantizes(weights) => {
                Some(scratch::tokens(m, k).bytes())
            }
            Self::Cuda { .. } if m <= DECODE_ROWS => None,
            Self::Cuda { library, .. } if cuda::matmul::is_by_library(weights, library) => None,
            Self::Cuda { .. } if whole => None,
            Self::Cuda { .. } => scratch::products(m, cols, k, weights),
        }
    }

    /// Bytes of scores for a selection, head by head.
    pub(super) fn scores(self, partitions: usize, heads: usize, patches: usize) -> usize {
        match self {
            Self::Cpu { .. } => partitions * heads * patches * size_of::<f32>(),
            Self::Cuda { .. } => scratch::scores(partitions, heads, patches).bytes(),
        }
    }

    pub(super) fn vision_scratch(self, tasks: usize, keys: usize, width: usize) -> Option<usize> {
        match self {
            Self::Cpu { .. } => Some(cpu::vision_scratch(tasks, keys, width)),
            Self::Cuda { .. } => None,
        }
    }

    /// How many times the scores of all queries are computed for [`super::AttentionOps::received_scores`].
    pub(super) fn received_passes(self) -> usize {
        match self {
            Self::Cpu { .. } => 1,
            Self::Cuda { .. } => 2,
        }
    }

    pub(super) fn received_scratch(self, tasks: usize, keys: usize, width: usize) -> usize {
        match self {
            Self::Cpu { .. } => cpu::vision_scratch(tasks, keys, width),
            Self::Cuda { .. } => scratch::received(tasks, keys),
        }
    }

    /// Bytes of scratch for weighted sums of rows: their sources and weights.
    pub(super) fn mix_scratch(self, rows: usize, sources: usize) -> Option<usize> {
        matches!(self, Self::Cuda { .. }).then(|| scratch::mix(rows, sources).bytes())
    }

    pub(super) fn attention_scratch(
        self,
        shape: kv::Shape,
        heads: usize,
        batch: &Batch,
    ) -> Option<usize> {
        match self {
            Self::Cpu { .. } => Some(cpu::decoder_scratch(shape, heads, &batch.spans)),
            Self::Cuda { .. } => None,
        }
    }

    /// Bytes of scratch for attention in a decode step.
    pub(super) fn step_scratch(
        self,
        shape: kv::Shape,
        heads: usize,
        batch: &Batch,
    ) -> Option<usize> {
        match self {
            Self::Cpu { .. } => Some(cpu::decoder_scratch(shape, heads, &batch.spans)),
            Self::Cuda { .. } => {
                let slots = scratch::reach(&batch.spans);
                Some(scratch::decode(shape, heads, batch.spans.len(), slots).bytes())
            }
        }
    }

    /// Bytes of scratch for ranking `among` rows of a prompt by attention.
    pub(super) fn retain_scratch(self, heads: usize, rows: usize, among: usize) -> usize {
        match self {
            Self::Cpu { .. } => cpu::last_row_scratch(rows),
            Self::Cuda { .. } => scratch::retain(heads, rows, among).bytes(),
        }
    }

    /// Bytes of a selection with its scores.
    pub(super) fn selection(self, plan: &select::Plan) -> Result<usize> {
        match self {
            Self::Cpu { .. } => Ok(cpu::kept_bytes(plan)),
            Self::Cuda { .. } => cuda::select::bytes(plan),
        }
    }

    /// Bytes of scratch for making a selection from evidence of these widths; memory on the host does not count for a
    /// device.
    pub(super) fn choosing(self, plan: &select::Plan, widths: Widths) -> Option<usize> {
        match self {
            Self::Cpu { .. } => Some(plan.scratch(widths.widest())),
            Self::Cuda { .. } => cuda::select::scratch_bytes(plan, widths),
        }
    }

    /// Bytes of indices that an operation uploads.
    pub(super) fn indices(self, count: usize) -> Option<usize> {
        matches!(self, Self::Cuda { .. }).then_some(count * size_of::<u32>())
    }

    pub(super) fn batch(self, batch: &Batch) -> Option<usize> {
        let rows = batch.spans.iter().map(|s| s.rows).sum();
        let pages = batch.spans.iter().map(|s| s.pages.len()).max().unwrap_or(0);
        let apart = matches!(self, Self::Cuda { .. }) && batch.tokens.is_empty();
        apart.then(|| scratch::rows(rows, batch.spans.len(), pages).bytes())
    }

    pub(super) fn sample_scratch(self, vocab: usize, how: &[(Sampling, usize)]) -> Option<usize> {
        matches!(self, Self::Cuda { .. }).then(|| scratch::sample(vocab, how))
    }
}
