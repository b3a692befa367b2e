//! `hired` answers questions about high-resolution images with LLaVA models and keeps only the
//! visual tokens worth their cost.

#![warn(missing_docs)]

pub mod checkpoint;
pub mod config;
pub mod engine;
mod error;
mod files;
pub mod image;
pub mod kv;
mod matrix;
pub mod model;
pub mod ops;
pub mod select;
pub mod text;

pub use error::{Error, Result};
