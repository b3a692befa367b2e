//! Chooses kernel and tile of a GEMM, a matrix product of more than [`super::gemv::ROWS`] rows.
//!
//! The lower bound of a product's time is 2 · rows · cols · inner FLOP over the GPU's rate: 24.2 GFLOP for the 2885
//! vision rows of an MLP's first half, 2.1 ms at a P40's 11.8 TFLOP/s. By the instructions of their main loops, the
//! kernels can reach 87% of the fp32 rate (FMA, sm_61). Of the rate of tensor cores they can reach about 75% (A100; T4
//! while it holds its clock) and 55% (Hopper, where `mma.sync` has two thirds of the rate and shared memory is the next
//! limit).

use super::Factors;
pub use super::split::Split;
use crate::format::Dtype;
use crate::ops::cost::Cost;
use crate::ops::cuda::abi::HIRED_ROW_THREADS;
use crate::ops::cuda::launch::{Launch, WARP, variant};

/// The shape of products with up to three weights: each out `[rows, cols]` from x `[rows, inner]` and w `[cols,
/// inner]`.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows of x and of each out.
    pub rows: usize,
    /// Rows of each weight, which are the columns of its out; 0 for no weight.
    pub cols: [usize; 3],
    /// Whether the first two weights are gate and up, with one out for both.
    pub gated: bool,
    /// Columns of x and of w.
    pub inner: usize,
    /// Distance between rows of x, in numbers.
    pub x_stride: usize,
    /// Distance between rows of each w.
    pub w_stride: usize,
    /// Distance between rows of each out.
    pub out_strides: [usize; 3],
    /// Whether x, w, biases, outs and scratch start at multiples of 16 bytes.
    pub aligned: bool,
    /// The split of the sums.
    pub split: Split,
}

impl Product {
    /// Whether the rows can be accessed in units of 16 bytes, without a rest.
    fn is_vector(&self, factors: Factors) -> bool {
        let inner = self.inner / self.split.parts;
        let results = self.cols.into_iter().chain(self.out_strides);
        self.aligned
            && factors
                .fit([inner, self.w_stride], [inner, self.x_stride].into_iter().chain(results))
    }

    /// Tiles of width `tile` that cover the columns of all outs.
    fn wide(&self, tile: usize) -> usize {
        match self.gated {
            true => (2 * self.cols[0]).div_ceil(tile),
            false => self.cols.iter().map(|cols| cols.div_ceil(tile)).sum(),
        }
    }
}

/// The launches of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launches {
    /// The kernel that computes out, or the partial sums.
    pub product: Launch,
    /// The kernel that adds the partial sums; it takes the same parameters.
    pub sum: Option<Launch>,
}

/// A tile: the part of a product that one block computes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tile {
    /// Its name in the kernel's name.
    name: &'static str,
    rows: usize,
    cols: usize,
    threads: u32,
    /// Speed relative to the family's largest tile when the GPU is full. Smaller tiles read shared memory more often
    /// for each product.
    rate: f64,
    /// Speed of a block that is alone on a multiprocessor, relative to two blocks.
    alone: f64,
}

const fn tile(name: &'static str, size: [usize; 2], threads: u32, rate: f64, alone: f64) -> Tile {
    Tile { name, rows: size[0], cols: size[1], threads, rate, alone }
}

/// The kernels of one way to multiply.
#[derive(Debug)]
pub struct Family {
    file: &'static str,
    /// The prefix of the kernels' names.
    kernel: &'static str,
    /// Tiles from the largest to the smallest.
    tiles: &'static [Tile],
    /// The tile for shapes that vector accesses do not fit.
    guarded: Tile,
}

const THREADS_TILES: [Tile; 2] =
    [tile("128x128", [128, 128], 256, 1.0, 0.85), tile("64x64", [64, 64], 128, 0.85, 0.6)];

const THREADS_GUARDED: Tile = tile("guarded", [64, 64], 128, 0.5, 0.5);

const fn by_threads(file: &'static str, kernel: &'static str) -> Family {
    Family { file, kernel, tiles: &THREADS_TILES, guarded: THREADS_GUARDED }
}

pub(super) static FMA: Family = by_threads("gemm_fma", "gemm_fma");
pub(super) static FMA_Q4: Family = by_threads("gemm_fma_q4", "gemm_fma");
pub(super) static FMA_AWQ: Family = by_threads("gemm_fma_awq", "gemm_fma");
pub(super) static FMA_W8A16: Family = by_threads("gemm_fma_w8a16", "gemm_fma");
pub(super) static DP4A: Family = by_threads("gemm_dp4a", "gemm_dp4a");

const MMA_TILES: [Tile; 3] = [
    tile("128x128", [128, 128], 128, 1.0, 0.7),
    tile("64x128", [64, 128], 128, 0.85, 0.65),
    tile("64x64", [64, 64], 128, 0.65, 0.6),
];

const MMA_GUARDED: Tile = tile("guarded", [64, 64], 128, 0.1, 0.1);

