//! The highest throughput of a GPU: measured bandwidth, and arithmetic as cores times clock.

use crate::Result;
use crate::ops::MemoryOps;
use crate::ops::ceiling::Ceiling;
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::matmul::choose::is_on_tensor_cores;

/// Bytes of the copy that measures the bandwidth, if that much memory is free: more than any cache holds.
const COPIED: usize = 512 << 20;
const COPIES: usize = 7;

/// The ceilings of the GPU for the executor's formats and code path.
pub(super) fn measure(cuda: &mut Cuda) -> Result<Ceiling> {
    let free = cuda.available().unwrap_or(COPIED);
    let bytes = COPIED.min(free / 8).max(1 << 10);
    let took = cuda.time_copy(COPIES, bytes)?.median();
    let gpu = cuda.description();
    let tensor = is_on_tensor_cores(cuda.queue.path(), cuda.options.formats);
    let clock = f64::from(gpu.clock_mhz) * 1e6;
    let each = flops_per_clock(gpu.compute_capability, &gpu.name, tensor);
    Ok(Ceiling {
        bytes_per_second: 2.0 * bytes as f64 / took.as_secs_f64().max(1e-9),
        flops_per_second: each.map(|each| f64::from(each) * cuda.processors as f64 * clock),
        flops_measured: false,
    })
}

/// Operations of a multiprocessor per clock, a multiply-add counting as two: in fp32, or (`tensor`) of fp16 products on
/// its tensor cores with sums in fp32.
///
/// From the CUDA C++ Programming Guide's table of arithmetic throughput and the architectures' whitepapers. GeForce
/// GPUs of Turing, Ampere and Ada add in fp32 at half the rate of their professional siblings.
fn flops_per_clock(capability: u32, name: &str, tensor: bool) -> Option<u32> {
    let geforce = if name.contains("GeForce") { 2 } else { 1 };
    Some(match (capability, tensor) {
        (60 | 70 | 72 | 75 | 80, false) => 128,
        (61 | 62 | 86 | 87 | 89 | 90 | 100 | 103 | 120 | 121, false) => 256,
        (70 | 72, true) => 1024,
        (75 | 86 | 89, true) => 1024 / geforce,
        (80 | 87, true) => 2048,
        (90, true) => 4096,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Datasheets: (name, capability, multiprocessors, boost clock in MHz, TFLOP/s).
    #[test]
    fn cores_times_clock_is_the_datasheets_number() {
        for (name, capability, processors, clock, tensor, expected) in [
            ("Tesla P40", 61, 30.0, 1531.0, false, 11.76),
            ("Tesla T4", 75, 40.0, 1590.0, true, 65.1),
            ("Tesla T4", 75, 40.0, 1590.0, false, 8.1),
            ("NVIDIA A100-SXM4-40GB", 80, 108.0, 1410.0, true, 312.0),
            ("NVIDIA GeForce RTX 4090", 89, 128.0, 2520.0, true, 165.2),
            ("NVIDIA H200", 90, 132.0, 1830.0, true, 989.4),
            ("NVIDIA H200", 90, 132.0, 1980.0, false, 66.9),
        ] {
            let each = flops_per_clock(capability, name, tensor).unwrap();
            let teraflops = f64::from(each) * processors * clock / 1e6;
            assert!((teraflops / expected - 1.0).abs() < 0.01, "{name}: {teraflops}");
        }
        assert_eq!(flops_per_clock(61, "Tesla P40", true), None);
    }
}
