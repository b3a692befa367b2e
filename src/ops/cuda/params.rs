//! Connects each parameter struct of `kernels/abi.h` with the files and names of the kernels that take it, and with the
//! conditions that launch and parameters must meet together. They are the preconditions that the kernels state
//! (PRECOND), as far as the host can check them. The queue checks them where debug assertions are enabled, as in every
//! test on the emulator.

use super::abi::*;
use super::launch::{Launch, WARP};

/// A struct of kernel parameters.
pub trait KernelParams {
    /// The files in `kernels/`, without extension, whose kernels take the struct.
    const FILES: &'static [&'static str];
    /// Prefixes of the kernels' names.
    const KERNELS: &'static [&'static str];

    /// The first condition that the launch does not meet, if any.
    fn broken(&self, launch: &Launch) -> Option<&'static str>;

    /// As [`KernelParams::broken`], after a check that the kernel takes this struct at all.
    fn check(&self, launch: &Launch) -> Option<&'static str> {
        let named = |begin: &&str| launch.kernel.starts_with(*begin);
        if !Self::FILES.contains(&launch.file) || !Self::KERNELS.iter().any(named) {
            return Some("the kernel takes other parameters");
        }
        if !(1..=1024).contains(&launch.block) {
            return Some("a block has 1 to 1024 threads");
        }
        self.broken(launch)
    }
}

/// What a kernel's name says of its preconditions.
impl Launch {
    /// Whether the kernel accesses memory in units of 16 bytes.
    fn is_vector(&self) -> bool {
        !self.kernel.contains("guarded")
    }

    /// Whether rows of these lengths consist of whole accesses, in the format of the kernel's name.
    fn fits(&self, numbers: &[u32]) -> bool {
        let lanes = if self.kernel.ends_with("f16") { 8 } else { 4 };
        !self.is_vector() || numbers.iter().all(|n| n.is_multiple_of(lanes))
    }

    /// Whether the pointers are multiples of 16, where the kernel needs that.
    fn reaches<const N: usize>(&self, pointers: [*const (); N]) -> bool {
        !self.is_vector() || pointers.iter().all(|p| p.addr().is_multiple_of(16))
    }

    fn whole_warps(&self, most: u32) -> bool {
        self.block.is_multiple_of(WARP) && self.block <= most
    }
}

macro_rules! kernels {
    ($($params:ident: [$($file:literal),+] [$($kernel:literal),+] |$p:ident, $l:ident| {
        $($text:literal: $holds:expr),* $(,)?
    })*) => {$(
        impl KernelParams for $params {
            const FILES: &'static [&'static str] = &[$($file),+];
            const KERNELS: &'static [&'static str] = &[$($kernel),+];

            fn broken(&self, $l: &Launch) -> Option<&'static str> {
                let $p = self;
                $(if !$holds {
                    return Some($text);
                })*
                None
            }
        }
    )*};
}

/// Whether the attention kernels support this head width.
fn is_head(dim: u32) -> bool {
    dim.is_multiple_of(2) && dim <= HIRED_HEAD_DIM
}

/// Whether codes, where a kernel leaves them of rows of so many columns at `out`, are whole vectors with scales and a counter.
fn leaves_codes(coded: &CodedRows, out: *const (), cols: u32) -> bool {
    let aligned =
        [out.addr(), coded.codes.addr(), cols as usize].iter().all(|n| n.is_multiple_of(16));
    coded.codes.is_null() || (aligned && !coded.scales.is_null() && !coded.done.is_null())
}

