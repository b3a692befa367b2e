//! Which attention kernel runs, on how many blocks, and what scratch it needs.
//!
//! Prompts and the vision tower: tiles of queries, by `mma` where the GPU has it. Decode steps: keys in splits.

use crate::format::Dtype;
use crate::ops::cost::Cost;
use crate::ops::cuda::abi::{
    HIRED_ATTENTION_THREADS, HIRED_HEAD_DIM, HIRED_LEAST_SPLIT, HIRED_ROW_THREADS, HIRED_SPLIT,
};
use crate::ops::cuda::launch::{Launch, is_vector, variant};

/// Heads and how their rows lie. Strides count numbers.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Of queries.
    pub heads: usize,
    /// Of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Numbers of a head, even.
    pub head_dim: usize,
    /// Format of queries, keys, values and results.
    pub dtype: Dtype,
    /// From one row of queries to the next.
    pub q_stride: usize,
    /// From one key to the next; of the cache, whose keys lie side by side, `head_dim`.
    pub kv_stride: usize,
    /// From one row of results to the next.
    pub out_stride: usize,
    /// Queries, keys, values and results start at multiples of 16 bytes.
    pub aligned: bool,
}

impl Heads {
    /// Whole accesses of 16 bytes reach every number of a head.
    fn is_vector(&self) -> bool {
        let lanes = 16 / self.dtype.size();
        let sizes = [self.head_dim, self.q_stride, self.kv_stride, self.out_stride];
        self.aligned && sizes.iter().all(|size| size.is_multiple_of(lanes))
    }
}

/// A kernel that takes a block of queries.
#[derive(Debug)]
struct Tile {
    name: &'static str,
    /// Queries of a block.
    rows: usize,
    /// Widest head.
    head_dim: usize,
    /// Only f16, and only from this code path on.
    mma: Option<u32>,
    /// Only whole vectors.
    vector: bool,
}

/// In the order in which they are tried.
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

/// Attention inside each of `partitions`, none of which has more than `rows` queries.
pub fn vision(path: u32, heads: &Heads, rows: usize, partitions: usize) -> Launch {
    tiles("attention_vision", path, heads, rows, partitions)
}

/// Causal attention of a span of `rows` rows to the cache.
pub fn prefill(path: u32, heads: &Heads, rows: usize) -> Launch {
    tiles("attention_prefill", path, heads, rows, 1)
}

/// Heads that share the keys that a block of `attention_decode` loads: the kernels there are.
const SHARING: [usize; 3] = [1, 4, 8];

/// Slots for which a decode step is laid out whose longest context is so long: its grid, tables and scratch. A power of
/// two times the largest split, so that a few recorded steps serve all lengths, and no more than a growing answer needs soon,
/// however large the cache is.
pub fn reach(context: usize) -> usize {
    let split = HIRED_SPLIT as usize;
    context.div_ceil(split).next_power_of_two() * split
}

/// Slots that a block of a decode step sees, on a GPU with this many multiprocessors. The sums of a row are made in this
/// order, so it depends on nothing that changes between rows or steps: large splits, which have less to merge, where one
/// sequence of some 1000 positions still gives each multiprocessor four blocks.
pub fn split(heads: &Heads, processors: usize) -> usize {
    let (least, most) = (HIRED_LEAST_SPLIT as usize, HIRED_SPLIT as usize);
    if blocks(heads) * (1024 / most) >= 4 * processors { most } else { least }
}

/// Blocks that share a split of one sequence's keys.
fn blocks(heads: &Heads) -> usize {
    heads.kv_heads * (heads.heads / heads.kv_heads).div_ceil(sharing(heads).1)
}

/// The decode kernel for such heads, and how many of them share the keys that it loads.
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

/// Attention of one row of each of `sequences` to so many splits at most of the cache.
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

/// Bytes of scratch of [`decode`] over so many slots: mixed values, and greatest scores with sums. For the smallest
/// splits: what is planned does not know the GPU's number of multiprocessors.
pub fn decode_scratch(heads: usize, head_dim: usize, sequences: usize, slots: usize) -> [usize; 2] {
    let parts = sequences * heads * slots.div_ceil(HIRED_LEAST_SPLIT as usize);
    [parts * head_dim * size_of::<f32>(), parts * size_of::<[f32; 2]>()]
}

/// Attention of the class token, head by head. `q_stride` and `out_stride` of `heads` play no part.
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

/// What patches receive, head by head: of the queries, then of the keys. `out_stride` of `heads` plays no part.
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

/// Attention of a prompt's last row, head by head.
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

/// Bytes of what [`cls_scores`] writes: weights, and their sums.
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
        // 7B on a P40, a T4 and an H200; eight heads of keys on a P40.
        assert_eq!([of(32, 30), of(32, 40), of(32, 132), of(8, 30)], [128, 128, 64, 64]);
        assert_eq!([HIRED_SPLIT % HIRED_LEAST_SPLIT, HIRED_LEAST_SPLIT % HIRED_PAGE], [0, 0]);
    }

    #[test]
    fn there_is_room_for_every_split_and_head() {
        assert_eq!(decode_scratch(32, 128, 1, 256), [32 * 4 * 512, 32 * 4 * 8]);
        assert_eq!(cls_bytes(16, 5, 576), [80 * 577 * 4, 80 * 4]);
    }
}
