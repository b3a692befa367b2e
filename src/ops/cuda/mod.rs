//! CUDA: the kernels that this build embeds, and the devices that can run them.
//!
//! The driver is opened when it is first asked for. A machine without one gets an error that says so.

#[allow(dead_code, missing_docs)]
#[rustfmt::skip]
mod abi;
pub mod attention;
pub mod device;
pub mod gemv;
pub mod launch;
pub mod modules;
pub mod sample;
pub mod select;

pub use device::{Device, Driver};
pub use modules::{Code, Embedded, Modules};
