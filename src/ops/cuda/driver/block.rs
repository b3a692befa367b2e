//! Blocks of device memory.

use super::error::refused;
use crate::Result;
use crate::ops::memory::{Charge, Meter, Purpose, Size};
use cudarc::driver::CudaContext;
use cudarc::driver::result;
use std::sync::Arc;

/// A block of device memory.
#[derive(Debug)]
pub struct Block {
    context: Arc<CudaContext>,
    address: u64,
    bytes: usize,
    _charge: Charge,
}

impl Block {
    /// Allocates `bytes`, charged for `purpose`; the context must be current.
    ///
    /// # Errors
    /// When the driver has too little free memory.
    pub fn new(
        context: Arc<CudaContext>,
        meter: &Arc<Meter>,
        purpose: Purpose,
        bytes: usize,
    ) -> Result<Self> {
        let what = match purpose {
            Purpose::Weights => "weights",
            Purpose::Kv => "keys and values",
            Purpose::Workspace => "the workspace",
        };
        // SAFETY: a plain allocation of at least a byte; nothing reads it before it is written.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }
            .map_err(|e| refused(&format!("{} for {what}", Size(bytes as u64)), e))?;
        Ok(Self { context, address, bytes, _charge: meter.charge(purpose, bytes) })
    }

    /// Address of its first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // A context that cannot be bound is lost, and its memory with it.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated by `new`; `free` waits until the device is done with it.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}
