//! Chooses the kernels of a matrix product by code path and by the formats of the two factors, from one table. Tile and
//! variant follow from the shape, see [`super::gemm`] and [`super::gemv`].
//!
//! A new format of weights needs a row for each format of activations that it is multiplied with. If its numbers share
//! scales in groups, it also needs a type of codes in `kernels/groups.cuh` and the three files that instantiate its
//! kernels.

use super::Factors;
use super::gemm::{self, Family, Launches, Product};
use super::gemv::{self, Gemv, Way};
use crate::format::{Dtype, Format, Formats};
use crate::ops::cost::Cost;
use crate::ops::cuda::abi::HIRED_NORM_THREADS;
use crate::ops::cuda::launch::{Launch, WARP, variant};
use crate::{Error, Result};

/// The kernels for two formats, from a code path on.
#[derive(Debug)]
pub struct Kernels {
    factors: Factors,
    /// The first code path that they run on.
    from: u32,
    /// Kernels for more than [`gemv::ROWS`] rows.
    gemm: &'static Family,
    /// Kernels for at most [`gemv::ROWS`] rows.
    gemv: Way,
}

const fn row(
    weights: Format,
    activations: Dtype,
    from: u32,
    gemm: &'static Family,
    gemv: Way,
) -> Kernels {
    Kernels { factors: Factors { weights, activations }, from, gemm, gemv }
}

/// The first code path whose tensor cores the kernels of this crate use.
const TENSOR_CORES: u32 = 75;

/// int4 with groups of any size.
const Q4: Format = Format::Q4 { group: 0 };
const AWQ: Format = Format::Awq { group: 0 };
const W8A16: Format = Format::W8A16 { group: 0 };

/// Of the rows with the same formats, the first whose code path the GPU supports is used.
const KERNELS: [Kernels; 19] = [
    row(Format::F16, Dtype::F16, 80, &gemm::MMA16, Way::Mma),
    row(Format::F16, Dtype::F16, 75, &gemm::MMA8, Way::Mma),
    // fp16 is only a storage format here: numbers are widened and multiplied in fp32.
    row(Format::F16, Dtype::F16, 0, &gemm::FMA, Way::Fma),
    row(Format::F32, Dtype::F32, 0, &gemm::FMA, Way::Fma),
    row(Format::Q8, Dtype::F16, 80, &gemm::MMA16_Q8, Way::Dp4a),
    row(Format::Q8, Dtype::F16, 75, &gemm::MMA8_Q8, Way::Dp4a),
    row(Format::Q8, Dtype::F16, 0, &gemm::DP4A, Way::Dp4a),
    row(Format::Q8, Dtype::F32, 80, &gemm::MMA16_Q8, Way::Dp4a),
    row(Format::Q8, Dtype::F32, 75, &gemm::MMA8_Q8, Way::Dp4a),
    row(Format::Q8, Dtype::F32, 0, &gemm::DP4A, Way::Dp4a),
    row(Q4, Dtype::F16, 75, &gemm::MMA_Q4, Way::Groups("gemv_q4")),
    row(Q4, Dtype::F16, 0, &gemm::FMA_Q4, Way::Groups("gemv_q4")),
    row(Q4, Dtype::F32, 0, &gemm::FMA_Q4, Way::Groups("gemv_q4")),
    row(AWQ, Dtype::F16, 75, &gemm::MMA_AWQ, Way::Groups("gemv_awq")),
    row(AWQ, Dtype::F16, 0, &gemm::FMA_AWQ, Way::Groups("gemv_awq")),
    row(AWQ, Dtype::F32, 0, &gemm::FMA_AWQ, Way::Groups("gemv_awq")),
    row(W8A16, Dtype::F16, 75, &gemm::MMA_W8A16, Way::Groups("gemv_w8a16")),
    row(W8A16, Dtype::F16, 0, &gemm::FMA_W8A16, Way::Groups("gemv_w8a16")),
    row(W8A16, Dtype::F32, 0, &gemm::FMA_W8A16, Way::Groups("gemv_w8a16")),
];

impl Kernels {
    /// The kernels for these factors on a code path or compute capability; `None` where there are none.
    pub fn of(path: u32, factors: Factors) -> Option<&'static Self> {
        KERNELS.iter().find(|kernels| kernels.factors.are_alike(factors) && kernels.from <= path)
    }

    /// Whether products of many rows run on tensor cores: so do all kernels that start with a later code path.
    pub fn multiply_on_tensor_cores(&self) -> bool {
        self.from >= TENSOR_CORES
    }

    /// Whether products of few rows run on tensor cores.
    pub fn use_tensor_cores(&self) -> bool {
        self.gemv == Way::Mma
    }

    /// The launches of a product of more than [`gemv::ROWS`] rows on a GPU with this many multiprocessors.
    ///
    /// The kernel family depends on path and formats alone, and every tile adds a sum in the same order. A row's bits
    /// therefore depend on the other rows only through their number, where that changes the [`gemm::Split`].
    pub fn gemm(&self, product: &Product, processors: usize) -> Launches {
        gemm::fastest(self.gemm, self.factors, product, processors)
    }

    /// The launches with each tile, for tests and benchmarks. All give the same bits.
    pub fn every_gemm(&self, product: &Product, processors: usize) -> Vec<Launches> {
        gemm::every(self.gemm, self.factors, product, processors)
    }

    /// The launch of a product of at most [`gemv::ROWS`] rows. Path, formats and vector access decide the order of a
    /// sum: a row's bits do not depend on the number of rows.
    ///
    /// # Panics
    /// For more rows than [`gemv::ROWS`], or none.
    pub fn gemv(&self, product: &Gemv) -> Launch {
        gemv::launch(self.gemv, self.factors, product)
    }
}

