//! Chooses the attention kernel, its grid and its scratch memory.
//!
//! Prompts and the vision tower use tiles of queries, with `mma` where the GPU has it. Decode steps divide the keys
//! into splits.

use crate::format::Dtype;
use crate::ops::cost::Cost;
use crate::ops::cuda::abi::{
    HIRED_ATTENTION_THREADS, HIRED_HEAD_DIM, HIRED_LEAST_SPLIT, HIRED_ROW_THREADS, HIRED_SPLIT,
};
use crate::ops::cuda::launch::{Launch, is_vector, variant};

/// Heads, and the layout of their rows. Strides are in numbers.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Number of query heads.
    pub heads: usize,
    /// Number of key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Numbers in a head; even.
    pub head_dim: usize,
    /// Format of queries, keys, values and results.
    pub dtype: Dtype,
    /// Distance between rows of queries.
    pub q_stride: usize,
    /// Distance between keys. The keys of the cache are contiguous: `head_dim`.
    pub kv_stride: usize,
    /// Distance between rows of results.
    pub out_stride: usize,
    /// Whether queries, keys, values and results start at multiples of 16 bytes.
    pub aligned: bool,
}

impl Heads {
    /// Whether every number of a head can be read in accesses of 16 bytes.
    fn is_vector(&self) -> bool {
        let lanes = 16 / self.dtype.size();
        let sizes = [self.head_dim, self.q_stride, self.kv_stride, self.out_stride];
        self.aligned && sizes.iter().all(|size| size.is_multiple_of(lanes))
    }
}

/// An attention kernel that computes a tile of queries per block.
#[derive(Debug)]
struct Tile {
    name: &'static str,
    /// Queries of a block.
    rows: usize,
    /// The widest head that it supports.
    head_dim: usize,
    /// The first code path that it runs on, if it uses `mma`; it then takes f16 only.
    mma: Option<u32>,
    /// Whether it needs accesses of 16 bytes.
    vector: bool,
}

/// The tiles in the order of preference.
const TILES: [Tile; 5] = [
    Tile { name: "mma64", rows: 128, head_dim: 64, mma: Some(75), vector: true },
    Tile { name: "mma128", rows: 64, head_dim: 128, mma: Some(75), vector: true },
    Tile { name: "fma64", rows: 64, head_dim: 64, mma: None, vector: true },
    Tile { name: "fma128", rows: 32, head_dim: 128, mma: None, vector: true },
    Tile { name: "guarded", rows: 32, head_dim: 128, mma: None, vector: false },
];

fn tile(path: u32, heads: &Heads) -> &'static Tile {
    assert!(heads.head_dim <= HIRED_HEAD_DIM as usize, "heads of {} numbers", heads.head_dim);
    let fits = |tile: &&Tile| {
        tile.head_dim >= heads.head_dim
            && (!tile.vector || heads.is_vector())
            && tile.mma.is_none_or(|from| path >= from && heads.dtype == Dtype::F16)
    };
    TILES.iter().find(fits).expect("the guarded tile takes every head")
}

fn tiles(file: &'static str, path: u32, heads: &Heads, rows: usize, partitions: usize) -> Launch {
    let tile = tile(path, heads);
    Launch {
        file,
        kernel: format!("{file}_{}_{}", tile.name, heads.dtype.name()),
        grid: [rows.div_ceil(tile.rows) as u32, heads.heads as u32, partitions as u32],
        block: HIRED_ATTENTION_THREADS,
        shared: 0,
        cost: Cost::default(),
    }
}

/// Attention of the vision tower inside each of `partitions`, none of which has more than `rows` queries.
pub fn vision(path: u32, heads: &Heads, rows: usize, partitions: usize) -> Launch {
    tiles("attention_vision", path, heads, rows, partitions)
}

/// Causal attention of a span of `rows` rows to the cache (prefill).
pub fn prefill(path: u32, heads: &Heads, rows: usize) -> Launch {
    tiles("attention_prefill", path, heads, rows, 1)
}

/// Query heads that share the keys loaded by a block of `attention_decode`: one kernel for each number.
const SHARING: [usize; 3] = [1, 4, 8];

/// Slots that the grid, tables and scratch of a decode step are laid out for, when the longest context has `context`
/// slots. It is a power of two times the largest split, so that a few recorded steps serve all lengths, and follows the
/// context, not the size of the cache.
pub fn reach(context: usize) -> usize {
    let split = HIRED_SPLIT as usize;
    context.div_ceil(split).next_power_of_two() * split
}

