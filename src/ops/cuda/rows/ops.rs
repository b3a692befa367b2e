//! Operations on rows on the device: pixels, norms and copies.

use crate::format::Format;
use crate::image::{Normalization, Tiles};
use crate::ops::clock::Stage;
use crate::ops::cost::{self, Cost};
use crate::ops::cuda::abi::{
    ConvolveParams, GatherParams, HIRED_NEWLINE, InterleaveParams, MixRowsParams, NormParams,
    PatchesParams, ScaledAddParams, SelectMix, TokensParams,
};
use crate::ops::cuda::buffer::{Batch, Buffer, Weight, part};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::launch::{Launch, is_vector, variant};
use crate::ops::cuda::rows::choose;
use crate::ops::cuda::scratch;
use crate::ops::{MeasureOps, Norm, RowOps, Visual};
use crate::{Error, Result};

impl RowOps for Cuda {
    fn patches(&mut self, tiles: &Tiles, norm: &Normalization, patch: usize) -> Result<Buffer> {
        let (partitions, side) = (tiles.partitions(), tiles.layout.side);
        let (grid, cols) = (side / patch, 3 * patch * patch);
        let dtype = self.options.formats.activations;
        let stride = Format::from(dtype).stride(cols);
        let out = self.strided(partitions * grid * grid, cols, stride, dtype)?;
        let parts = scratch::patches(tiles.pixels.len());
        let (_region, address) = self.region(parts.bytes())?;
        let (lut, pixels) = (part(address, &parts, 0), part(address, &parts, 1));
        let vector = stride.is_multiple_of(4);
        let kernel = format!("patches_{}_{}", variant(vector), out.dtype.name());
        let launch = Launch::rows("vision", kernel, out.rows, stride, if vector { 4 } else { 1 });
        let written = out.rows * stride * out.dtype.size();
        let launch = launch.costing(Cost::bytes(tiles.pixels.len() + written));
        let params = PatchesParams {
            pixels: pixels as *const u8,
            lut: lut as *const f32,
            out: out.pointer(),
            partitions: partitions as u32,
            side: side as u32,
            patch: patch as u32,
            stride: stride as u32,
        };
        let stage = self.watch.stage();
        self.enter(Stage::Upload)?;
        // SAFETY: the region holds the table and the bytes; the configuration guarantees that a side holds a patch.
        unsafe {
            self.queue.upload(lut, norm.lut.as_flattened())?;
            self.queue.upload(pixels, &tiles.pixels)?;
            self.enter(stage)?;
            self.queue.launch(&launch, &params)?;
        }
        Ok(out)
    }

    fn vision_tokens(
        &mut self,
        patches: &Buffer,
        class: Option<&Weight>,
        position: &Weight,
        partitions: usize,
    ) -> Result<Buffer> {
        let cols = patches.cols;
        let prefix = usize::from(class.is_some());
        let out = self.buffer(patches.rows + partitions * prefix, cols)?;
        let vector = is_vector(out.dtype, cols, cols);
        let kernel = format!("vision_tokens_{}_{}", variant(vector), out.dtype.name());
        let launch = Launch::rows("vision", kernel, out.rows, cols, self.lanes(vector))
            .costing(cost::pass(out.rows * cols, out.dtype.size()));
        let params = TokensParams {
            patches: patches.pointer(),
            class_token: class.map_or(std::ptr::null(), Weight::vector),
            position: position.vector(),
            out: out.pointer(),
            partitions: partitions as u32,
            patch_count: (patches.rows / partitions) as u32,
            cols: cols as u32,
            reserved: 0,
        };
        // SAFETY: the model has checked the shapes; all operands are allocated.
        unsafe { self.queue.launch(&launch, &params)? };
        Ok(out)
    }

    fn layer_norm(&mut self, x: &Buffer, norm: &Norm<Weight>) -> Result<Buffer> {
        self.norm("layer_norm", x, norm)
    }

    fn head_norm(&mut self, x: &mut Buffer, norm: &Norm<Weight>) -> Result<()> {
        debug_assert_eq!(x.stride, x.cols);
        let cols = norm.weight.cols;
        self.norm_into("rms_norm", x, norm, [x.rows * x.cols / cols, cols], x)
    }

    fn scaled_add(&mut self, sum: &mut Buffer, x: &Buffer, factors: &Weight) -> Result<()> {
        debug_assert_eq!([sum.stride, x.stride, x.cols], [sum.cols; 3]);
        let vector = is_vector(sum.dtype, sum.cols, x.cols);
        let kernel = format!("scaled_add_{}_{}", variant(vector), sum.dtype.name());
        let lanes = self.lanes(vector);
        let launch = Launch::rows("activation", kernel, sum.rows, sum.cols, lanes)
            .costing(cost::pass(sum.rows * sum.cols, sum.dtype.size()));
        let params = ScaledAddParams {
            sum: sum.pointer(),
            x: x.pointer(),
            factors: factors.vector(),
            rows: sum.rows as u32,
            cols: sum.cols as u32,
        };
        // SAFETY: both are dense rows of the factors' width.
        unsafe { self.queue.launch(&launch, &params) }
    }

    fn convolve(&mut self, x: &Buffer, weight: &Weight, bias: &Weight) -> Result<Buffer> {
        debug_assert_eq!(x.stride, x.cols);
        let out = self.buffer(x.rows, x.cols)?;
        let kernel = format!("convolve_{}", x.dtype.name());
        let launch = Launch::rows("convolve", kernel, x.rows, x.cols, 1)
            .costing(cost::pass(x.rows * x.cols, x.dtype.size()));
        let params = ConvolveParams {
            x: x.pointer(),
            weight: weight.vector(),
            bias: bias.vector(),
            out: out.pointer(),
            side: x.rows.isqrt() as u32,
            cols: x.cols as u32,
        };
        // SAFETY: x is a dense square of rows; the weights are nine for each of its columns, as the layout has them.
        unsafe { self.queue.launch(&launch, &params)? };
        Ok(out)
    }

