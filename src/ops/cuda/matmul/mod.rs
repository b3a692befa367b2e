//! Matrix products.

pub mod gemm;
pub mod gemv;

#[cfg(feature = "cuda")]
pub(super) mod cublas;
#[cfg(feature = "cuda")]
pub(super) mod ops;
