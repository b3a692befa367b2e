//! The paged KV cache in f32 or f16.

use super::buffer::Buffer;
use super::numbers::Numbers;
use super::simd::Isa;
use crate::config::Rope;
use crate::format::Dtype;
use crate::kv::{PAGE, Shape};
use crate::matrix::{View, transpose};
use crate::ops::memory::{Charge, Meter, Purpose, Size};
use crate::ops::{Layered, Span};
use crate::{Error, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::collections::TryReserveError;
use std::sync::Arc;

/// The cache of all its layers.
#[derive(Debug)]
pub struct Cache {
    pub(super) shape: Shape,
    data: Data,
    _charge: Charge,
}

#[derive(Debug)]
enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

/// A vector of `count` zeros; fails without a panic when the system has no memory for them.
fn zeros<T: Clone>(count: usize, zero: T) -> std::result::Result<Vec<T>, TryReserveError> {
    let mut all = Vec::new();
    all.try_reserve_exact(count)?;
    all.resize(count, zero);
    Ok(all)
}

impl Cache {
    pub(super) fn new(meter: &Arc<Meter>, shape: Shape, dtype: Dtype) -> Result<Self> {
        let elements = shape.elements();
        let bytes = elements * dtype.size();
        let refused = |_: TryReserveError| {
            Error::Capacity(format!(
                "the system has no {} for keys and values: \
                 use a smaller budget or fewer images at a time",
                Size(bytes as u64)
            ))
        };
        let data = match dtype {
            Dtype::F16 => Data::F16(zeros(elements, f16::ZERO).map_err(refused)?),
            Dtype::F32 => Data::F32(zeros(elements, 0.0).map_err(refused)?),
        };
        Ok(Self { shape, data, _charge: meter.charge(Purpose::Kv, bytes) })
    }

    /// The format of keys and values.
    pub(super) fn dtype(&self) -> Dtype {
        match self.data {
            Data::F32(_) => Dtype::F32,
            Data::F16(_) => Dtype::F16,
        }
    }

    /// Writes row `i` of `x` to slot `span.slot + i` of the span's sequence, head by head.
    pub(super) fn write(&mut self, layer: usize, span: &Span, values: bool, x: &Buffer) {
        let (shape, width) = (self.shape, self.shape.head_dim);
        for i in 0..span.rows {
            let slot = span.slot + i;
            let page = span.pages[slot / PAGE] as usize;
            let row = x.row(span.row + i);
            for head in 0..shape.kv_heads {
                let at = shape.offset(layer, page, values, head) + slot % PAGE * width;
                let from = &row[head * width..][..width];
                match &mut self.data {
                    Data::F32(data) => data[at..][..width].copy_from_slice(from),
                    Data::F16(data) => data[at..][..width].convert_from_f32_slice(from),
                }
            }
        }
    }

    /// One head's keys or values in the first `slots` of a page, without a copy.
    pub(super) fn block(
        &self,
        layer: usize,
        page: u32,
        head: usize,
        values: bool,
        slots: usize,
    ) -> Numbers<'_> {
        let at = self.shape.offset(layer, page as usize, values, head);
        let range = at..at + slots * self.shape.head_dim;
        match &self.data {
            Data::F32(data) => Numbers::F32(&data[range]),
            Data::F16(data) => Numbers::F16(&data[range]),
        }
    }

    /// Copies one head's values of the first slots of a sequence, as many as `out` holds.
    pub(super) fn values(
        &self,
        isa: Isa,
        layer: usize,
        pages: &[u32],
        head: usize,
        out: &mut [f32],
    ) {
        let width = self.shape.head_dim;
        for (page, out) in pages.iter().zip(out.chunks_mut(PAGE * width)) {
            isa.widen(self.block(layer, *page, head, true, out.len() / width), out);
        }
    }

    /// Copies one head's keys of the first slots of a sequence, transposed: a column for each key, as many as a row of
    /// `out` holds. `block` is scratch for the keys of a page.
    pub(super) fn keys_transposed(
        &self,
        isa: Isa,
        layer: usize,
        pages: &[u32],
        head: usize,
        out: &mut [f32],
        block: &mut [f32],
    ) {
        let width = self.shape.head_dim;
        let keys = out.len() / width;
        for (&page, first) in pages.iter().zip((0..keys).step_by(PAGE)) {
            let slots = PAGE.min(keys - first);
            let block = &mut block[..slots * width];
            isa.widen(self.block(layer, page, head, false, slots), block);
            transpose(View::dense(block, width), &mut out[first..], keys);
        }
    }
}

impl Layered for Cache {
    fn layers(&self) -> usize {
        self.shape.layers
    }
}

/// Rotates each head of each row by its position: pairs (j, j + half) of the numbers that turn, angle position · frequency
/// j; `width`: of a head.
///
/// Frequencies, angles, sine and cosine in f32, as transformers computes them.
pub(super) fn rope(x: &mut Buffer, positions: &[usize], width: usize, rope: &Rope) {
    let frequencies = rope.frequencies();
    let half = frequencies.len();
    for (row, &position) in positions.iter().enumerate() {
        let turns: Vec<(f32, f32)> =
            frequencies.iter().map(|f| (position as f32 * f).sin_cos()).collect();
        for head in x.row_mut(row).chunks_exact_mut(width) {
            let (low, high) = head[..rope.width].split_at_mut(half);
            for ((a, b), (sin, cos)) in low.iter_mut().zip(high).zip(&turns) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}
