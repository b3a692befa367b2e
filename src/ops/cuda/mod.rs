//! CUDA: the kernels that this build embeds, the devices that can run them, and the executor on one.
//!
//! The driver is opened when it is first asked for. A machine without one gets an error that says so.
//! What needs no driver (which kernel serves which shape, how much memory it takes) is there in every build.

#[allow(dead_code, missing_docs)]
#[rustfmt::skip]
mod abi;
pub mod attention;
mod card;
pub mod gemm;
pub mod gemv;
pub mod launch;
pub mod sample;
pub mod scratch;
pub mod select;

#[cfg(feature = "cuda")]
mod attend;
#[cfg(feature = "cuda")]
mod blas;
#[cfg(feature = "cuda")]
mod buffer;
#[cfg(feature = "cuda")]
mod ceiling;
#[cfg(feature = "cuda")]
mod choice;
#[cfg(feature = "cuda")]
pub mod device;
#[cfg(feature = "cuda")]
mod event;
#[cfg(feature = "cuda")]
mod executor;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
pub mod modules;
#[cfg(feature = "cuda")]
mod nvtx;
#[cfg(feature = "cuda")]
mod ops;
#[cfg(feature = "cuda")]
mod products;
#[cfg(feature = "cuda")]
mod profile;
#[cfg(feature = "cuda")]
mod queue;
#[cfg(feature = "cuda")]
mod retain;
#[cfg(feature = "cuda")]
mod ring;
#[cfg(feature = "cuda")]
mod rows;
#[cfg(feature = "cuda")]
mod staging;
#[cfg(feature = "cuda")]
mod steps;
#[cfg(feature = "cuda")]
mod timing;
#[cfg(feature = "cuda")]
mod watch;

pub use card::CardInfo;
#[cfg(feature = "cuda")]
pub use device::{Device, Driver};
#[cfg(feature = "cuda")]
pub use executor::{Cuda, Options};
#[cfg(feature = "cuda")]
pub use modules::{Code, Embedded, Modules};
#[cfg(feature = "cuda")]
pub use timing::Timing;