/// Slots of a split, which one block of a decode step reads, on a GPU with this many multiprocessors. The sums of a row
/// are added split by split, so the split must not change between rows or steps. It is large, because larger splits
/// need less merging, unless one sequence of some 1000 positions would then have fewer than four blocks per
/// multiprocessor.
pub fn split(heads: &Heads, processors: usize) -> usize {
    let (least, most) = (HIRED_LEAST_SPLIT as usize, HIRED_SPLIT as usize);
    if blocks(heads) * (1024 / most) >= 4 * processors { most } else { least }
}

/// Blocks for each split of one sequence's keys.
fn blocks(heads: &Heads) -> usize {
    heads.kv_heads * (heads.heads / heads.kv_heads).div_ceil(sharing(heads).1)
}

/// The decode kernel for these heads, and how many of them share the keys that a block loads.
fn sharing(heads: &Heads) -> (String, usize) {
    let group = heads.heads / heads.kv_heads;
    if heads.is_vector() {
        let sharing = SHARING.into_iter().find(|s| *s >= group).unwrap_or(8);
        let room = if heads.head_dim <= 64 { 64 } else { 128 };
        (format!("vector{room}x{sharing}"), sharing)
    } else {
        ("guardedx4".to_owned(), 4)
    }
}

/// Attention of one row of each of `sequences` to at most `splits` splits of the cache.
pub fn decode(heads: &Heads, sequences: usize, splits: usize) -> Launch {
    assert!(heads.head_dim <= HIRED_HEAD_DIM as usize, "heads of {} numbers", heads.head_dim);
    let file = "attention_decode";
    Launch {
        file,
        kernel: format!("{file}_{}_{}", sharing(heads).0, heads.dtype.name()),
        grid: [splits, blocks(heads), sequences].map(|blocks| blocks as u32),
        block: HIRED_ATTENTION_THREADS,
        shared: 0,
        cost: Cost::default(),
    }
}

/// Bytes of scratch of [`decode`] over `slots` slots: weighted values, then maxima and sums. Computed for the smallest
/// split, since the planner does not know the GPU's number of multiprocessors.
pub fn decode_scratch(heads: usize, head_dim: usize, sequences: usize, slots: usize) -> [usize; 2] {
    let parts = sequences * heads * slots.div_ceil(HIRED_LEAST_SPLIT as usize);
    [parts * head_dim * size_of::<f32>(), parts * size_of::<[f32; 2]>()]
}

/// Softmax of the class token's query, head by head. Ignores `q_stride` and `out_stride` of `heads`.
pub fn cls_scores(heads: &Heads, partitions: usize) -> Launch {
    assert!(heads.head_dim <= HIRED_HEAD_DIM as usize, "heads of {} numbers", heads.head_dim);
    let is_vector = Heads { q_stride: 0, out_stride: 0, ..*heads }.is_vector();
    let variant = if is_vector { "vector" } else { "guarded" };
    let file = "attention_cls";
    Launch {
        file,
        kernel: format!("{file}_{variant}_{}", heads.dtype.name()),
        grid: [heads.heads as u32, partitions as u32, 1],
        block: HIRED_ROW_THREADS,
        shared: 0,
        cost: Cost::default(),
    }
}

/// Attention that patches receive, head by head: a launch over queries, then one over keys. Ignores `out_stride` of
/// `heads`.
pub fn received(heads: &Heads, tokens: usize, partitions: usize) -> [Launch; 2] {
    const SIDE: usize = 64;
    assert!(heads.head_dim <= HIRED_HEAD_DIM as usize, "heads of {} numbers", heads.head_dim);
    let variant = variant(Heads { out_stride: 0, ..*heads }.is_vector());
    let file = "attention_received";
    ["rows", "columns"].map(|pass| Launch {
        file,
        kernel: format!("{file}_{pass}_{variant}_{}", heads.dtype.name()),
        grid: [tokens.div_ceil(SIDE), heads.heads, partitions].map(|blocks| blocks as u32),
        block: HIRED_ROW_THREADS,
        shared: 0,
        cost: Cost::default(),
    })
}

/// Softmax of the query of a prompt's last row, head by head.
pub fn last_row(dtype: Dtype, heads: usize, head_dim: usize) -> Launch {
    assert!(head_dim <= HIRED_HEAD_DIM as usize, "heads of {head_dim} numbers");
    let file = "attention_last";
    let variant = variant(is_vector(dtype, head_dim, head_dim));
    Launch {
        file,
        kernel: format!("{file}_{variant}_{}", dtype.name()),
        grid: [heads as u32, 1, 1],
        block: HIRED_ROW_THREADS,
        shared: 0,
        cost: Cost::default(),
    }
}

