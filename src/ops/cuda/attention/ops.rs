//! Attention on the device: of the vision tower, of its class tokens, and of the decoder.

use crate::config::Rope;
use crate::ops::cost::{self, Cost};
use crate::ops::cuda::abi::{
    ClsScoresParams, CodedDecodeParams, DecodeParams, PrefillParams, ReceivedParams,
    RopeAppendParams, VisionAttentionParams,
};
use crate::ops::cuda::attention::choose::{self as attention, Heads};
use crate::ops::cuda::buffer::{Batch, Buffer, Cache, Scores, part};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::matmul::attention_leaves_codes;
use crate::ops::cuda::matmul::integers::{coded, rounding};
use crate::ops::cuda::rows::choose::rope;
use crate::ops::cuda::scratch::{self, DONE};
use crate::ops::cuda::select::ClsHeads;
use crate::ops::cuda::select::ops::Kept;
use crate::ops::{AttentionOps, DECODE_ROWS, Span};
use crate::{Result, kv};

/// 1/√head_dim, the factor of the scores.
pub(in crate::ops::cuda) fn scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

/// Cost of causal attention of spans.
fn decoder_cost(q: &Buffer, cache: &Cache, spans: &[Span]) -> Cost {
    let size = q.dtype.size();
    cost::decoder(spans, q.cols, size, cache.shape, size)
}

impl AttentionOps for Cuda {
    fn cls_scores(
        &mut self,
        q: &Buffer,
        q_stride: usize,
        k: &Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        self.query_scores(q, q_stride, k, heads, partitions, [patches + 1, patches])
    }

    fn probe_scores(
        &mut self,
        q: &Buffer,
        k: &Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        self.query_scores(q, 0, k, heads, partitions, [patches, patches])
    }

    fn received_scores(
        &mut self,
        q: &Buffer,
        k: &Buffer,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        let (head_dim, tokens) = (k.cols / heads, q.rows / partitions);
        let parts = scratch::scores(partitions, heads, patches);
        let (place, address) = self.region(parts.bytes())?;
        let out =
            ClsHeads { weights: part(address, &parts, 0), sums: part(address, &parts, 1), heads };
        let (_stats, stats) = self.region(scratch::received(partitions * heads, tokens))?;
        let shape = Heads {
            heads,
            kv_heads: heads,
            head_dim,
            dtype: k.dtype,
            q_stride: q.stride,
            kv_stride: k.stride,
            out_stride: 0,
            aligned: true,
        };
        let params = ReceivedParams {
            q: q.pointer(),
            k: k.pointer(),
            stats: stats as *mut f32,
            weights: out.weights as *mut f32,
            sums: out.sums as *mut f32,
            tokens: tokens as u32,
            patches: patches as u32,
            heads: heads as u32,
            head_dim: head_dim as u32,
            q_stride: q.stride as u32,
            k_stride: k.stride as u32,
            scale: scale(head_dim),
            reserved: 0,
        };
        let cost = cost::received(q.rows, tokens, k.cols, k.dtype.size());
        for launch in attention::received(&shape, tokens, partitions) {
            // SAFETY: q and k have all rows of the partitions; the scratch has space for every query of every head.
            unsafe { self.queue.launch(&launch.costing(cost), &params)? };
        }
        Ok(Scores { _place: place, heads: out })
    }

    fn vision_attention(
        &mut self,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
        heads: usize,
        partitions: usize,
        kept: Option<&Kept>,
    ) -> Result<Buffer> {
        let (head_dim, tokens) = (k.cols / heads, k.rows / partitions);
        let out = self.buffer(q.rows, q.cols)?;
        let shape = Heads {
            heads,
            kv_heads: heads,
            head_dim,
            dtype: q.dtype,
            q_stride: q.stride,
            kv_stride: k.stride,
            out_stride: out.stride,
            aligned: true,
        };
        let each = kept.map_or(1, Kept::each);
        let most = kept.map_or(tokens, |kept| (kept.count * each).min(tokens));
        let params = VisionAttentionParams {
            q: q.pointer(),
            k: k.pointer(),
            v: v.pointer(),
            out: out.pointer(),
            offsets: kept.map_or(std::ptr::null(), |kept| kept.offsets as *const u32),
            tokens: tokens as u32,
            heads: heads as u32,
            head_dim: head_dim as u32,
            q_stride: q.stride as u32,
            kv_stride: k.stride as u32,
            out_stride: out.stride as u32,
            scale: scale(head_dim),
            each: each as u32,
        };
        let bytes = 2 * (q.rows + k.rows) * q.cols * q.dtype.size();
        let launch = attention::vision(self.queue.path(), &shape, most, partitions)
            .costing(cost::attention(q.rows * tokens, q.cols, bytes));
        // SAFETY: the offsets end with the number of rows of q; k and v have all rows of all partitions.
        unsafe { self.queue.launch(&launch, &params)? };
        Ok(out)
    }

