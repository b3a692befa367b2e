//! The choice of the next token.

pub mod choose;
#[cfg(feature = "cuda")]
mod ops;
