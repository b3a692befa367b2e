//! Which kernels multiply: by code path and by the formats of the two factors, as rows of one table. Tile and variant
//! follow from the shape, see [`super::gemm`] and [`super::gemv`].
//!
//! A new format of weights gets a row for each format of activations that it is multiplied with, and a reader in
//! `kernels/weights.cuh`.

use super::Factors;
use super::gemm::{self, Family, Launches, Product};
use super::gemv::{self, Gemv};
use crate::format::{Dtype, Format, Formats};
use crate::ops::cuda::launch::Launch;
use crate::{Error, Result};

/// The kernels for two formats.
#[derive(Debug)]
pub struct Kernels {
    factors: Factors,
    /// The first code path of the row.
    from: u32,
    /// For more than a few rows.
    gemm: &'static Family,
    /// All products are made by tensor cores, but for those that accesses of 16 bytes do not reach.
    tensor_cores: bool,
}

const fn row(
    weights: Format,
    activations: Dtype,
    from: u32,
    gemm: &'static Family,
    tensor_cores: bool,
) -> Kernels {
    Kernels { factors: Factors { weights, activations }, from, gemm, tensor_cores }
}

/// Of rows with the same formats the first one counts whose code path is not newer than the GPU's.
const KERNELS: [Kernels; 4] = [
    row(Format::F16, Dtype::F16, 80, &gemm::MMA16, true),
    row(Format::F16, Dtype::F16, 75, &gemm::MMA8, true),
    // fp16 is storage here: numbers are widened and multiplied in fp32.
    row(Format::F16, Dtype::F16, 0, &gemm::FMA, false),
    row(Format::F32, Dtype::F32, 0, &gemm::FMA, false),
];

impl Kernels {
    /// The kernels for these factors on a code path or a compute capability; `None` where there are none.
    pub fn of(path: u32, factors: Factors) -> Option<&'static Self> {
        KERNELS.iter().find(|kernels| kernels.factors == factors && kernels.from <= path)
    }

    /// Whether they multiply on tensor cores.
    pub fn use_tensor_cores(&self) -> bool {
        self.tensor_cores
    }

    /// The launches of a product of more than a few rows, on a GPU with this many multiprocessors.
    ///
    /// The family depends on path and formats alone and each sum has one order in it, whatever the tile: a row's bits
    /// depend on the other rows only by their number, where that makes another [`gemm::Split`].
    pub fn gemm(&self, product: &Product, processors: usize) -> Launches {
        gemm::fastest(self.gemm, self.factors, product, processors)
    }

    /// Every way to make the product, for tests and measurements. All give the same bits.
    pub fn every_gemm(&self, product: &Product, processors: usize) -> Vec<Launches> {
        gemm::every(self.gemm, self.factors, product, processors)
    }

    /// The launch of a product of a few rows. Path, formats and what vectors reach decide how sums are added up: a row's
    /// bits do not depend on how many there are.
    ///
    /// # Panics
    /// For more rows than [`gemv::ROWS`], or none.
    pub fn gemv(&self, product: &Gemv) -> Launch {
        gemv::launch(self.tensor_cores, self.factors, product)
    }
}

/// Whether products in these formats are made on tensor cores on a code path or a compute capability.
pub fn is_on_tensor_cores(path: u32, formats: Formats) -> bool {
    Kernels::of(path, formats.into()).is_some_and(Kernels::use_tensor_cores)
}

/// Whether there are kernels for these formats on a code path.
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
            "the CUDA kernels keep keys and values in the format of activations, {}: {} was asked for the cache",
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
        assert!(error.contains("activations, f16: f32 was asked"), "{error}");
        assert!(
            Kernels::of(80, Factors { weights: Format::F32, activations: Dtype::F16 }).is_none()
        );
    }
}