    fn rope_append(
        &mut self,
        q: &mut Buffer,
        k: &mut Buffer,
        v: &Buffer,
        cache: &mut Cache,
        layer: usize,
        batch: &Batch,
        rotary: &Rope,
    ) -> Result<()> {
        let kv::Shape { kv_heads, head_dim, .. } = cache.shape;
        let heads = q.cols / head_dim;
        let launch = rope(q.dtype, q.rows, heads + 2 * kv_heads, head_dim, rotary.width / 2);
        let params = RopeAppendParams {
            q: q.pointer(),
            k: k.pointer(),
            v: v.pointer(),
            cache: cache.layer(layer),
            frequencies: self.frequencies(cache, rotary)?,
            positions: batch.positions as *const u32,
            slots: batch.slots as *const u32,
            sequences: batch.sequences as *const u32,
            tables: batch.tables as *const u32,
            rows: q.rows as u32,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            head_dim: head_dim as u32,
            table_stride: batch.stride as u32,
            turned: (rotary.width / 2) as u32,
        };
        // SAFETY: the batch's tables name the pages of all its slots, which are distinct.
        unsafe { self.queue.launch(&launch, &params) }
    }

    fn attention(
        &mut self,
        q: &Buffer,
        cache: &Cache,
        layer: usize,
        batch: &Batch,
    ) -> Result<Buffer> {
        let out = self.buffer(q.rows, q.cols)?;
        for (sequence, span) in batch.spans.iter().enumerate() {
            // Rows of a span start at a multiple of 16 bytes if every row does.
            let heads = Self::decoder_heads(q, &out, cache);
            let first = |buffer: &Buffer| {
                buffer.address + (span.row * buffer.stride * buffer.dtype.size()) as u64
            };
            let aligned = first(q).is_multiple_of(16) && first(&out).is_multiple_of(16);
            let heads = Heads { aligned, ..heads };
            let table = batch.tables + (sequence * batch.stride * size_of::<u32>()) as u64;
            let Span { rows, slot, .. } = *span;
            let params = PrefillParams {
                q: first(q) as *const _,
                cache: cache.layer(layer),
                out: first(&out) as *mut _,
                pages: table as *const u32,
                rows: rows as u32,
                slot: slot as u32,
                heads: heads.heads as u32,
                kv_heads: heads.kv_heads as u32,
                head_dim: heads.head_dim as u32,
                q_stride: q.stride as u32,
                out_stride: out.stride as u32,
                scale: scale(heads.head_dim),
            };
            let launch = attention::prefill(self.queue.path(), &heads, rows).costing(decoder_cost(
                q,
                cache,
                std::slice::from_ref(span),
            ));
            // SAFETY: the table names the pages of all slots up to the span's last.
            unsafe { self.queue.launch(&launch, &params)? };
        }
        self.note_attention(q, cache, layer, batch)?;
        Ok(out)
    }

