//! Matrix products on the device: few rows by GEMV, which reads each weight once, and more by GEMM.

use super::choose::Kernels;
use super::integers::{self, coded, scales};
use super::{Factors, fuses_gate, fuses_norm, gate_leaves_codes, is_by_library, quantizes};
use crate::config::Activation;
use crate::format::{Dtype, Format};
use crate::ops::cost::{self, Cost};
use crate::ops::cuda::abi::{
    CodedGemvParams, GemmParams, GemvParams, HIRED_ADD, HIRED_GATE, HIRED_IDENTITY, HIRED_STORE,
    ScaledGemmParams, ScaledGemvParams,
};
use crate::ops::cuda::buffer::{Buffer, Weight};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::matmul::cublas::Blas;
use crate::ops::cuda::matmul::gemm::{Product, Split};
use crate::ops::cuda::matmul::gemv::{Form, Gemv};
use crate::ops::{DECODE_ROWS, Linear, MatmulOps, Norm};
use crate::{Error, Result};
use std::ptr::{null, null_mut};

/// What is done with the sums.
#[derive(Debug, Clone, Copy)]
struct Epilogue {
    kind: u32,
    activation: u32,
}

const STORE: Epilogue = Epilogue { kind: HIRED_STORE, activation: HIRED_IDENTITY };
const ADD: Epilogue = Epilogue { kind: HIRED_ADD, activation: HIRED_IDENTITY };
const GATE: Epilogue = Epilogue { kind: HIRED_GATE, activation: HIRED_IDENTITY };

/// The activations of a product, as the kernels read them: as they are, or quantized.
#[derive(Debug, Clone, Copy)]
pub struct Factor {
    pub(super) address: u64,
    /// Address of the rows' scales, if they are quantized.
    pub(super) scales: u64,
    /// Address of the counter by which the blocks of a product of such rows find the last one.
    pub(super) counter: u64,
    pub(super) rows: usize,
    /// Numbers of a row, and the numbers to multiply: with the padding where both factors have it.
    pub(super) cols: usize,
    pub(super) inner: usize,
    /// Distance between rows, in numbers.
    pub(super) stride: usize,
    /// Format of the activations, before they were quantized.
    pub(super) dtype: Dtype,
}

impl MatmulOps for Cuda {
    fn linear(
        &mut self,
        x: &Buffer,
        layer: &Linear<Weight>,
        activation: Option<Activation>,
    ) -> Result<Buffer> {
        let mut out = self.buffer(x.rows, layer.weight.rows)?;
        out.of_integers = quantizes(layer.weight.format);
        let epilogue = Epilogue { activation: number_of(activation), ..STORE };
        self.products(x, None, &[layer], &[&out], epilogue)?;
        Ok(out)
    }

