//! CUDA: the kernels that this build embeds, the devices that can run them, and the executor on one.
//!
//! The driver is opened on first use. A machine without one gets an error that says so.
//! What needs no driver (which kernel serves which shape, how much memory it takes) is there in every build.

#[allow(dead_code, missing_docs)]
#[rustfmt::skip]
mod abi;
pub mod attention;
mod card;
pub mod launch;
pub mod matmul;
mod parts;
mod profile;
pub mod rows;
pub mod sample;
pub mod scratch;
pub mod select;

#[cfg(feature = "cuda")]
mod batch;
#[cfg(feature = "cuda")]
mod buffer;
#[cfg(feature = "cuda")]
mod decode_graph;
#[cfg(feature = "cuda")]
pub mod driver;
#[cfg(feature = "cuda")]
mod executor;
#[cfg(feature = "cuda")]
mod memory;
#[cfg(feature = "cuda")]
mod params;

pub use card::CardInfo;
#[cfg(feature = "cuda")]
pub use driver::device::{Device, Driver};
#[cfg(feature = "cuda")]
pub use driver::modules::{Code, Embedded, Modules};
#[cfg(feature = "cuda")]
pub use executor::{Cuda, Options};
pub use matmul::Gemm;
#[cfg(feature = "cuda")]
pub use profile::timing::Timing;