    fn step_attention(
        &mut self,
        q: &mut Buffer,
        k: &mut Buffer,
        v: &Buffer,
        cache: &mut Cache,
        layer: usize,
        batch: &Batch,
        rotary: &Rope,
    ) -> Result<Buffer> {
        if self.attended.is_some() {
            // The fused kernel keeps its rotated queries to itself, and the recording needs them.
            self.rope_append(q, k, v, cache, layer, batch, rotary)?;
            return self.attention(q, cache, layer, batch);
        }
        let frequencies = self.frequencies(cache, rotary)?;
        let leaves_codes = attention_leaves_codes(q.rows, q.cols, q.of_integers);
        let out = self.coded_buffer(q.rows, q.cols, leaves_codes)?;
        let heads = Self::decoder_heads(q, &out, cache);
        let slots = batch.stride * kv::PAGE;
        let split = attention::split(&heads, self.processors);
        let splits = slots / split;
        let parts = scratch::decode(cache.shape, heads.heads, q.rows, slots);
        let (_region, address) = self.region(parts.bytes())?;
        let done = part(cache.step, &cache.parts, DONE);
        let of_rows = done + (cache.shape.kv_heads * DECODE_ROWS * size_of::<u32>()) as u64;
        let step = DecodeParams {
            q: q.pointer(),
            k: k.pointer(),
            v: v.pointer(),
            cache: cache.layer(layer),
            out: out.pointer(),
            frequencies,
            positions: batch.positions as *const u32,
            slots: batch.slots as *const u32,
            tables: batch.tables as *const u32,
            mixed: part(address, &parts, 0) as *mut f32,
            weights: part(address, &parts, 1) as *mut f32,
            done: done as *mut u32,
            split: split as u32,
            splits: splits as u32,
            heads: heads.heads as u32,
            kv_heads: heads.kv_heads as u32,
            head_dim: heads.head_dim as u32,
            table_stride: batch.stride as u32,
            q_stride: q.stride as u32,
            kv_stride: k.stride as u32,
            out_stride: out.stride as u32,
            scale: scale(heads.head_dim),
            turned: (rotary.width / 2) as u32,
            reserved: 0,
        };
        let mut cost = decoder_cost(q, cache, &batch.spans);
        cost += cost::pass(2 * k.rows * k.cols, k.dtype.size());
        if leaves_codes {
            cost += rounding(q.rows, q.cols, q.dtype.size());
        }
        let params = CodedDecodeParams { step, coded: coded(&out, of_rows) };
        let launch = attention::decode(&heads, q.rows, splits).costing(cost);
        // SAFETY: the tables name the pages of all slots, which are distinct; the scratch has space for every split,
        // and every key/value head of every row, and every row, has a counter.
        unsafe { self.queue.launch(&launch, &params)? };
        Ok(out)
    }
}

impl Cuda {
    /// Scores by one query of each partition, every `q_stride`-th row of `q` (0: one for all), over `keys`, of which the last
    /// are patches.
    fn query_scores(
        &mut self,
        q: &Buffer,
        q_stride: usize,
        k: &Buffer,
        heads: usize,
        partitions: usize,
        [keys, patches]: [usize; 2],
    ) -> Result<Scores> {
        let head_dim = k.cols / heads;
        let parts = scratch::scores(partitions, heads, patches);
        let (place, address) = self.region(parts.bytes())?;
        let out =
            ClsHeads { weights: part(address, &parts, 0), sums: part(address, &parts, 1), heads };
        let shape = Heads {
            heads,
            kv_heads: heads,
            head_dim,
            dtype: k.dtype,
            q_stride: q.stride * q_stride,
            kv_stride: k.stride,
            out_stride: 0,
            aligned: true,
        };
        let params = ClsScoresParams {
            q: q.pointer(),
            k: k.pointer(),
            weights: out.weights as *mut f32,
            sums: out.sums as *mut f32,
            keys: keys as u32,
            patches: patches as u32,
            heads: heads as u32,
            head_dim: head_dim as u32,
            q_stride: shape.q_stride as u32,
            k_stride: k.stride as u32,
            scale: scale(head_dim),
            reserved: 0,
        };
        let cost = cost::scores(partitions * keys, k.cols, k.dtype.size());
        let launch = attention::cls_scores(&shape, partitions).costing(cost);
        // SAFETY: q has a query in every q_stride-th row; k has the keys of all partitions.
        unsafe { self.queue.launch(&launch, &params)? };
        Ok(Scores { _place: place, heads: out })
    }

    fn decoder_heads(q: &Buffer, out: &Buffer, cache: &Cache) -> Heads {
        Heads {
            heads: q.cols / cache.shape.head_dim,
            kv_heads: cache.shape.kv_heads,
            head_dim: cache.shape.head_dim,
            dtype: q.dtype,
            q_stride: q.stride,
            kv_stride: cache.shape.head_dim,
            out_stride: out.stride,
            aligned: true,
        }
    }
}
