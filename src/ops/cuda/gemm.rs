//! Which kernel and which tile make a matrix product of more than a few rows.
//!
//! The floor of a product is 2 · rows · cols · inner FLOP over the card's rate: 24.2 GFLOP for the 2885 vision rows of
//! an MLP's first half, 2.1 ms of a P40's 11.8 TFLOP/s. By the instructions of their main loops the kernels can reach
//! 84% of the fp32 rate (FMA, sm_61), and of the tensor cores' about 75% (A100, T4 while it holds its clock) and 55%
//! (Hopper, where `mma.sync` has two thirds of the rate and shared memory is the next limit).

use super::launch::{Launch, Number};
use crate::ops::cost::Cost;

/// The shape of a product: out `[rows, cols]` from x `[rows, inner]` and w `[cols, inner]`.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows of x and of out.
    pub rows: usize,
    /// Rows of w, columns of out.
    pub cols: usize,
    /// Columns of x and of w.
    pub inner: usize,
    /// Numbers between the starts of two rows of x.
    pub x_stride: usize,
    /// The same of w.
    pub w_stride: usize,
    /// The same of out.
    pub out_stride: usize,
    /// x, w, bias and out start at multiples of 16 bytes.
    pub aligned: bool,
}

impl Product {
    /// Whether accesses of 16 bytes reach all numbers and no others.
    fn is_vector(&self, number: Number) -> bool {
        let lanes = 16 / number.size();
        let sizes = [self.cols, self.inner, self.x_stride, self.w_stride, self.out_stride];
        self.aligned && sizes.iter().all(|size| size.is_multiple_of(lanes))
    }
}

/// What a block makes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tile {
    /// In the kernel's name.
    name: &'static str,
    rows: usize,
    cols: usize,
    threads: u32,
    /// Speed beside the family's largest tile when the card is full: what a smaller tile loses to the shared memory
    /// that it reads more often for each product.
    rate: f64,
    /// Speed of the last block that is alone on a multiprocessor beside two.
    alone: f64,
}

const fn tile(name: &'static str, size: [usize; 2], threads: u32, rate: f64, alone: f64) -> Tile {
    Tile { name, rows: size[0], cols: size[1], threads, rate, alone }
}

/// Kernels of one way to multiply.
struct Family {
    file: &'static str,
    /// From the largest to the smallest.
    tiles: &'static [Tile],
    /// For what no vector access reaches.
    guarded: Tile,
}

const FMA: Family = Family {
    file: "gemm_fma",
    tiles: &[tile("128x128", [128, 128], 256, 1.0, 0.85), tile("64x64", [64, 64], 128, 0.85, 0.6)],
    guarded: tile("guarded", [64, 64], 128, 0.5, 0.5),
};

const MMA_TILES: [Tile; 3] = [
    tile("128x128", [128, 128], 128, 1.0, 0.7),
    tile("64x128", [64, 128], 128, 0.85, 0.65),
    tile("64x64", [64, 64], 128, 0.65, 0.6),
];

const MMA_GUARDED: Tile = tile("guarded", [64, 64], 128, 0.1, 0.1);

const MMA8: Family = Family { file: "gemm_mma8", tiles: &MMA_TILES, guarded: MMA_GUARDED };

const MMA16: Family = Family { file: "gemm_mma16", tiles: &MMA_TILES, guarded: MMA_GUARDED };

/// The kernels for numbers of a format on a code path, one of [`super::modules::CODE_PATHS`].
fn family(path: u32, number: Number) -> &'static Family {
    match (number, path) {
        (Number::F32, _) | (_, ..75) => &FMA,
        (_, 75..80) => &MMA8,
        _ => &MMA16,
    }
}

/// Whether the kernels for numbers of a format multiply on the tensor cores of a card of this code path or compute
/// capability.
pub fn is_on_tensor_cores(path: u32, number: Number) -> bool {
    family(path, number).file != FMA.file
}

impl Tile {
    /// Relative time of a product: that of the multiprocessor with most tiles.
    fn time(&self, product: &Product, processors: usize) -> f64 {
        let tiles = product.rows.div_ceil(self.rows) * product.cols.div_ceil(self.cols);
        let most = tiles.div_ceil(processors);
        let blocks = (most - most % 2) as f64 + (most % 2) as f64 / self.alone;
        blocks * (self.rows * self.cols) as f64 / self.rate
    }
}

