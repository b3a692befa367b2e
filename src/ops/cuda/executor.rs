//! The CUDA executor: its fields, and how it is opened.

use crate::Result;
use crate::format::Formats;
use crate::ops::cuda::card::CardInfo;
use crate::ops::cuda::decode_graph::{Layout, Recorded};
use crate::ops::cuda::driver::device::{Device, Driver};
use crate::ops::cuda::driver::queue::Queue;
use crate::ops::cuda::matmul::cublas::{Blas, Unusable};
use crate::ops::cuda::matmul::{Gemm, choose};
use crate::ops::cuda::memory::Memory;
use crate::ops::cuda::profile::watch::Watch;
use crate::ops::footprint::Footprint;
use cudarc::driver::sys::CUdevice_attribute;
use std::collections::HashMap;

/// How the executor is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Ordinal of the device; `None` takes the first that works.
    pub ordinal: Option<usize>,
    /// Formats of weights, activations and KV cache.
    pub formats: Formats,
    /// Whether decode steps are recorded once as a CUDA graph and replayed.
    pub graphs: bool,
    /// The backend for large matrix products.
    pub gemm: Gemm,
}

/// The first code path on which cuBLAS is used by default. Newer cuBLAS versions have no code for older GPUs, and the
/// fp32 speed of older versions on them has not been measured.
const AUTOMATIC: u32 = 75;

/// The CUDA executor.
#[derive(Debug)]
pub struct Cuda {
    /// Recorded decode steps by layout; `None` for the first one with its number of rows, which runs directly.
    pub(super) graphs: HashMap<Layout, Option<Recorded>>,
    pub(super) watch: Watch,
    /// The attention of the decoder, while it is recorded.
    pub(super) attended: Option<Vec<Vec<f32>>>,
    pub(super) blas: Option<Blas>,
    pub(super) memory: Memory,
    pub(super) queue: Queue,
    pub(super) options: Options,
    /// Number of the device's multiprocessors.
    pub(super) processors: usize,
    description: CardInfo,
    /// Products are made without split-K: from a selection that may keep fewer rows than planned, until the first
    /// token. Fewer rows could mean more parts, for whose sums the plan has no memory.
    pub(super) whole: bool,
}

impl Cuda {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::Device`] when there is no driver, no such device or no code for it.
    pub fn open(options: Options) -> Result<Self> {
        let driver = Driver::open()?;
        let device = driver.device(options.ordinal)?;
        let Device { ordinal, capability, memory, .. } = device;
        let name = device.name.clone();
        let (context, code) = device.context()?;
        let queue = Queue::new(context, code)?;
        let count = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = queue.attribute(count)? as usize;
        let megahertz = |which| queue.attribute(which).map(|kilohertz| kilohertz as u32 / 1000);
        let clock_mhz = megahertz(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
        let memory_clock_mhz =
            megahertz(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?;
        choose::check(queue.path(), options.formats)?;
        let (blas, note) = open_blas(&queue, options)?;
        let gemm = if blas.is_some() { "cublas" } else { "own" };
        Ok(Self {
            graphs: HashMap::new(),
            watch: Watch::new(),
            attended: None,
            blas,
            description: CardInfo {
                name,
                ordinal,
                compute_capability: capability,
                memory,
                code: code.to_string(),
                driver: driver.version.to_string(),
                clock_mhz,
                memory_clock_mhz,
                gemm,
                note,
            },
            memory: Memory::new(),
            queue,
            options,
            processors,
            whole: false,
        })
    }

    /// The device that it runs on.
    pub fn description(&self) -> &CardInfo {
        &self.description
    }

    /// Its memory model.
    pub fn footprint(&self) -> Footprint {
        Footprint::Cuda { formats: self.options.formats, library: self.blas.is_some() }
    }
}

/// Opens cuBLAS if it is to make large products; otherwise returns the reason why not, where the user should know it.
fn open_blas(queue: &Queue, options: Options) -> Result<(Option<Blas>, Option<String>)> {
    let demanded = options.gemm.library(options.formats)?;
    if !demanded.unwrap_or(queue.path() >= AUTOMATIC) {
        return Ok((None, None));
    }
    match Blas::open(queue) {
        Ok(blas) => Ok((Some(blas), None)),
        Err(unusable) if demanded == Some(true) => Err(unusable.error()),
        Err(Unusable::Absent) => Ok((None, None)),
        Err(Unusable::Failed(error)) => {
            // If the trial has broken the device, this crate's kernels cannot run either.
            queue.wait()?;
            Ok((None, Some(format!("hired's own kernels make all products: {error}"))))
        }
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // The fields' destructors need the context, and nothing may run any more.
        let _ = self.queue.wait();
    }
}