    fn linears<const N: usize>(
        &mut self,
        x: &Buffer,
        layers: [&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        let outs = self.outs(x.rows, &layers)?;
        self.products(x, None, &layers, &outs.each_ref(), STORE)?;
        Ok(outs)
    }

    fn linear_add(&mut self, sum: &mut Buffer, x: &Buffer, layer: &Linear<Weight>) -> Result<()> {
        self.products(x, None, &[layer], &[sum], ADD)
    }

    fn normed_linear<const N: usize>(
        &mut self,
        x: &Buffer,
        norm: &Norm<Weight>,
        layers: [&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        if !fuses_norm(x.rows, &formats(&layers)) {
            let n = self.norm("rms_norm", x, norm)?;
            return self.linears(&n, layers);
        }
        let outs = self.outs(x.rows, &layers)?;
        self.products(x, Some(norm), &layers, &outs.each_ref(), STORE)?;
        Ok(outs)
    }

    fn normed_swiglu(
        &mut self,
        x: &Buffer,
        norm: &Norm<Weight>,
        gate: &Linear<Weight>,
        up: &Linear<Weight>,
    ) -> Result<Buffer> {
        let layers = [gate, up];
        let formats = formats(&layers);
        let normed = match fuses_norm(x.rows, &formats) {
            true => None,
            false => Some(self.norm("rms_norm", x, norm)?),
        };
        let (x, norm) = match &normed {
            Some(n) => (n, None),
            None => (x, Some(norm)),
        };
        let leaves_codes = gate_leaves_codes(x.rows, gate.weight.rows, &formats);
        let out = self.coded_buffer(x.rows, gate.weight.rows, leaves_codes)?;
        if fuses_gate(x.rows, &formats, self.blas.is_some()) {
            self.products(x, norm, &layers, &[&out], GATE)?;
            return Ok(out);
        }
        self.products(x, norm, &[gate], &[&out], STORE)?;
        let factor = self.buffer(x.rows, up.weight.rows)?;
        self.products(x, norm, &[up], &[&factor], STORE)?;
        self.silu_mul(&out, &factor)?;
        Ok(out)
    }

    fn logits(
        &mut self,
        x: &Buffer,
        norm: Option<&Norm<Weight>>,
        head: &Linear<Weight>,
    ) -> Result<Buffer> {
        let cols = head.weight.rows;
        let out = self.strided(x.rows, cols, cols, Dtype::F32)?;
        self.products(x, norm, &[head], &[&out], STORE)?;
        Ok(out)
    }
}

impl Cuda {
    fn outs<const N: usize>(
        &self,
        rows: usize,
        layers: &[&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        const { assert!(N >= 1 && N <= 3) };
        let mut outs = Vec::with_capacity(N);
        for layer in layers {
            let mut out = self.buffer(rows, layer.weight.rows)?;
            out.of_integers = quantizes(layer.weight.format);
            outs.push(out);
        }
        Ok(outs.try_into().expect("one for each layer"))
    }

    /// The kernels for the formats of activations and weight.
    fn kernels(&self, x: &Factor, weight: &Weight) -> Result<&'static Kernels> {
        let factors = Factors { weights: weight.format, activations: x.dtype };
        Kernels::of(self.queue.path(), factors).ok_or_else(|| {
            Error::Device(format!(
                "no kernel multiplies activations in {} with weights in {}: report this fault",
                x.dtype.name(),
                weight.format.name()
            ))
        })
    }

    /// Up to three products of the same rows, with an RMSNorm before them where it is fused: by GEMV or GEMM, in one
    /// launch or one after another if the formats differ.
    fn products(
        &self,
        x: &Buffer,
        norm: Option<&Norm<Weight>>,
        layers: &[&Linear<Weight>],
        outs: &[&Buffer],
        epilogue: Epilogue,
    ) -> Result<()> {
        let weight = &layers[0].weight;
        if layers.iter().any(|layer| layer.weight.format != weight.format) {
            let mut pairs = layers.iter().zip(outs);
            return pairs
                .try_for_each(|(layer, out)| self.products(x, norm, &[layer], &[out], epilogue));
        }
        if x.rows == 0 {
            return Ok(());
        }
        if quantizes(weight.format) {
            if let (None, Some(coded)) = (norm, &x.coded) {
                let left = integers::left(x, coded);
                return self.products_of(&left, None, layers, outs, epilogue);
            }
            let tokens = self.tokens(x, norm)?;
            return self.products_of(&tokens.factor, None, layers, outs, epilogue);
        }
        let factor = Factor {
            address: x.address,
            scales: 0,
            counter: 0,
            rows: x.rows,
            cols: x.cols,
            inner: inner(x, weight),
            stride: x.stride,
            dtype: x.dtype,
        };
        self.products_of(&factor, norm, layers, outs, epilogue)
    }

    /// [`Cuda::products`] with the activations as the kernels read them.
    fn products_of(
        &self,
        x: &Factor,
        norm: Option<&Norm<Weight>>,
        layers: &[&Linear<Weight>],
        outs: &[&Buffer],
        epilogue: Epilogue,
    ) -> Result<()> {
        if x.rows <= DECODE_ROWS {
            return self.gemv(x, norm, layers, outs, epilogue);
        }
        match &self.blas {
            Some(blas) if is_by_library(layers[0].weight.format, true) => {
                let mut pairs = layers.iter().zip(outs);
                pairs.try_for_each(|(layer, out)| self.cublas(blas, x, layer, out, epilogue))
            }
            _ => self.gemm(x, layers, outs, epilogue),
        }
    }

    /// GEMM with up to three weights of one row length; gate and up have one out.
    fn gemm(
        &self,
        x: &Factor,
        layers: &[&Linear<Weight>],
        outs: &[&Buffer],
        epilogue: Epilogue,
    ) -> Result<()> {
        let weight = &layers[0].weight;
        debug_assert!(layers.iter().all(|layer| layer.weight.stride == weight.stride));
        let (mut cols, mut out_strides) = ([0; 3], [0; 3]);
        layers.iter().zip(&mut cols).for_each(|(layer, cols)| *cols = layer.weight.rows);
        outs.iter().zip(&mut out_strides).for_each(|(out, stride)| *stride = out.stride);
        let widest = cols.into_iter().max().unwrap_or(0);
        let product = Product {
            rows: x.rows,
            cols,
            gated: epilogue.kind == HIRED_GATE,
            inner: x.inner,
            x_stride: x.stride,
            w_stride: weight.stride,
            out_strides,
            aligned: true,
            // As planned, without padding: the formats that are split have none.
            split: match self.whole || quantizes(weight.format) {
                true => Split::ONE,
                false => Split::of(x.rows, widest, weight.cols, weight.format),
            },
        };
        let sums = product.split.bytes(x.rows, cols.iter().sum());
        let scratch = sums.map(|bytes| self.region(bytes)).transpose()?;
        let mut params = GemmParams {
            x: x.address as *const _,
            weights: [null(); 3],
            biases: [null(); 3],
            outs: [null_mut(); 3],
            sums: scratch.as_ref().map_or(0, |(_, address)| *address) as *mut f32,
            cols: cols.map(|cols| cols as u32),
            out_strides: out_strides.map(|stride| stride as u32),
            rows: x.rows as u32,
            inner: (product.inner / product.split.parts) as u32,
            x_stride: x.stride as u32,
            w_stride: weight.stride as u32,
            parts: product.split.parts as u32,
            activation: epilogue.activation,
            epilogue: epilogue.kind,
            reserved: 0,
        };
        for (i, layer) in layers.iter().enumerate() {
            params.weights[i] = layer.weight.address as *const _;
            params.biases[i] = layer.bias.as_ref().map_or(null(), Weight::vector);
        }
        for (i, out) in outs.iter().enumerate() {
            params.outs[i] = out.pointer();
        }
        let mut cost = Cost::default();
        layers.iter().for_each(|layer| cost += cost_of(x, &layer.weight, epilogue));
        let launches = self.kernels(x, weight)?.gemm(&product, self.processors);
        // SAFETY: the model has checked the shapes; all operands are allocated, and later users of the scratch run
        // after both kernels.
        unsafe {
            let launch = launches.product.costing(cost);
            if weight.format.is_integer() {
                let scales = scales(x, layers);
                self.queue.launch(&launch, &ScaledGemmParams { product: params, scales })?;
            } else {
                self.queue.launch(&launch, &params)?;
            }
            launches.sum.map_or(Ok(()), |sum| self.queue.launch(&sum, &params))
        }
    }

    fn cublas(
        &self,
        blas: &Blas,
        x: &Factor,
        layer: &Linear<Weight>,
        out: &Buffer,
        epilogue: Epilogue,
    ) -> Result<()> {
        let weight = &layer.weight;
        let add = epilogue.kind == HIRED_ADD;
        self.queue.recorded(
            || "cuBLAS".into(),
            cost_of(x, weight, epilogue),
            || {
                // SAFETY: the model has checked the shapes; with cuBLAS all formats are fp16.
                unsafe { blas.product(x, weight, out, add) }
            },
        )?;
        self.bias_activation(out, layer.bias.as_ref(), epilogue.activation)
    }

    /// GEMV: products of at most eight rows, with an RMSNorm before them if `norm` is given.
    fn gemv(
        &self,
        x: &Factor,
        norm: Option<&Norm<Weight>>,
        layers: &[&Linear<Weight>],
        outs: &[&Buffer],
        epilogue: Epilogue,
    ) -> Result<()> {
        let weight = &layers[0].weight;
        let mut params = GemvParams {
            x: x.address as *const _,
            norm: norm.map_or(null(), |n| n.weight.vector()),
            weights: [null(); 3],
            biases: [null(); 3],
            outs: [null_mut(); 3],
            cols: [0; 3],
            rows: x.rows as u32,
            inner: x.inner as u32,
            x_stride: x.stride as u32,
            w_stride: weight.stride as u32,
            eps: norm.map_or(0.0, |n| n.eps),
            inverse_inner: 1.0 / x.cols as f32,
            activation: epilogue.activation,
            epilogue: epilogue.kind,
            reserved: 0,
        };
        for (i, layer) in layers.iter().enumerate() {
            params.weights[i] = layer.weight.address as *const _;
            params.biases[i] = layer.bias.as_ref().map_or(null(), Weight::vector);
            params.cols[i] = layer.weight.rows as u32;
        }
        for (i, out) in outs.iter().enumerate() {
            params.outs[i] = out.pointer();
        }
        let form = match (epilogue.kind, outs[0].dtype == x.dtype) {
            (HIRED_GATE, _) => Form::Gate,
            (_, true) => Form::Linear,
            (_, false) => Form::Logits,
        };
        let product = Gemv {
            form,
            rows: x.rows,
            inner: x.inner,
            cols: params.cols.map(|cols| cols as usize),
            x_stride: x.stride,
            w_stride: weight.stride,
            aligned: true,
        };
        let mut cost = Cost::default();
        layers.iter().for_each(|layer| cost += cost_of(x, &layer.weight, epilogue));
        let gated = epilogue.kind == HIRED_GATE;
        if gated && outs[0].coded.is_some() {
            cost += integers::rounding(x.rows, outs[0].cols, x.dtype.size());
        }
        let launch = self.kernels(x, weight)?.gemv(&product).costing(cost);
        if !weight.format.is_integer() {
            // SAFETY: the model has checked the shapes; all operands are allocated.
            return unsafe { self.queue.launch(&launch, &params) };
        }
        let product = ScaledGemvParams { product: params, scales: scales(x, layers) };
        if !quantizes(weight.format) {
            // SAFETY: as above.
            return unsafe { self.queue.launch(&launch, &product) };
        }
        let params = CodedGemvParams { product, coded: coded(outs[0], x.counter) };
        // SAFETY: as above. The kernel that quantizes rows sets their counter to 0; rows that were quantized by the
        // kernel that made them are read by a product that stores no codes.
        unsafe { self.queue.launch(&launch, &params) }
    }
}

/// Numbers of a row to multiply: with the padding where both factors have it, because it is zero and allows vector
/// accesses.
fn inner(x: &Buffer, weight: &Weight) -> usize {
    debug_assert_eq!(x.cols, weight.cols);
    if x.stride == weight.stride { x.stride } else { x.cols }
}

/// The formats of the layers' weights.
fn formats<const N: usize>(layers: &[&Linear<Weight>; N]) -> [Format; N] {
    layers.map(|layer| layer.weight.format)
}

/// Cost of a product with one weight.
fn cost_of(x: &Factor, weight: &Weight, epilogue: Epilogue) -> Cost {
    let (n, k) = (weight.rows, weight.cols);
    let of = if epilogue.kind == HIRED_ADD { cost::linear_add } else { cost::linear };
    of(x.rows, n, k, x.dtype.size(), weight.format.bytes(n, k))
}

fn number_of(activation: Option<Activation>) -> u32 {
    use crate::ops::cuda::abi::{HIRED_GELU, HIRED_GELU_TANH, HIRED_QUICK_GELU, HIRED_SILU};
    match activation {
        None => HIRED_IDENTITY,
        Some(Activation::QuickGelu) => HIRED_QUICK_GELU,
        Some(Activation::Gelu) => HIRED_GELU,
        Some(Activation::Silu) => HIRED_SILU,
        Some(Activation::GeluTanh) => HIRED_GELU_TANH,
    }
}