/// The launch of a product on a card with so many multiprocessors.
///
/// The kernel's family depends on path and format alone and each sum has one order in it: a row's bits do not depend
/// on how many others there are.
pub fn gemm(path: u32, number: Number, product: &Product, processors: usize) -> Launch {
    let family = family(path, number);
    let time = |tile: &&Tile| tile.time(product, processors.max(1));
    let tile = match product.is_vector(number) {
        true => family.tiles.iter().min_by(|a, b| time(a).total_cmp(&time(b))).expect("a tile"),
        false => &family.guarded,
    };
    launch(family, tile, number, product, processors)
}

/// Every launch that can make the product, for tests and measurements. All give the same bits.
pub fn every(path: u32, number: Number, product: &Product, processors: usize) -> Vec<Launch> {
    let family = family(path, number);
    let tiles = if product.is_vector(number) { family.tiles } else { &[] };
    let tiles = tiles.iter().chain([&family.guarded]);
    tiles.map(|tile| launch(family, tile, number, product, processors)).collect()
}

fn launch(
    family: &Family,
    tile: &Tile,
    number: Number,
    product: &Product,
    processors: usize,
) -> Launch {
    let high = product.rows.div_ceil(tile.rows);
    let wide = product.cols.div_ceil(tile.cols);
    // Two blocks on each multiprocessor at the same time: about a square of out, which reads least.
    let side = ((2 * processors.max(1) * tile.cols / tile.rows) as f64).sqrt() as usize;
    let groups = high.div_ceil(side.max(1));
    Launch {
        file: family.file,
        kernel: format!("{}_{}_{}", family.file, tile.name, number.name()),
        grid: [high.div_ceil(groups) as u32, wide as u32, groups as u32],
        block: tile.threads,
        shared: 0,
        cost: Cost::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(rows: usize, cols: usize, inner: usize) -> Product {
        let (x_stride, w_stride, out_stride) = (inner, inner, cols);
        Product { rows, cols, inner, x_stride, w_stride, out_stride, aligned: true }
    }

    fn kernel(path: u32, number: Number, product: Product, processors: usize) -> String {
        gemm(path, number, &product, processors).kernel
    }

    #[test]
    fn the_path_and_the_format_choose_the_family() {
        let name = |path, number| kernel(path, number, product(2928, 4096, 4096), 40);
        assert_eq!(name(61, Number::F16), "gemm_fma_128x128_f16");
        assert_eq!(name(75, Number::F16), "gemm_mma8_128x128_f16");
        assert_eq!(name(80, Number::F16), "gemm_mma16_128x128_f16");
        for path in [61, 75, 80] {
            assert_eq!(name(path, Number::F32), "gemm_fma_128x128_f32");
            assert!(!is_on_tensor_cores(path, Number::F32));
        }
        let tensor = [61, 70, 75, 87, 90].map(|card| is_on_tensor_cores(card, Number::F16));
        assert_eq!(tensor, [false, false, true, true, true]);
    }

    #[test]
    fn what_no_vector_reaches_is_guarded() {
        let whole = product(2885, 4096, 1024);
        let name = |product, number| kernel(80, number, product, 108);
        for wrong in [
            Product { cols: 4098, ..whole },
            Product { inner: 1020, ..whole },
            Product { x_stride: 1028, ..whole },
            Product { w_stride: 1028, ..whole },
            Product { out_stride: 4100, ..whole },
            Product { aligned: false, ..whole },
        ] {
            assert_eq!(name(wrong, Number::F16), "gemm_mma16_guarded_f16", "{wrong:?}");
        }
        // Four numbers are a vector of f32.
        assert_ne!(name(Product { inner: 1020, ..whole }, Number::F32), "gemm_fma_guarded_f32");
        assert_ne!(name(Product { rows: 2887, ..whole }, Number::F16), "gemm_mma16_guarded_f16");
    }

    #[test]
    fn small_products_get_small_tiles() {
        let p40 = |rows, cols| kernel(61, Number::F16, product(rows, cols, 4096), 30);
        assert_eq!(p40(2928, 4096), "gemm_fma_128x128_f16");
        assert_eq!(p40(2885, 1024), "gemm_fma_128x128_f16");
        assert_eq!(p40(60, 4096), "gemm_fma_64x64_f16");
        let h200 = |rows, cols| kernel(80, Number::F16, product(rows, cols, 4096), 132);
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
                let launch = gemm(80, Number::F16, &product(rows, cols, 64), processors);
                let tile = MMA_TILES.iter().find(|t| launch.kernel.contains(t.name)).unwrap();
                let [group, wide, groups] = launch.grid.map(|n| n as usize);
                let high = rows.div_ceil(tile.rows);
                assert_eq!(wide, cols.div_ceil(tile.cols));
                assert!((high..high + groups).contains(&(group * groups)), "{rows}: {launch:?}");
            }
        }
    }
}
