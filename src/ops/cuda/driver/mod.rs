//! The CUDA driver: devices, embedded kernels, and a queue of work with its memory. Nothing here depends on the model.

pub(super) mod block;
pub mod device;
pub(super) mod error;
pub(super) mod event;
pub(super) mod graph;
pub mod modules;
pub(super) mod profile;
pub(super) mod queue;
pub(super) mod ring;
pub(super) mod staging;
