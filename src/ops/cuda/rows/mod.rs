//! Operations on rows: pixels, norms, rotation and copies.

pub mod choose;
#[cfg(feature = "cuda")]
mod ops;
