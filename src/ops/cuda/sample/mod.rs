//! Sampling on CUDA.

pub mod choose;
#[cfg(feature = "cuda")]
mod ops;
