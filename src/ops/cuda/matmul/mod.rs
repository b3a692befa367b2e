//! Matrix products on CUDA.

pub mod choose;
pub mod gemm;
pub mod gemv;

#[cfg(feature = "cuda")]
pub(super) mod cublas;
#[cfg(feature = "cuda")]
mod elements;
#[cfg(feature = "cuda")]
pub(super) mod integers;
#[cfg(feature = "cuda")]
mod ops;
mod split;

use crate::format::{Dtype, Format, Formats};
use crate::ops::DECODE_ROWS;
use crate::ops::cuda::abi::HIRED_ROUNDED_ROWS;
use crate::{Error, Result};
use std::borrow::Cow;

/// The formats of the two factors of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factors {
    /// Format of the weights.
    pub weights: Format,
    /// Format of the activations and of the result.
    pub activations: Dtype,
}

impl Factors {
    /// The suffix of the kernels' names.
    fn name(self) -> Cow<'static, str> {
        let Self { weights, activations } = self;
        match weights == activations.into() {
            true => activations.name().into(),
            false => format!("{}_{}", weights.name(), activations.name()).into(),
        }
    }

    /// Whether the same kernels multiply both pairs.
    fn are_alike(self, other: Self) -> bool {
        self.activations == other.activations && self.weights.is_alike(other.weights)
    }

    /// Whether rows of these lengths and strides (in numbers) of weights, activations and result can be accessed in
    /// units of 16 bytes, without a rest.
    fn fit(
        self,
        weights: impl IntoIterator<Item = usize>,
        activations: impl IntoIterator<Item = usize>,
    ) -> bool {
        weights.into_iter().all(|n| n.is_multiple_of(self.weights.lanes()))
            && activations.into_iter().all(|n| n.is_multiple_of(self.activations.lanes()))
    }
}

impl From<Formats> for Factors {
    fn from(Formats { weights, activations, .. }: Formats) -> Self {
        Self { weights, activations }
    }
}

impl From<Dtype> for Factors {
    fn from(dtype: Dtype) -> Self {
        Formats::from(dtype).into()
    }
}

/// Whether activations are quantized to int8 for products with weights of this format.
pub fn quantizes(weights: Format) -> bool {
    weights == Format::Q8
}

/// Whether cuBLAS makes large products with weights of this format, if it is used (`library`).
pub fn is_by_library(weights: Format, library: bool) -> bool {
    library && !weights.is_integer()
}

/// Whether one launch can make products with weights of these formats.
fn are_alike(weights: &[Format]) -> bool {
    weights.windows(2).all(|two| two[0] == two[1])
}

/// Whether products of `rows` rows fuse the RMSNorm before them: GEMV does, and so does the quantization of
/// activations.
pub fn fuses_norm(rows: usize, weights: &[Format]) -> bool {
    are_alike(weights) && (rows <= DECODE_ROWS || weights.iter().copied().all(quantizes))
}

/// Whether gate and up, of these formats, are multiplied inside the kernel that computes them.
pub fn fuses_gate(rows: usize, weights: &[Format], library: bool) -> bool {
    let by_library = rows > DECODE_ROWS && weights.iter().any(|&w| is_by_library(w, library));
    are_alike(weights) && !by_library
}

/// Whether the attention kernel of a decode step also quantizes its `rows` rows to int8; `of_integers`: int8 weights made
/// the queries. Each row has a block of its own that does it.
pub fn attention_leaves_codes(rows: usize, cols: usize, of_integers: bool) -> bool {
    of_integers && rows <= DECODE_ROWS && are_whole(cols)
}

/// Whether the product of gate and up, with weights of these formats, also quantizes its rows to int8. One block does it
/// for all rows; docs/kernels.md has the cost.
pub fn gate_leaves_codes(rows: usize, cols: usize, weights: &[Format]) -> bool {
    let few = rows <= HIRED_ROUNDED_ROWS as usize;
    few && weights.iter().copied().all(quantizes) && are_whole(cols)
}

/// Whether rows of `cols` codes need no padding.
fn are_whole(cols: usize) -> bool {
    Format::Q8.stride(cols) == cols
}

/// The backend for large matrix products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gemm {
    /// cuBLAS for f16 on GPUs with tensor cores that `mma` supports (code path 75 and newer), where it is installed and
    /// passes a trial; else the kernels of this crate.
    #[default]
    Auto,
    /// The kernels of this crate.
    Own,
    /// cuBLAS.
    Cublas,
}

impl Gemm {
    /// Whether cuBLAS multiplies in these formats; `None` if that depends on the GPU and on the installation.
    ///
    /// # Errors
    /// [`Error::Request`] when cuBLAS is demanded for formats that it is not used for.
    #[doc(hidden)]
    pub fn library(self, formats: Formats) -> Result<Option<bool>> {
        let serves = (formats.weights, formats.activations) == (Format::F16, Dtype::F16);
        match self {
            Self::Own => Ok(Some(false)),
            Self::Auto => Ok(if serves { None } else { Some(false) }),
            Self::Cublas if serves => Ok(Some(true)),
            Self::Cublas => Err(Error::Request(
                "cuBLAS makes products in f16 only, f32 is the parity mode: use --gemm own or --dtype f16".into(),
            )),
        }
    }
}
