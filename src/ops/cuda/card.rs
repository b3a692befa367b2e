//! The description of a device, which builds without CUDA have too.

use serde::Serialize;

/// A device that an executor runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CardInfo {
    /// The driver's name for it.
    pub name: String,
    /// The driver's number for it.
    pub ordinal: usize,
    /// 61 is 6.1.
    pub compute_capability: u32,
    /// Bytes of its memory.
    pub memory: usize,
    /// The code that it runs: `sm_61` or `compute_61`.
    pub code: String,
    /// The newest CUDA that its driver serves: `12.4`.
    pub driver: String,
    /// The most its multiprocessors run at.
    pub clock_mhz: u32,
    /// The most its memory runs at.
    pub memory_clock_mhz: u32,
    /// The backend for large matrix products: `own` or `cublas`.
    pub gemm: &'static str,
    /// What the user should know: why cuBLAS is installed but not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
