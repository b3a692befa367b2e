//! What the work took, by stage and piece by piece, and what the device can do.

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
