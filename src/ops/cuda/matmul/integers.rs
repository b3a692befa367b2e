//! Quantizes rows of activations to int8, and collects the scales of integer products.

use super::choose::quantize;
use super::ops::Factor;
use crate::Result;
use crate::format::Format;
use crate::ops::cuda::abi::{FactorScales, QuantizeParams};
use crate::ops::cuda::buffer::{Buffer, Home, Weight, part};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::scratch;
use crate::ops::{Linear, Norm};
use std::ptr::null;

/// Rows of activations as int8 codes with scales.
pub(super) struct Tokens {
    pub factor: Factor,
    _place: Home,
}

impl Cuda {
    /// Quantizes rows of activations, or the result of an RMSNorm on them, to int8.
    pub(super) fn tokens(&self, x: &Buffer, norm: Option<&Norm<Weight>>) -> Result<Tokens> {
        let stride = Format::Q8.stride(x.cols);
        let parts = scratch::tokens(x.rows, x.cols);
        let (place, address) = self.region(parts.bytes())?;
        let scales = part(address, &parts, 1);
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
        let launch = quantize(x.dtype, x.rows, x.cols, x.stride);
        // SAFETY: the region has space for codes and scales.
        unsafe { self.queue.launch(&launch, &params)? };
        let (rows, cols, dtype) = (x.rows, x.cols, x.dtype);
        let factor = Factor { address, scales, rows, cols, inner: stride, stride, dtype };
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
