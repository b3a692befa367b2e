//! The choice of the next token.

pub mod choose;
