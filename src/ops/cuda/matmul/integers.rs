//! Quantizes rows of activations to int8, and collects the scales of integer products.

use super::choose::quantize;
use super::ops::Factor;
use crate::Result;
use crate::format::Format;
use crate::ops::cost::Cost;
use crate::ops::cuda::abi::{CodedRows, CountedQuantizeParams, FactorScales, QuantizeParams};
use crate::ops::cuda::buffer::{Buffer, Coded, Home, Weight, part};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::scratch;
use crate::ops::{Linear, Norm};
use std::ptr::{null, null_mut};

/// Rows of activations as int8 codes with scales.
pub(super) struct Tokens {
    pub factor: Factor,
    _place: Home,
}

/// Cost of quantizing rows in a pass of their own.
pub(in crate::ops::cuda) fn rounding(rows: usize, cols: usize, activation: usize) -> Cost {
    Cost::bytes(rows * (cols * (activation + size_of::<i8>()) + size_of::<f32>()))
}

/// Rows that the kernel that made them has also stored as codes.
pub(super) fn left(x: &Buffer, coded: &Coded) -> Factor {
    let Buffer { rows, cols, dtype, .. } = *x;
    let Coded { codes: address, scales, .. } = *coded;
    Factor { address, scales, counter: 0, rows, cols, inner: cols, stride: cols, dtype }
}

/// Where a kernel stores codes, if it stores any, and the counter of its blocks.
pub(in crate::ops::cuda) fn coded(out: &Buffer, counter: u64) -> CodedRows {
    match &out.coded {
        Some(Coded { codes, scales, .. }) => CodedRows {
            codes: *codes as *mut i8,
            scales: *scales as *mut f32,
            done: counter as *mut u32,
        },
        None => CodedRows { codes: null_mut(), scales: null_mut(), done: null_mut() },
    }
}

impl Cuda {
    /// Quantizes rows of activations, or the result of an RMSNorm on them, to int8.
    pub(super) fn tokens(&self, x: &Buffer, norm: Option<&Norm<Weight>>) -> Result<Tokens> {
        let stride = Format::Q8.stride(x.cols);
        let parts = scratch::tokens(x.rows, x.cols);
        let (place, address) = self.region(parts.bytes())?;
        let [scales, counter] = [1, 2].map(|which| part(address, &parts, which));
        let params = QuantizeParams {
            x: x.pointer(),
            norm: norm.map_or(null(), |n| n.weight.vector()),
            codes: address as *mut i8,
            scales: scales as *mut f32,
            rows: x.rows as u32,
            cols: x.cols as u32,
            x_stride: x.stride as u32,
            stride: stride as u32,
            inverse_cols: 1.0 / x.cols as f32,
            eps: norm.map_or(0.0, |n| n.eps),
        };
        let params = CountedQuantizeParams { rows: params, done: counter as *mut u32 };
        let launch = quantize(x.dtype, x.rows, x.cols, x.stride);
        // SAFETY: the region has space for codes, scales and the counter.
        unsafe { self.queue.launch(&launch, &params)? };
        let (rows, cols, dtype) = (x.rows, x.cols, x.dtype);
        let factor = Factor { address, scales, counter, rows, cols, inner: stride, stride, dtype };
        Ok(Tokens { factor, _place: place })
    }
}

/// Addresses of the scales of integer factors.
pub(super) fn scales(x: &Factor, layers: &[&Linear<Weight>]) -> FactorScales {
    let mut weights = [null(); 3];
    layers.iter().zip(&mut weights).for_each(|(l, to)| *to = l.weight.scales as *const _);
    let group_bits = match layers[0].weight.format {
        Format::Q4 { group } | Format::Awq { group } | Format::W8A16 { group } => group.ilog2(),
        _ => 0,
    };
    FactorScales { weights, rows: x.scales as *const f32, group_bits, reserved: 0 }
}
