//! Attention: of the vision tower, of its class tokens, and of the decoder.

pub mod choose;

#[cfg(feature = "cuda")]
pub(super) mod ops;
