//! Operations on rows on CUDA: pixels, norms, rotation and copies.

pub mod choose;
#[cfg(feature = "cuda")]
mod ops;