kernels! {
    NormParams: ["norm"] ["layer_norm_", "rms_norm_"] |p, l| {
        "a block for each row": l.grid == [p.rows, 1, 1],
        "whole warps of at most HIRED_NORM_THREADS": l.whole_warps(HIRED_NORM_THREADS),
        "rows and vectors at multiples of 16": l.reaches([p.x.cast(), p.out.cast_const().cast(), p.weight.cast(), p.bias.cast()]),
        "whole vectors": l.fits(&[p.cols]),
        "a thread keeps HIRED_NORM_KEPT numbers": !l.is_vector() || p.cols <= l.block * HIRED_NORM_KEPT,
    }
    PatchesParams: ["vision"] ["patches_"] |p, l| {
        "a side holds a patch": (1..=p.side).contains(&p.patch),
        "a block for each patch": l.grid[0] == p.partitions * (p.side / p.patch).pow(2),
        "rows hold a patch": p.stride >= 3 * p.patch * p.patch,
        "rows at multiples of 16": l.reaches([p.out.cast_const().cast()]),
        "four numbers at a time": !l.is_vector() || p.stride.is_multiple_of(4),
    }
    TokensParams: ["vision"] ["vision_tokens_"] |p, l| {
        "a block for each token": l.grid[0] == p.partitions * (p.patch_count + u32::from(!p.class_token.is_null())),
        "at most HIRED_ROW_THREADS threads": l.block <= HIRED_ROW_THREADS,
        "rows at multiples of 16": l.reaches([p.patches.cast(), p.class_token.cast(), p.position.cast(), p.out.cast_const().cast()]),
        "whole vectors": l.fits(&[p.cols]),
    }
    GatherParams: ["rows"] ["gather_"] |p, l| {
        "a block for each row": l.grid[0] == p.count,
        "at most HIRED_ROW_THREADS threads": l.block <= HIRED_ROW_THREADS,
        "rows at multiples of 16": l.reaches([p.x.cast(), p.out.cast_const().cast()]),
        "whole accesses": p.row_bytes.is_multiple_of(if l.is_vector() { 16 } else { 2 }),
    }
    InterleaveParams: ["rows"] ["interleave_"] |p, l| {
        "a block for each row": l.grid[0] == p.before_count + p.slot_count + p.after_count,
        "at most HIRED_ROW_THREADS threads": l.block <= HIRED_ROW_THREADS,
        "rows at multiples of 16": l.reaches([p.table.cast(), p.visual.cast(), p.newline.cast(), p.out.cast_const().cast()]),
        "whole vectors": l.fits(&[p.cols, p.table_stride]),
        "rows of the table are apart": p.table_stride >= p.cols,
    }
    RopeAppendParams: ["rope"] ["rope_append_"] |p, l| {
        "blocks for each row": l.grid[0] == p.rows,
        "at most HIRED_ROW_THREADS threads": l.block <= HIRED_ROW_THREADS,
        "two numbers of shared memory for each pair that turns": l.shared == p.turned * 8,
        "pairs of numbers": p.head_dim.is_multiple_of(2) && p.turned <= p.head_dim / 2,
        "rows at multiples of 16": l.reaches([p.q.cast_const().cast(), p.k.cast(), p.v.cast(), p.cache.cast_const().cast()]),
        "halves of heads are whole vectors": l.fits(&[p.head_dim / 2, p.turned]),
    }
    ActivationParams: ["activation"] ["bias_activation_"] |p, l| {
        "a block for each row": l.grid[0] == p.rows,
        "at most HIRED_ROW_THREADS threads": l.block <= HIRED_ROW_THREADS,
        "rows at multiples of 16": l.reaches([p.x.cast_const().cast(), p.bias.cast()]),
        "whole vectors": l.fits(&[p.cols]),
    }
    ScaledAddParams: ["activation"] ["scaled_add_"] |p, l| {
        "a block for each row": l.grid[0] == p.rows,
        "at most HIRED_ROW_THREADS threads": l.block <= HIRED_ROW_THREADS,
        "rows at multiples of 16": l.reaches([p.sum.cast_const().cast(), p.x.cast(), p.factors.cast()]),
        "whole vectors": l.fits(&[p.cols]),
    }
    ConvolveParams: ["convolve"] ["convolve_"] |p, l| {
        "a block for each row of a square": l.grid == [p.side * p.side, 1, 1],
        "at most HIRED_ROW_THREADS threads": l.block <= HIRED_ROW_THREADS,
        "another place for the result": p.x != p.out.cast_const(),
    }
    SiluMulParams: ["activation"] ["silu_mul_"] |p, l| {
        "at most HIRED_ROW_THREADS threads": l.block <= HIRED_ROW_THREADS,
        "factors at multiples of 16": l.reaches([p.gate.cast(), p.up.cast(), p.out.cast_const().cast()]),
        "whole vectors": !l.is_vector() || p.count.is_multiple_of(8) || (p.count.is_multiple_of(4) && l.kernel.ends_with("f32")),
    }
    GemmParams: ["gemm_fma", "gemm_mma8", "gemm_mma16", "gemm_sum"] ["gemm_"] |p, l| {
        "at least one row, column and number": p.rows > 0 && p.cols[0] > 0 && p.inner > 0,
        "1 to HIRED_GEMM_PARTS parts": (1..=HIRED_GEMM_PARTS).contains(&p.parts),
        "scratch for the sums of several parts": p.parts == 1 || !p.sums.is_null(),
        "gate and up have one width": p.epilogue != HIRED_GATE || p.cols[0] == p.cols[1],
        "rows are apart": p.x_stride >= p.parts * p.inner && p.w_stride >= p.parts * p.inner,
        "operands at multiples of 16": l.reaches([p.x.cast(), p.weights[0].cast(), p.weights[1].cast(), p.weights[2].cast(), p.sums.cast_const().cast()])
            && l.reaches([p.biases[0].cast(), p.biases[1].cast(), p.biases[2].cast()])
            && l.reaches(p.outs.map(|out| out.cast_const().cast())),
        "whole vectors": l.fits(&[p.inner, p.x_stride, p.w_stride]) && l.fits(&p.cols) && l.fits(&p.out_strides),
    }
    GemvParams: ["gemv", "gemv_mma"] ["gemv_"] |p, l| {
        "1 to HIRED_GEMV_ROWS rows": (1..=HIRED_GEMV_ROWS).contains(&p.rows),
        "at least one column and number": p.cols[0] > 0 && p.inner > 0,
        "as many rows as the kernel has": l.kernel.split_once("rows").is_none_or(|(_, rest)| p.rows <= rest[..1].parse().unwrap_or(0)),
        "rows are apart": p.w_stride >= p.inner && (p.rows == 1 || p.x_stride >= p.inner),
        "operands at multiples of 16": l.reaches([p.x.cast(), p.norm.cast(), p.weights[0].cast(), p.weights[1].cast(), p.weights[2].cast()]),
        "whole vectors": l.fits(&[p.inner, p.x_stride, p.w_stride]),
    }
    CountedQuantizeParams: ["quantize"] ["quantize_"] |params, l| {
        "a block for each row": l.grid == [params.rows.rows, 1, 1],
        "whole warps of at most HIRED_NORM_THREADS": l.whole_warps(HIRED_NORM_THREADS),
        "codes hold a row": params.rows.stride >= params.rows.cols && params.rows.stride.is_multiple_of(16),
        "rows at multiples of 16": l.reaches([params.rows.x.cast(), params.rows.norm.cast(), params.rows.codes.cast_const().cast()]),
        "whole accesses of 8 numbers": !l.is_vector() || (params.rows.cols.is_multiple_of(8) && params.rows.x_stride.is_multiple_of(8)),
        "a thread keeps 32 numbers": !l.is_vector() || params.rows.stride <= l.block * 32,
    }
    ScaledGemmParams: ["gemm_dp4a", "gemm_mma8_q8", "gemm_mma16_q8", "gemm_fma_q4", "gemm_mma_q4", "gemm_fma_awq", "gemm_mma_awq", "gemm_fma_w8a16", "gemm_mma_w8a16"] ["gemm_"] |p, l| {
        "as without scales": !l.is_vector() || p.product.broken(l).is_none(),
        "at least one row, column and number": p.product.rows > 0 && p.product.cols[0] > 0 && p.product.inner > 0,
        "scales for each weight": (0..3).all(|i| p.product.cols[i] == 0 || !p.scales.weights[i].is_null()),
        "scales for the rows of codes": !l.file.ends_with("q8") && l.file != "gemm_dp4a" || !p.scales.rows.is_null(),
        "weights and scales at multiples of 16": (p.product.weights.iter().chain(&p.scales.weights)).all(|at| at.addr().is_multiple_of(16)),
        "whole words": [p.product.inner, p.product.x_stride, p.product.w_stride].iter().all(|n| n.is_multiple_of(16)),
        "codes in one part": !l.file.ends_with("q8") && l.file != "gemm_dp4a" || p.product.parts == 1,
    }
    ScaledGemvParams: ["gemv_q4", "gemv_awq", "gemv_w8a16"] ["gemv_"] |p, l| {
        "as without scales": p.product.broken(l).is_none(),
        "scales for each weight": (0..3).all(|i| p.product.cols[i] == 0 || !p.scales.weights[i].is_null()),
        "whole vectors": [p.product.inner, p.product.x_stride, p.product.w_stride].iter().all(|n| n.is_multiple_of(16)),
    }
    CodedGemvParams: ["gemv_q8"] ["gemv_"] |p, l| {
        "as without codes": p.product.broken(l).is_none(),
        "codes have scales and no norm": !p.product.scales.rows.is_null() && p.product.product.norm.is_null(),
        "only gate and up leave codes, of few rows": p.coded.codes.is_null()
            || (l.kernel.starts_with("gemv_gate_") && p.product.product.rows <= HIRED_ROUNDED_ROWS),
        "a scale for each row, a counter, and whole vectors":
            leaves_codes(&p.coded, p.product.product.outs[0].cast_const().cast(), p.product.product.cols[0]),
    }
    VisionAttentionParams: ["attention_vision"] ["attention_vision_"] |p, l| {
        "a head of at most HIRED_HEAD_DIM numbers": is_head(p.head_dim),
        "a block for each head": l.grid[1] == p.heads && l.block == HIRED_ATTENTION_THREADS,
        "rows hold all heads": p.q_stride.min(p.kv_stride).min(p.out_stride) >= p.heads * p.head_dim,
        "operands at multiples of 16": l.reaches([p.q.cast(), p.k.cast(), p.v.cast(), p.out.cast_const().cast()]),
        "whole vectors": l.fits(&[p.head_dim, p.q_stride, p.kv_stride, p.out_stride]),
    }
    PrefillParams: ["attention_prefill"] ["attention_prefill_"] |p, l| {
        "a head of at most HIRED_HEAD_DIM numbers": is_head(p.head_dim),
        "heads share keys evenly": p.kv_heads > 0 && p.heads.is_multiple_of(p.kv_heads),
        "a block for each head": l.grid[1] == p.heads && l.block == HIRED_ATTENTION_THREADS,
        "operands at multiples of 16": l.reaches([p.q.cast(), p.cache.cast(), p.out.cast_const().cast()]),
        "whole vectors": l.fits(&[p.head_dim, p.q_stride, p.out_stride]),
    }
    DecodeParams: ["attention_decode"] ["attention_decode_"] |p, l| {
        "a head of at most HIRED_HEAD_DIM numbers": is_head(p.head_dim),
        "heads share keys evenly": p.kv_heads > 0 && p.heads.is_multiple_of(p.kv_heads),
        "a split of whole pages": p.split.is_multiple_of(HIRED_LEAST_SPLIT) && (1..=HIRED_SPLIT).contains(&p.split),
        "a block for each split": l.grid[0] == p.splits && l.block == HIRED_ATTENTION_THREADS,
        "no more pairs turn than there are": p.turned <= p.head_dim / 2,
        "tables reach all splits": p.table_stride * HIRED_PAGE >= p.splits * p.split,
        "the cache at a multiple of 16": l.reaches([p.cache.cast_const().cast()]),
        "whole vectors": l.fits(&[p.head_dim]),
    }
    CodedDecodeParams: ["attention_decode"] ["attention_decode_"] |p, l| {
        "as without codes": p.step.broken(l).is_none(),
        "a scale and a counter for each row, and whole vectors":
            leaves_codes(&p.coded, p.step.out.cast_const().cast(), p.step.heads * p.step.head_dim)
            && (p.coded.codes.is_null() || p.step.out_stride.is_multiple_of(16)),
    }
    ClsScoresParams: ["attention_cls"] ["attention_cls_"] |p, l| {
        "a head of at most HIRED_HEAD_DIM numbers": is_head(p.head_dim),
        "a thread for each number of a head": l.whole_warps(HIRED_ROW_THREADS) && l.block >= HIRED_HEAD_DIM,
        "a block for each head": l.grid[0] == p.heads,
        "a patch for each key, but for the class token": p.patches == p.keys || p.patches + 1 == p.keys,
        "keys at multiples of 16": l.reaches([p.k.cast()]),
        "whole vectors": l.fits(&[p.head_dim, p.k_stride]),
    }
    ReceivedParams: ["attention_received"] ["attention_received_rows_", "attention_received_columns_"] |p, l| {
        "a head of at most HIRED_HEAD_DIM numbers": is_head(p.head_dim),
        "a patch for each token, but for the class token": p.patches == p.tokens || p.patches + 1 == p.tokens,
        "blocks for all tokens": l.grid[..2] == [p.tokens.div_ceil(64), p.heads] && l.block == HIRED_ROW_THREADS,
        "queries and keys at multiples of 16": l.reaches([p.q.cast(), p.k.cast()]),
        "whole vectors": l.fits(&[p.head_dim, p.q_stride, p.k_stride]),
    }
    LastRowParams: ["attention_last"] ["attention_last_"] |p, l| {
        "a head of at most HIRED_HEAD_DIM numbers": is_head(p.head_dim),
        "heads share keys evenly": p.kv_heads > 0 && p.heads.is_multiple_of(p.kv_heads),
        "a thread for each number of a head": l.whole_warps(HIRED_ROW_THREADS) && l.block >= HIRED_HEAD_DIM,
        "a block for each head": l.grid == [p.heads, 1, 1],
        "the cache at a multiple of 16": l.reaches([p.cache.cast()]),
        "whole vectors": l.fits(&[p.head_dim]),
    }
    RetainParams: ["retain"] ["retain"] |p, l| {
        "one block of whole warps": l.grid == [1; 3] && l.whole_warps(HIRED_RETAIN_THREADS),
        "candidates are rows": p.first + p.candidates <= p.rows,
        "no more are kept than there are": p.keep <= p.candidates,
    }
    SelectExactParams: ["select"] ["select_exact"] |p, l| {
        "one block of whole warps": l.grid == [1; 3] && l.whole_warps(HIRED_SELECT_THREADS),
        "12 bytes for each sub-image": l.shared == 12 * (p.area.partitions - 1),
        "an area that the kernels take": takes(&p.area),
    }
    SelectPaperParams: ["select"] ["select_paper"] |p, l| {
        "one block of whole warps": l.grid == [1; 3] && l.whole_warps(HIRED_SELECT_THREADS),
        "8 bytes for each sub-image": l.shared == 8 * (p.area.partitions - 1),
        "an area that the kernels take": takes(&p.area),
    }
    SelectRepoParams: ["select"] ["select_repo"] |p, l| {
        "one block of whole warps": l.grid == [1; 3] && l.whole_warps(HIRED_SELECT_THREADS),
        "4 bytes for each sub-image": l.shared == 4 * (p.area.partitions - 1),
        "an area that the kernels take": takes(&p.area),
        "no more marks than patches": p.marked <= p.area.side * p.area.side,
    }
    SelectTopkParams: ["select"] ["select_topk"] |p, l| {
        "a block for each partition": l.grid == [p.area.partitions, 1, 1] && l.whole_warps(HIRED_SELECT_THREADS),
        "an area that the kernels take": takes(&p.area),
    }
    SelectRowsParams: ["select"] ["select_rows"] |p, l| {
        "a block for each partition": l.grid == [p.area.partitions, 1, 1] && l.whole_warps(HIRED_SELECT_THREADS),
    }
    SelectOrderParams: ["select"] ["select_order"] |p, l| {
        "one block of whole warps": l.grid == [1; 3] && l.whole_warps(HIRED_SELECT_THREADS),
        "a grid of sub-images": p.area.partitions == 1 + p.area.grid_rows * p.area.grid_cols,
    }
    UnitRowsParams: ["likeness"] ["unit_rows_"] |p, l| {
        "whole warps": l.whole_warps(HIRED_SELECT_THREADS),
        "rows hold all heads": p.x_stride >= p.heads * p.width,
    }
    ClassAttentionParams: ["likeness"] ["class_attention_"] |p, l| {
        "whole warps": l.whole_warps(HIRED_SELECT_THREADS),
        "rows hold their numbers": p.q_stride.min(p.k_stride) >= p.width,
    }
    MixRowsParams: ["merge"] ["mix_rows_"] |p, l| {
        "at most HIRED_ROW_THREADS threads": l.block <= HIRED_ROW_THREADS,
        "rows at multiples of 16": l.reaches([p.x.cast(), p.out.cast_const().cast()]),
        "whole vectors": l.fits(&[p.cols, p.x_stride, p.out_stride]),
    }
    SelectContextsParams: ["merge"] ["select_contexts"] |p, l| {
        "whole warps": l.whole_warps(HIRED_SELECT_THREADS),
        "patches that the kernels take": p.patch_count <= HIRED_PATCHES,
    }
    SelectOutstandingParams: ["merge"] ["select_outstanding"] |p, l| {
        "whole warps": l.whole_warps(HIRED_SELECT_THREADS),
        "patches that the kernels take": p.patch_count <= HIRED_PATCHES,
    }
    SelectMergedParams: ["merge"] ["select_neighbours", "select_rest"] |p, l| {
        "whole warps": l.whole_warps(HIRED_SELECT_THREADS),
        "a block for each partition or row": l.kernel == "select_neighbours" || l.grid[0] == p.partitions,
    }
    SpreadParams: ["diverse"] ["spread_nearest", "spread_pick"] |p, l| {
        "whole warps": l.whole_warps(HIRED_GREEDY_THREADS),
        "no more picks than rows": p.picks <= p.count,
        "a number of shared memory for each row": l.kernel == "spread_nearest" || l.shared == 4 * p.count,
    }
    CoverParams: ["diverse"] ["cover_pick"] |p, l| {
        "whole warps": l.whole_warps(HIRED_GREEDY_THREADS),
        "a number of shared memory for each patch": l.shared == 4 * p.patch_count,
    }
    SelectMarkedParams: ["diverse"] ["select_marked"] |p, l| {
        "whole warps": l.whole_warps(HIRED_SELECT_THREADS),
        "patches that the kernels take": p.patch_count <= HIRED_PATCHES,
    }
    SampleGreedyParams: ["sample"] ["sample_greedy_"] |p, l| {
        "whole warps": l.whole_warps(HIRED_SAMPLE_THREADS),
        "a vocabulary": (1..1 << 31).contains(&p.cols),
    }
    SampleDrawParams: ["sample"] ["sample_draw_"] |p, l| {
        "whole warps": l.whole_warps(HIRED_SAMPLE_THREADS),
        "a vocabulary": (1..1 << 31).contains(&p.cols),
    }
    SynthParams: ["synth"] ["synth_"] |p, l| {
        "a block for each row": l.grid == [p.rows, 1, 1] && l.block <= HIRED_ROW_THREADS,
        "rows hold their numbers": p.stride >= p.cols,
    }
}

/// Whether the kernels support this number of patches and sub-images.
fn takes(area: &SelectArea) -> bool {
    area.side.pow(2) <= HIRED_PATCHES && area.partitions - 1 <= HIRED_SUB_IMAGES
}

#[cfg(test)]
mod tests;
