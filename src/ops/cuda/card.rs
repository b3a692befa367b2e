//! The description of a GPU, also in builds without CUDA.

use serde::Serialize;

/// A GPU that an executor runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CardInfo {
    /// The driver's name of it.
    pub name: String,
    /// The driver's ordinal of it.
    pub ordinal: usize,
    /// Compute capability: 61 means 6.1.
    pub compute_capability: u32,
    /// Bytes of memory.
    pub memory: usize,
    /// The code that it runs: `sm_61` or `compute_61`.
    pub code: String,
    /// The newest CUDA version that its driver supports: `12.4`.
    pub driver: String,
    /// Maximum clock of the multiprocessors.
    pub clock_mhz: u32,
    /// Maximum clock of the memory.
    pub memory_clock_mhz: u32,
    /// The backend for large matrix products: `own` or `cublas`.
    pub gemm: &'static str,
    /// A note for the user: why cuBLAS is installed but not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
