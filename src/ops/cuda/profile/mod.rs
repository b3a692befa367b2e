//! Time by stage, profiles of single kernels and copies, and the device's ceilings.

#[cfg(feature = "cuda")]
mod attended;
#[cfg(feature = "cuda")]
pub(super) mod ceiling;
#[cfg(feature = "cuda")]
pub(super) mod nvtx;
#[cfg(feature = "cuda")]
mod ops;
#[cfg(feature = "cuda")]
pub(super) mod timing;
#[cfg(feature = "cuda")]
pub(super) mod watch;