const fn on_tensor_cores(file: &'static str, kernel: &'static str) -> Family {
    Family { file, kernel, tiles: &MMA_TILES, guarded: MMA_GUARDED }
}

pub(super) static MMA8: Family = on_tensor_cores("gemm_mma8", "gemm_mma8");
pub(super) static MMA16: Family = on_tensor_cores("gemm_mma16", "gemm_mma16");
pub(super) static MMA8_Q8: Family = on_tensor_cores("gemm_mma8_q8", "gemm_mma8");
pub(super) static MMA16_Q8: Family = on_tensor_cores("gemm_mma16_q8", "gemm_mma16");
pub(super) static MMA_Q4: Family = on_tensor_cores("gemm_mma_q4", "gemm_mma");
pub(super) static MMA_AWQ: Family = on_tensor_cores("gemm_mma_awq", "gemm_mma");
pub(super) static MMA_W8A16: Family = on_tensor_cores("gemm_mma_w8a16", "gemm_mma");

impl Tile {
    /// Relative time of a product: that of the multiprocessor with the most tiles.
    fn time(&self, product: &Product, processors: usize) -> f64 {
        let tiles =
            product.rows.div_ceil(self.rows) * product.wide(self.cols) * product.split.parts;
        let most = tiles.div_ceil(processors);
        let blocks = (most - most % 2) as f64 + (most % 2) as f64 / self.alone;
        blocks * (self.rows * self.cols) as f64 / self.rate
    }
}

/// The launches of a product with the tile that is expected to be fastest, see [`super::choose::Kernels::gemm`].
pub(super) fn fastest(
    family: &Family,
    factors: Factors,
    product: &Product,
    processors: usize,
) -> Launches {
    let time = |tile: &&Tile| tile.time(product, processors.max(1));
    let tile = match product.is_vector(factors) {
        true => family.tiles.iter().min_by(|a, b| time(a).total_cmp(&time(b))).expect("a tile"),
        false => &family.guarded,
    };
    launches(family, tile, factors, product, processors)
}

/// The launches with each tile of the family.
pub(super) fn every(
    family: &Family,
    factors: Factors,
    product: &Product,
    processors: usize,
) -> Vec<Launches> {
    let tiles = if product.is_vector(factors) { family.tiles } else { &[] };
    let tiles = tiles.iter().chain([&family.guarded]);
    tiles.map(|tile| launches(family, tile, factors, product, processors)).collect()
}

fn launches(
    family: &Family,
    tile: &Tile,
    factors: Factors,
    product: &Product,
    processors: usize,
) -> Launches {
    let high = product.rows.div_ceil(tile.rows);
    // Two blocks run on each multiprocessor at the same time; a square of tiles reads least.
    let side = ((2 * processors.max(1) * tile.cols / tile.rows) as f64).sqrt() as usize;
    let groups = high.div_ceil(side.max(1));
    let grid = [high.div_ceil(groups), product.wide(tile.cols), groups * product.split.parts];
    Launches {
        product: Launch {
            file: family.file,
            kernel: format!("{}_{}_{}", family.kernel, tile.name, factors.name()),
            grid: grid.map(|n| n as u32),
            block: tile.threads,
            shared: 0,
            cost: Cost::default(),
        },
        sum: (product.split.parts > 1)
            .then(|| sum(factors.activations, product, tile == &family.guarded)),
    }
}

