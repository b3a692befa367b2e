//! Element-wise kernels beside products: bias and activation after cuBLAS, and the SwiGLU product.

use crate::Result;
use crate::ops::cost::{self, Cost};
use crate::ops::cuda::abi::{ActivationParams, HIRED_IDENTITY, HIRED_ROW_THREADS, SiluMulParams};
use crate::ops::cuda::buffer::{Buffer, Weight};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::launch::{Launch, is_vector, variant};
use std::ptr::null;

impl Cuda {
    /// out = f(out + b): the epilogue after cuBLAS.
    pub(super) fn bias_activation(
        &self,
        out: &Buffer,
        bias: Option<&Weight>,
        activation: u32,
    ) -> Result<()> {
        if bias.is_none() && activation == HIRED_IDENTITY {
            return Ok(());
        }
        let vector = is_vector(out.dtype, out.cols, out.stride);
        let kernel = format!("bias_activation_{}_{}", variant(vector), out.dtype.name());
        let lanes = if vector { out.dtype.lanes() } else { 1 };
        let launch = Launch::rows("activation", kernel, out.rows, out.cols, lanes)
            .costing(cost::pass(out.rows * out.cols, out.dtype.size()));
        let params = ActivationParams {
            x: out.pointer(),
            bias: bias.map_or(null(), Weight::vector),
            rows: out.rows as u32,
            cols: out.cols as u32,
            activation,
            reserved: 0,
        };
        // SAFETY: out is dense, and the bias has its width.
        unsafe { self.queue.launch(&launch, &params) }
    }

    /// gate = silu(gate) · up.
    pub(super) fn silu_mul(&self, gate: &Buffer, up: &Buffer) -> Result<()> {
        let count = gate.rows * gate.cols;
        let vector = is_vector(gate.dtype, count, 0);
        let kernel = format!("silu_mul_{}_{}", variant(vector), gate.dtype.name());
        let lanes = if vector { gate.dtype.lanes() } else { 1 };
        let blocks = count.div_ceil(lanes * HIRED_ROW_THREADS as usize);
        let launch = Launch {
            file: "activation",
            kernel,
            grid: [blocks as u32, 1, 1],
            block: HIRED_ROW_THREADS,
            shared: 0,
            cost: Cost::bytes(3 * count * gate.dtype.size()),
        };
        let params = SiluMulParams {
            gate: gate.pointer(),
            up: up.pointer(),
            out: gate.pointer(),
            count: count as u64,
        };
        // SAFETY: both are dense and of one size.
        unsafe { self.queue.launch(&launch, &params) }
    }
}