    fn join(&mut self, x: Buffer, each: usize) -> Buffer {
        debug_assert_eq!(x.stride, x.cols);
        Buffer { rows: x.rows / each, cols: x.cols * each, stride: x.cols * each, ..x }
    }

    fn gather(&mut self, x: &Buffer, rows: &[usize]) -> Result<Buffer> {
        let out = self.strided(rows.len(), x.cols, x.stride, x.dtype)?;
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let (_region, address) = self.region(rows.len() * size_of::<u32>())?;
        // SAFETY: the region holds the indices.
        unsafe { self.queue.upload(address, &rows)? };
        self.gather_rows(x, address, &out)?;
        Ok(out)
    }

    fn interleave(
        &mut self,
        table: &Weight,
        images: &[(&[u32], Visual<'_, Self>)],
        after: &[u32],
    ) -> Result<Buffer> {
        let slots: usize = images.iter().map(|(_, visual)| visual.kept.slot_count).sum();
        let texts = images.iter().map(|(before, _)| *before).chain([after]);
        let ids: Vec<u32> = texts.flatten().copied().collect();
        let out = self.buffer(ids.len() + slots, table.cols)?;
        let (_region, address) = self.region(size_of_val(&ids[..]))?;
        // SAFETY: the region holds the ids, which the engine has checked against the vocabulary.
        unsafe { self.queue.upload(address, &ids)? };
        let at = |index: usize| address + (index * size_of::<u32>()) as u64;
        // One launch for each image, with the ids before it; the last launch takes the ids after the last image too.
        let (mut id, mut row) = (0, 0);
        let last = images.len().saturating_sub(1);
        for index in 0..=last {
            let (before, visual) = match images.get(index) {
                Some((before, visual)) => (before.len(), Some(visual)),
                None => (0, None),
            };
            let after = if index == last { after.len() } else { 0 };
            let slots = visual.map_or(0, |visual| visual.kept.slot_count);
            let rows = before + slots + after;
            let params = InterleaveParams {
                before: at(id) as *const u32,
                slots: visual.map_or(0, |v| v.kept.slots) as *const u32,
                after: at(id + before) as *const u32,
                visual: visual.map_or(std::ptr::null(), |v| v.rows.pointer()),
                newline: visual.and_then(|v| v.newline).map_or(std::ptr::null(), Weight::vector),
                out: (out.address + (row * out.stride * out.dtype.size()) as u64) as *mut _,
                before_count: before as u32,
                slot_count: slots as u32,
                after_count: after as u32,
                ..self.rows_of(table, &out)
            };
            if rows > 0 {
                self.put_rows(&params, rows, &out)?;
            }
            (id, row) = (id + before, row + rows);
        }
        Ok(out)
    }

    fn embed(&mut self, table: &Weight, batch: &Batch) -> Result<Buffer> {
        let tokens = batch
            .tokens
            .ok_or_else(|| Error::Device("a batch without tokens has no embeddings".into()))?;
        let out = self.buffer(batch.spans.len(), table.cols)?;
        let params = InterleaveParams {
            before: tokens as *const u32,
            before_count: batch.spans.len() as u32,
            ..self.rows_of(table, &out)
        };
        self.put_rows(&params, batch.spans.len(), &out)?;
        Ok(out)
    }
}

impl Cuda {
    /// Numbers of a 16-byte access, or 1 without vector accesses.
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
        self.norm_into(op, x, norm, [x.rows, x.cols], &out)?;
        Ok(out)
    }

    /// The norm of the numbers of `x`, viewed as this many rows and columns; `out` may be `x`.
    fn norm_into(
        &self,
        op: &str,
        x: &Buffer,
        norm: &Norm<Weight>,
        [rows, cols]: [usize; 2],
        out: &Buffer,
    ) -> Result<()> {
        let params = NormParams {
            x: x.pointer(),
            out: out.pointer(),
            weight: norm.weight.vector(),
            bias: norm.bias.as_ref().map_or(std::ptr::null(), Weight::vector),
            rows: rows as u32,
            cols: cols as u32,
            inverse_cols: 1.0 / cols as f32,
            eps: norm.eps,
        };
        // SAFETY: x and out are dense rows of the weight's width.
        unsafe { self.queue.launch(&choose::norm(op, x.dtype, rows, cols), &params) }
    }

    /// Copies rows of `x`: `rows` is the address of `out.rows` indices.
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

    /// Weighted sums of rows of `x`, which have at most `sources` terms in all; `mix` has their addresses.
    pub(in crate::ops::cuda) fn mix_rows(
        &self,
        x: &Buffer,
        mix: SelectMix,
        sources: usize,
        out: &Buffer,
    ) -> Result<()> {
        // The padding is included, since it is zero.
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

    /// Parameters that copy rows of `table` to `out`; the caller adds other sources.
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
        rows: usize,
        out: &Buffer,
    ) -> Result<()> {
        const { assert!(HIRED_NEWLINE == u32::MAX) };
        let vector = is_vector(out.dtype, out.cols, params.table_stride as usize);
        let kernel = format!("interleave_{}_{}", variant(vector), out.dtype.name());
        let launch = Launch::rows("rows", kernel, rows, out.cols, self.lanes(vector))
            .costing(cost::pass(rows * out.cols, out.dtype.size()));
        // SAFETY: ids are in the vocabulary and slots name kept rows; from `params.out` on there is space for all rows.
        unsafe { self.queue.launch(&launch, params) }
    }
}
