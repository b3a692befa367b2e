//! Activations, weights and the cache in device memory.

use super::driver::block::Block;
use super::parts::Parts;
use super::select::ClsHeads;
use crate::config::Rope;
use crate::format::{Dtype, Format};
use crate::kv;
use crate::ops::arena::Region;
use crate::ops::{Extent, Layered, Span};
use std::sync::Arc;

/// Device memory for a while.
#[derive(Debug)]
#[allow(dead_code)] // Held for what dropping it does.
pub enum Home {
    /// A part of the workspace.
    Part(Region),
    /// A block of its own.
    Alone(Block),
}

/// A matrix of activations, row-major, in the workspace.
#[derive(Debug)]
pub struct Buffer {
    pub(super) _place: Home,
    pub(super) address: u64,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Numbers from one row to the next.
    pub(super) stride: usize,
    pub(super) dtype: Dtype,
}

impl Extent for Buffer {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

/// Attention of class tokens, whose heads the selection sums.
#[derive(Debug)]
pub struct Scores {
    pub(super) _place: Home,
    pub(super) heads: ClsHeads,
}

/// A weight in a block that it keeps alive.
#[derive(Debug)]
pub struct Weight {
    pub(super) _block: Arc<Block>,
    pub(super) address: u64,
    /// Where the scales of integers are, else 0.
    pub(super) scales: u64,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Numbers from one row to the next.
    pub(super) stride: usize,
    pub(super) format: Format,
}

/// Keys and values, and what a decode step reads.
#[derive(Debug)]
pub struct Cache {
    pub(super) block: Arc<Block>,
    pub(super) shape: kv::Shape,
    pub(super) dtype: Dtype,
    /// Where in the block that lies, see [`super::scratch::step`].
    pub(super) step: u64,
    pub(super) parts: Parts<6>,
    /// Whose frequencies are there.
    pub(super) rope: Option<Rope>,
}

impl Layered for Cache {
    fn layers(&self) -> usize {
        self.shape.layers
    }
}

/// A batch of rows: arrays in device memory and what the host knows of them.
#[derive(Debug)]
pub struct Batch {
    pub(super) spans: Vec<Span>,
    /// A decode step: one row for each span, `tokens` on the device.
    pub(super) tokens: Option<u64>,
    /// By which rows are rotated.
    pub(super) positions: u64,
    /// Where their keys and values go.
    pub(super) slots: u64,
    pub(super) sequences: u64,
    pub(super) tables: u64,
    /// Pages from one table to the next.
    pub(super) stride: usize,
    pub(super) _place: Option<Home>,
    pub(super) _block: Option<Arc<Block>>,
}

impl Buffer {
    /// As parameters take it.
    pub(super) fn pointer<T>(&self) -> *mut T {
        self.address as *mut T
    }
}

impl Weight {
    /// A vector of f32, as parameters take it.
    pub(super) fn vector(&self) -> *const f32 {
        self.address as *const f32
    }
}

impl Cache {
    /// The pages of one layer.
    pub(super) fn layer<T>(&self, layer: usize) -> *mut T {
        let offset = layer * self.shape.pages * self.shape.page_elements() * self.dtype.size();
        (self.block.address() + offset as u64) as *mut T
    }
}

/// A part of a region, by its address.
pub(super) fn part<const N: usize>(address: u64, parts: &Parts<N>, part: usize) -> u64 {
    address + parts.offset(part) as u64
}