/// Whether products in these formats run on tensor cores on a code path or compute capability.
pub fn is_on_tensor_cores(path: u32, formats: Formats) -> bool {
    Kernels::of(path, formats.into()).is_some_and(Kernels::use_tensor_cores)
}

/// The launch that quantizes `rows` rows of activations to int8.
pub fn quantize(dtype: Dtype, rows: usize, cols: usize, stride: usize) -> Launch {
    /// Numbers of an access, and of a thread's turn.
    const LANES: usize = 8;
    const KEPT: usize = 32;
    let fits = cols.is_multiple_of(LANES) && stride.is_multiple_of(LANES);
    let vector = fits && cols <= KEPT * HIRED_NORM_THREADS as usize;
    // A thread for each access where rows are short, so that a block is done sooner.
    let threads = cols.div_ceil(LANES) as u32;
    Launch {
        file: "quantize",
        kernel: format!("quantize_{}_{}", variant(vector), dtype.name()),
        grid: [rows as u32, 1, 1],
        block: threads.clamp(1, HIRED_NORM_THREADS).next_multiple_of(WARP),
        shared: 0,
        cost: Cost::bytes(rows * (cols * (dtype.size() + 1) + size_of::<f32>())),
    }
}

/// Checks that there are kernels for these formats on a code path.
///
/// # Errors
/// [`Error::Request`] that names the formats where there are none.
pub fn check(path: u32, formats: Formats) -> Result<()> {
    let Formats { weights, activations, cache } = formats;
    if Kernels::of(path, formats.into()).is_none() {
        return Err(Error::Request(format!(
            "no CUDA kernel multiplies activations in {} with weights in {}: take f16 or f32 for both",
            activations.name(),
            weights.name()
        )));
    }
    if cache != activations {
        return Err(Error::Request(format!(
            "the CUDA kernels keep keys and values in the format of activations, {}: a cache in {} is not supported",
            activations.name(),
            cache.name()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_multiplied_on_every_code_path() {
        for path in [61, 70, 75, 80, 90] {
            for activations in [Dtype::F16, Dtype::F32] {
                let group = 32;
                for weights in [
                    Format::Q8,
                    Format::Q4 { group },
                    Format::Q4 { group: 128 },
                    Format::Awq { group },
                    Format::W8A16 { group },
                ] {
                    assert!(Kernels::of(path, Factors { weights, activations }).is_some());
                }
            }
        }
    }

    #[test]
    fn rows_become_codes_in_registers_where_they_fit() {
        let name = |cols, stride| {
            let launch = quantize(Dtype::F16, 3, cols, stride);
            (launch.kernel, launch.grid[0], launch.block)
        };
        assert_eq!(name(4096, 4096), ("quantize_vector_f16".into(), 3, 512));
        assert_eq!(name(14336, 14336), ("quantize_vector_f16".into(), 3, 512));
        assert_eq!(name(48, 48), ("quantize_vector_f16".into(), 3, 32));
        for (cols, stride) in [(36, 36), (48, 50), (16392, 16392)] {
            assert_eq!(name(cols, stride).0, "quantize_guarded_f16");
        }
    }

    #[test]
    fn every_code_path_multiplies_both_formats() {
        for path in [61, 75, 80] {
            for dtype in [Dtype::F16, Dtype::F32] {
                check(path, dtype.into()).unwrap();
                let on_tensor_cores = is_on_tensor_cores(path, dtype.into());
                assert_eq!(on_tensor_cores, path >= 75 && dtype == Dtype::F16);
            }
        }
        let tensor = [61, 70, 75, 87, 90].map(|gpu| is_on_tensor_cores(gpu, Dtype::F16.into()));
        assert_eq!(tensor, [false, false, true, true, true]);
    }

    #[test]
    fn formats_without_kernels_are_named() {
        let all = Formats::from(Dtype::F16);
        let error = check(80, Formats { weights: Format::Bf16, ..all }).unwrap_err().to_string();
        assert!(
            error.contains("weights in bf16") && error.contains("activations in f16"),
            "{error}"
        );
        let error = check(80, Formats { cache: Dtype::F32, ..all }).unwrap_err().to_string();
        assert!(error.contains("activations, f16: a cache in f32"), "{error}");
        assert!(
            Kernels::of(80, Factors { weights: Format::F32, activations: Dtype::F16 }).is_none()
        );
    }
}
