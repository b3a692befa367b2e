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

/// An allocation in device memory, freed when dropped.
#[derive(Debug)]
#[allow(dead_code)] // Never read: it exists to free the memory when dropped.
pub enum Home {
    /// A region of the workspace.
    Part(Region),
    /// A separate block.
    Alone(Block),
}

/// A row-major matrix of activations in the workspace.
#[derive(Debug)]
pub struct Buffer {
    pub(super) _place: Home,
    pub(super) address: u64,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Distance between rows, in numbers.
    pub(super) stride: usize,
    pub(super) dtype: Dtype,
    /// Whether int8 weights made these rows. Rows computed from them are then likely to be multiplied by int8 weights too.
    pub(super) of_integers: bool,
    /// The same rows quantized to int8, if the kernel that made them stored these too. Such rows are never changed in place.
    pub(super) coded: Option<Coded>,
}

/// Rows quantized to int8: contiguous codes, and a scale for each row.
#[derive(Debug)]
pub struct Coded {
    pub(super) _place: Home,
    pub(super) codes: u64,
    pub(super) scales: u64,
}

impl Extent for Buffer {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

/// Attention of class tokens to patches by head; the selection reduces the heads.
#[derive(Debug)]
pub struct Scores {
    pub(super) _place: Home,
    pub(super) heads: ClsHeads,
}

/// A weight, and the block that it keeps allocated.
#[derive(Debug)]
pub struct Weight {
    pub(super) _block: Arc<Block>,
    pub(super) address: u64,
    /// Address of the scales of integer weights, else 0.
    pub(super) scales: u64,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Distance between rows, in numbers.
    pub(super) stride: usize,
    pub(super) format: Format,
}

/// Keys and values, and the arrays that a decode step reads.
#[derive(Debug)]
pub struct Cache {
    pub(super) block: Arc<Block>,
    pub(super) shape: kv::Shape,
    pub(super) dtype: Dtype,
    /// Offset of those arrays in the block, see [`super::scratch::step`].
    pub(super) step: u64,
    pub(super) parts: Parts<6>,
    /// The rotary embedding whose frequencies were uploaded.
    pub(super) rope: Option<Rope>,
}

impl Layered for Cache {
    fn layers(&self) -> usize {
        self.shape.layers
    }
}

/// A batch of rows: arrays in device memory, and what the host knows of them.
#[derive(Debug)]
pub struct Batch {
    pub(super) spans: Vec<Span>,
    /// In a decode step, which has one row for each span: address of the tokens.
    pub(super) tokens: Option<u64>,
    /// Address of the rows' rotary positions.
    pub(super) positions: u64,
    /// Address of the slots of the rows' keys and values.
    pub(super) slots: u64,
    pub(super) sequences: u64,
    pub(super) tables: u64,
    /// Entries of each block table.
    pub(super) stride: usize,
    pub(super) _place: Option<Home>,
    pub(super) _block: Option<Arc<Block>>,
}

impl Buffer {
    /// The address as a pointer, for kernel parameters.
    pub(super) fn pointer<T>(&self) -> *mut T {
        self.address as *mut T
    }
}

impl Weight {
    /// The address of an f32 vector as a pointer, for kernel parameters.
    pub(super) fn vector(&self) -> *const f32 {
        self.address as *const f32
    }
}

impl Cache {
    /// Address of the pages of one layer.
    pub(super) fn layer<T>(&self, layer: usize) -> *mut T {
        let offset = layer * self.shape.pages * self.shape.page_elements() * self.dtype.size();
        (self.block.address() + offset as u64) as *mut T
    }
}

/// Address of a part of a region.
pub(super) fn part<const N: usize>(address: u64, parts: &Parts<N>, part: usize) -> u64 {
    address + parts.offset(part) as u64
}
