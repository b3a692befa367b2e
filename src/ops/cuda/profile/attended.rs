//! Records the attention of the decoder, for studies.

use crate::Result;
use crate::ops::cost;
use crate::ops::cuda::abi::LastRowParams;
use crate::ops::cuda::attention::choose as attention;
use crate::ops::cuda::attention::ops::scale;
use crate::ops::cuda::buffer::{Batch, Buffer, Cache, part};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::scratch;
use crate::ops::memory::{Meter, Purpose};
use std::sync::Arc;

impl Cuda {
    /// Records the attention of the first sequence's last row in a layer, while a recording is active. `q` must be
    /// rotated and its keys must be in the cache.
    pub(in crate::ops::cuda) fn note_attention(
        &mut self,
        q: &Buffer,
        cache: &Cache,
        layer: usize,
        batch: &Batch,
    ) -> Result<()> {
        if self.attended.is_none() {
            return Ok(());
        }
        let (span, shape) = (&batch.spans[0], &cache.shape);
        let (keys, heads) = (span.context(), q.cols / shape.head_dim);
        let parts = scratch::retain(heads, keys, 0);
        // Memory for studies only, which no plan counts.
        let block =
            self.queue.block(&Arc::<Meter>::default(), Purpose::Workspace, parts.bytes())?;
        let at = |index| part(block.address(), &parts, index);
        let last = (span.row + span.rows - 1) * q.stride * q.dtype.size();
        let params = LastRowParams {
            q: (q.address + last as u64) as *const _,
            cache: cache.layer(layer),
            pages: batch.tables as *const u32,
            weights: at(0) as *mut f32,
            sums: at(1) as *mut f32,
            keys: keys as u32,
            heads: heads as u32,
            kv_heads: shape.kv_heads as u32,
            head_dim: shape.head_dim as u32,
            scale: scale(shape.head_dim),
            reserved: 0,
        };
        let cost = cost::last_row(keys, q.cols, *shape, q.dtype.size());
        let launch = attention::last_row(q.dtype, heads, shape.head_dim).costing(cost);
        // SAFETY: the table names the pages of all keys; the block has space for a weight of each key in every head.
        let (weights, sums): (Vec<f32>, Vec<f32>) = unsafe {
            self.queue.launch(&launch, &params)?;
            (self.queue.download(at(0), heads * keys)?, self.queue.download(at(1), heads)?)
        };
        let mut mean = vec![0.0; keys];
        for (weights, sum) in weights.chunks_exact(keys).zip(sums) {
            let share = (sum * heads as f32).recip();
            mean.iter_mut().zip(weights).for_each(|(mean, weight)| *mean += weight * share);
        }
        if let Some(attended) = &mut self.attended {
            attended.push(mean);
        }
        Ok(())
    }
}