/// The launch that adds the partial sums of a product.
fn sum(dtype: Dtype, product: &Product, guarded: bool) -> Launch {
    let made = if product.gated { product.cols[0] } else { product.cols.iter().sum() };
    let threads = made.div_ceil(if guarded { 1 } else { dtype.lanes() });
    let block = (threads as u32).next_multiple_of(WARP).min(HIRED_ROW_THREADS);
    let all: usize = product.cols.iter().sum();
    let read = product.split.bytes(product.rows, all).unwrap_or(0);
    Launch {
        file: "gemm_sum",
        kernel: format!("gemm_sum_{}_{}", variant(!guarded), dtype.name()),
        grid: [product.rows as u32, (threads as u32).div_ceil(block), 1],
        block,
        shared: 0,
        cost: Cost::bytes(read + product.rows * made * dtype.size()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::choose::Kernels;
    use super::*;
    use crate::format::Format;

    fn product(rows: usize, cols: usize, inner: usize) -> Product {
        let (x_stride, w_stride, cols) = (inner, inner, [cols, 0, 0]);
        let split = Split::ONE;
        let (gated, aligned, out_strides) = (false, true, cols);
        Product { rows, cols, gated, inner, x_stride, w_stride, out_strides, aligned, split }
    }

    fn gemm(path: u32, dtype: Dtype, product: &Product, processors: usize) -> Launches {
        Kernels::of(path, dtype.into()).unwrap().gemm(product, processors)
    }

    fn kernel(path: u32, dtype: Dtype, product: Product, processors: usize) -> String {
        gemm(path, dtype, &product, processors).product.kernel
    }

    #[test]
    fn the_path_and_the_format_choose_the_family() {
        let name = |path, dtype| kernel(path, dtype, product(2928, 4096, 4096), 40);
        assert_eq!(name(61, Dtype::F16), "gemm_fma_128x128_f16");
        assert_eq!(name(75, Dtype::F16), "gemm_mma8_128x128_f16");
        assert_eq!(name(80, Dtype::F16), "gemm_mma16_128x128_f16");
        for path in [61, 75, 80] {
            assert_eq!(name(path, Dtype::F32), "gemm_fma_128x128_f32");
        }
    }

    #[test]
    fn what_no_vector_reaches_is_guarded() {
        let whole = product(2885, 4096, 1024);
        let name = |product, dtype| kernel(80, dtype, product, 108);
        for wrong in [
            Product { cols: [4098, 0, 0], ..whole },
            Product { cols: [4096, 4096, 12], ..whole },
            Product { inner: 1020, ..whole },
            Product { x_stride: 1028, ..whole },
            Product { w_stride: 1028, ..whole },
            Product { out_strides: [4096, 4100, 4096], ..whole },
            Product { aligned: false, ..whole },
        ] {
            assert_eq!(name(wrong, Dtype::F16), "gemm_mma16_guarded_f16", "{wrong:?}");
        }
        // A vector of f32 has four numbers.
        assert_ne!(name(Product { inner: 1020, ..whole }, Dtype::F32), "gemm_fma_guarded_f32");
        assert_ne!(name(Product { rows: 2887, ..whole }, Dtype::F16), "gemm_mma16_guarded_f16");
    }

    #[test]
    fn small_products_get_small_tiles() {
        let p40 = |rows, cols| kernel(61, Dtype::F16, product(rows, cols, 4096), 30);
        assert_eq!(p40(2928, 4096), "gemm_fma_128x128_f16");
        assert_eq!(p40(2885, 1024), "gemm_fma_128x128_f16");
        assert_eq!(p40(60, 4096), "gemm_fma_64x64_f16");
        let h200 = |rows, cols| kernel(80, Dtype::F16, product(rows, cols, 4096), 132);
        assert_eq!(h200(2928, 11008), "gemm_mma16_128x128_f16");
        // 184 blocks run at once, two on some multiprocessors.
        assert_eq!(h200(2885, 1024), "gemm_mma16_128x128_f16");
        assert_eq!(h200(2885, 512), "gemm_mma16_64x128_f16");
        assert_eq!(h200(60, 4096), "gemm_mma16_64x64_f16");
    }

    #[test]
    fn the_grid_covers_every_tile_and_little_more() {
        for rows in (9..3000).step_by(37) {
            for (cols, processors) in [(4096, 30), (1024, 132), (14336, 40), (8, 1)] {
                let launch = gemm(80, Dtype::F16, &product(rows, cols, 64), processors).product;
                let tile = MMA_TILES.iter().find(|t| launch.kernel.contains(t.name)).unwrap();
                let [group, wide, groups] = launch.grid.map(|n| n as usize);
                let high = rows.div_ceil(tile.rows);
                assert_eq!(wide, cols.div_ceil(tile.cols));
                assert!((high..high + groups).contains(&(group * groups)), "{rows}: {launch:?}");
            }
        }
    }

    #[test]
    fn weights_stand_beside_each_other() {
        let three = Product { cols: [4096, 1024, 40], ..product(636, 4096, 4096) };
        let launch = gemm(80, Dtype::F16, &three, 132).product;
        assert_eq!(launch.kernel, "gemm_mma16_128x128_f16");
        assert_eq!(launch.grid[1], 32 + 8 + 1);
        // The last tile of gate and up has only half of its columns.
        let both = Product { gated: true, cols: [11040, 11040, 0], ..three };
        assert_eq!(gemm(80, Dtype::F16, &both, 132).product.grid[1], 173);
    }

    #[test]
    fn parts_get_blocks_of_their_own() {
        let whole = product(60, 4096, 4096);
        let split = Split::of(60, 4096, 4096, Format::F16);
        let one = gemm(80, Dtype::F16, &whole, 132);
        let four = gemm(80, Dtype::F16, &Product { split, ..whole }, 132);
        assert_eq!((one.product.grid, one.sum), ([1, 64, 1], None));
        assert_eq!(four.product.grid, [1, 64, 4]);
        let sum = four.sum.unwrap();
        assert_eq!(
            (sum.kernel.as_str(), sum.grid, sum.block),
            ("gemm_sum_vector_f16", [60, 2, 1], 256)
        );
        let odd = Product { split, cols: [4098, 0, 0], ..whole };
        let sum = gemm(80, Dtype::F16, &odd, 132).sum.unwrap();
        assert_eq!((sum.kernel.as_str(), sum.grid[1]), ("gemm_sum_guarded_f16", 17));
    }
}
