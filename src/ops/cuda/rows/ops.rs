//! Norms and copies of rows on the device.

use crate::Result;
use crate::ops::Norm;
use crate::ops::cost;
use crate::ops::cuda::abi::{
    GatherParams, HIRED_NEWLINE, InterleaveParams, MixRowsParams, NormParams, SelectMix,
};
use crate::ops::cuda::buffer::{Buffer, Weight};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::launch::{Launch, is_vector, norm as norm_launch, variant};

impl Cuda {
    /// Numbers of a 16-byte access, or one.
    pub(in crate::ops::cuda) fn lanes(&self, vector: bool) -> usize {
        if vector { self.options.formats.activations.lanes() } else { 1 }
    }

    pub(in crate::ops::cuda) fn norm(
        &self,
        op: &str,
        x: &Buffer,
        norm: &Norm<Weight>,
    ) -> Result<Buffer> {
        let out = self.buffer(x.rows, x.cols)?;
        let params = NormParams {
            x: x.pointer(),
            out: out.pointer(),
            weight: norm.weight.vector(),
            bias: norm.bias.as_ref().map_or(std::ptr::null(), Weight::vector),
            rows: x.rows as u32,
            cols: x.cols as u32,
            inverse_cols: 1.0 / x.cols as f32,
            eps: norm.eps,
        };
        // SAFETY: x and out are dense rows of the weight's width.
        unsafe { self.queue.launch(&norm_launch(op, x.dtype, x.rows, x.cols), &params)? };
        Ok(out)
    }

    /// Rows of `x` named by `out.rows` indices in device memory.
    pub(in crate::ops::cuda) fn gather_rows(
        &self,
        x: &Buffer,
        rows: u64,
        out: &Buffer,
    ) -> Result<()> {
        let bytes = x.stride * x.dtype.size();
        let vector = bytes.is_multiple_of(16);
        let kernel = format!("gather_{}", variant(vector));
        let launch = Launch::rows("rows", kernel, out.rows, bytes, if vector { 16 } else { 2 })
            .costing(cost::pass(out.rows * bytes, 1));
        let params = GatherParams {
            x: x.pointer(),
            rows: rows as *const u32,
            out: out.pointer(),
            count: out.rows as u32,
            row_bytes: bytes as u32,
        };
        // SAFETY: the indices are rows of x; out has a row for each.
        unsafe { self.queue.launch(&launch, &params) }
    }

    /// Combinations of rows of `x`, of `sources` in all at most, described in device memory.
    pub(in crate::ops::cuda) fn mix_rows(
        &self,
        x: &Buffer,
        mix: SelectMix,
        sources: usize,
        out: &Buffer,
    ) -> Result<()> {
        // With the padding, which is zero.
        let vector = is_vector(x.dtype, x.stride, out.stride);
        let kernel = format!("mix_rows_{}_{}", variant(vector), x.dtype.name());
        let launch = Launch::rows("merge", kernel, out.rows, x.stride, self.lanes(vector))
            .costing(cost::mix(out.rows, sources, x.cols, x.dtype.size()));
        let params = MixRowsParams {
            x: x.pointer(),
            out: out.pointer(),
            mix,
            cols: x.stride as u32,
            x_stride: x.stride as u32,
            out_stride: out.stride as u32,
            reserved: 0,
        };
        // SAFETY: the sources are rows of x; out has a row for each span.
        unsafe { self.queue.launch(&launch, &params) }
    }

    /// Parameters of rows taken from `table` to `out` and from nowhere else yet.
    pub(in crate::ops::cuda) fn rows_of(&self, table: &Weight, out: &Buffer) -> InterleaveParams {
        InterleaveParams {
            table: table.address as *const _,
            before: std::ptr::null(),
            slots: std::ptr::null(),
            after: std::ptr::null(),
            visual: std::ptr::null(),
            newline: std::ptr::null(),
            out: out.pointer(),
            before_count: 0,
            slot_count: 0,
            after_count: 0,
            cols: out.cols as u32,
            table_stride: table.stride as u32,
            reserved: 0,
        }
    }

    pub(in crate::ops::cuda) fn put_rows(
        &self,
        params: &InterleaveParams,
        out: &Buffer,
    ) -> Result<()> {
        const { assert!(HIRED_NEWLINE == u32::MAX) };
        let vector = is_vector(out.dtype, out.cols, params.table_stride as usize);
        let kernel = format!("interleave_{}_{}", variant(vector), out.dtype.name());
        let launch = Launch::rows("rows", kernel, out.rows, out.cols, self.lanes(vector))
            .costing(cost::pass(out.rows * out.cols, out.dtype.size()));
        // SAFETY: ids are of the vocabulary, slots of the kept rows; `out` has a row for each of them.
        unsafe { self.queue.launch(&launch, params) }
    }
}
