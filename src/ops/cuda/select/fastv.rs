//! FastV on the device: which rows of a prompt remain after a layer. The host knows how many, but not which.

use crate::Result;
use crate::ops::cost::{self, Cost};
use crate::ops::cuda::abi::{HIRED_RETAIN_THREADS, LastRowParams, RetainParams};
use crate::ops::cuda::attention::choose as attention;
use crate::ops::cuda::attention::ops::scale;
use crate::ops::cuda::buffer::{Batch, Buffer, Cache, Home, part};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::launch::{Launch, WARP};
use crate::ops::cuda::scratch;
use crate::ops::{FastvOps, Span};
use std::ops::Range;

/// The retained rows of a prompt, in device memory.
#[derive(Debug)]
pub struct Retained {
    _place: Home,
    /// Address of their numbers in the prompt, ascending, which are also their positions.
    pub(in crate::ops::cuda) rows: u64,
    pub(in crate::ops::cuda) count: usize,
}

impl FastvOps for Cuda {
    fn retain(
        &mut self,
        q: &Buffer,
        cache: &Cache,
        layer: usize,
        batch: &Batch,
        among: Range<usize>,
        keep: usize,
    ) -> Result<Retained> {
        let (span, shape) = (&batch.spans[0], &cache.shape);
        let (rows, candidates) = (span.context(), among.len());
        let count = rows - (candidates - keep);
        let (place, out) = self.region(count * size_of::<u32>())?;
        let heads = q.cols / shape.head_dim;
        let parts = scratch::retain(heads, rows, candidates);
        let (_region, address) = self.region(parts.bytes())?;
        let at = |index| part(address, &parts, index);
        let last = (span.row + span.rows - 1) * q.stride * q.dtype.size();
        let params = LastRowParams {
            q: (q.address + last as u64) as *const _,
            cache: cache.layer(layer),
            pages: batch.tables as *const u32,
            weights: at(0) as *mut f32,
            sums: at(1) as *mut f32,
            keys: rows as u32,
            heads: heads as u32,
            kv_heads: shape.kv_heads as u32,
            head_dim: shape.head_dim as u32,
            scale: scale(shape.head_dim),
            reserved: 0,
        };
        let cost = cost::last_row(rows, q.cols, *shape, q.dtype.size());
        let launch = attention::last_row(q.dtype, heads, shape.head_dim).costing(cost);
        // SAFETY: the table names the pages of all keys; the scratch has space for a weight of each key in every head.
        unsafe { self.queue.launch(&launch, &params)? };
        let params = RetainParams {
            weights: at(0) as *const f32,
            sums: at(1) as *const f32,
            scores: at(2) as *mut f32,
            out: out as *mut u32,
            heads: heads as u32,
            rows: rows as u32,
            first: among.start as u32,
            candidates: candidates as u32,
            keep: keep as u32,
            reserved: 0,
        };
        let launch = Launch {
            file: "retain",
            kernel: "retain".into(),
            grid: [1; 3],
            block: (candidates as u32).clamp(1, HIRED_RETAIN_THREADS).next_multiple_of(WARP),
            shared: 0,
            cost: Cost::bytes(heads * candidates * size_of::<f32>()),
        };
        // SAFETY: the candidates are rows of the prompt; there is space for every retained row.
        unsafe { self.queue.launch(&launch, &params)? };
        Ok(Retained { _place: place, rows: out, count })
    }

    fn gather_retained(&mut self, x: &Buffer, retained: &Retained) -> Result<Buffer> {
        let out = self.strided(retained.count, x.cols, x.stride, x.dtype)?;
        self.gather_rows(x, retained.rows, &out)?;
        Ok(out)
    }

    fn retained_batch(&mut self, retained: &Retained, pages: Vec<u32>) -> Result<Batch> {
        let span = Span { row: 0, rows: retained.count, slot: 0, position: 0, pages };
        let batch = self.prompt_batch(vec![span])?;
        Ok(Batch { positions: retained.rows, ..batch })
    }

    fn retained(&mut self, retained: &Retained) -> Result<Vec<u32>> {
        // SAFETY: the array has this many rows.
        unsafe { self.queue.download(retained.rows, retained.count) }
    }
}
