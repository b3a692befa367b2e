//! Operations on rows: norms and copies.

#[cfg(feature = "cuda")]
pub(super) mod ops;