/// Bytes that [`cls_scores`] writes: weights, and their sums.
pub fn cls_bytes(heads: usize, partitions: usize, patches: usize) -> [usize; 2] {
    let rows = partitions * heads;
    [rows * (patches + 1) * size_of::<f32>(), rows * size_of::<f32>()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cuda::abi::HIRED_PAGE;

    fn heads(dtype: Dtype, heads: usize, kv_heads: usize, head_dim: usize) -> Heads {
        let stride = heads * head_dim;
        Heads {
            heads,
            kv_heads,
            head_dim,
            dtype,
            q_stride: stride,
            kv_stride: stride,
            out_stride: stride,
            aligned: true,
        }
    }

    #[test]
    fn tiles_go_by_path_format_width_and_alignment() {
        let name = |path, heads: Heads| vision(path, &heads, 577, 5).kernel;
        let f16 = |head_dim| heads(Dtype::F16, 16, 16, head_dim);
        let f32 = |head_dim| heads(Dtype::F32, 16, 16, head_dim);
        for path in [75, 80] {
            assert_eq!(name(path, f16(64)), "attention_vision_mma64_f16");
            assert_eq!(name(path, f16(24)), "attention_vision_mma64_f16");
            assert_eq!(name(path, f16(80)), "attention_vision_mma128_f16");
            assert_eq!(name(path, f32(64)), "attention_vision_fma64_f32");
            assert_eq!(name(path, f16(6)), "attention_vision_guarded_f16");
        }
        assert_eq!(name(61, f16(64)), "attention_vision_fma64_f16");
        assert_eq!(name(61, f16(128)), "attention_vision_fma128_f16");
        assert_eq!(name(61, f32(12)), "attention_vision_fma64_f32");
        assert_eq!(name(61, f16(12)), "attention_vision_guarded_f16");
        assert_eq!(name(80, Heads { aligned: false, ..f16(64) }), "attention_vision_guarded_f16");
        assert_eq!(name(80, Heads { q_stride: 1028, ..f16(64) }), "attention_vision_guarded_f16");
    }

    #[test]
    fn grids_cover_all_queries() {
        let vit = heads(Dtype::F16, 16, 16, 64);
        assert_eq!(vision(80, &vit, 577, 5).grid, [5, 16, 5]);
        assert_eq!(vision(61, &vit, 577, 5).grid, [10, 16, 5]);
        assert_eq!(vision(61, &vit, 1, 5).grid, [1, 16, 5]);
        let llm = heads(Dtype::F16, 32, 8, 128);
        assert_eq!(prefill(75, &llm, 65).grid, [2, 32, 1]);
        assert_eq!(prefill(61, &llm, 65).grid, [3, 32, 1]);
    }

    #[test]
    fn decode_shares_keys_between_the_heads_of_a_group() {
        let of = |dtype, q, kv, width| {
            let launch = decode(&heads(dtype, q, kv, width), 3, 4);
            (launch.kernel.trim_start_matches("attention_decode_").to_owned(), launch.grid)
        };
        assert_eq!(of(Dtype::F16, 32, 32, 128), ("vector128x1_f16".into(), [4, 32, 3]));
        assert_eq!(of(Dtype::F16, 32, 8, 128), ("vector128x4_f16".into(), [4, 8, 3]));
        assert_eq!(of(Dtype::F32, 14, 2, 64), ("vector64x8_f32".into(), [4, 2, 3]));
        assert_eq!(of(Dtype::F16, 40, 2, 64), ("vector64x8_f16".into(), [4, 6, 3]));
        assert_eq!(of(Dtype::F16, 14, 2, 6), ("guardedx4_f16".into(), [4, 4, 3]));
    }

    #[test]
    fn a_step_reaches_as_far_as_its_longest_context() {
        let split = HIRED_SPLIT as usize;
        let reached = [1, split, split + 1, 3 * split, 4 * split + 1].map(reach);
        assert_eq!(reached.map(|slots| slots / split), [1, 1, 2, 4, 8]);
    }

    #[test]
    fn large_cards_and_few_heads_have_small_splits() {
        let of = |kv, processors| split(&heads(Dtype::F16, 32, kv, 128), processors);
        // A 7B model on a P40, a T4 and an H200; a model with eight key/value heads on a P40.
        assert_eq!([of(32, 30), of(32, 40), of(32, 132), of(8, 30)], [128, 128, 64, 64]);
        assert_eq!([HIRED_SPLIT % HIRED_LEAST_SPLIT, HIRED_LEAST_SPLIT % HIRED_PAGE], [0, 0]);
    }

    #[test]
    fn there_is_room_for_every_split_and_head() {
        assert_eq!(decode_scratch(32, 128, 1, 256), [32 * 4 * 512, 32 * 4 * 8]);
        assert_eq!(cls_bytes(16, 5, 576), [80 * 577 * 4, 80 * 4]);
    }
}
