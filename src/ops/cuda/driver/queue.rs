//! A queue of work on one device: launches, copies and allocations, in order.

use crate::ops::clock::Stage;
use crate::ops::cost::Cost;
use crate::ops::cuda::driver::block::Block;
use crate::ops::cuda::driver::error::refused;
use crate::ops::cuda::driver::event::Event;
use crate::ops::cuda::driver::modules::{Code, Modules};
use crate::ops::cuda::driver::profile::{Piece, Profile};
use crate::ops::cuda::driver::ring::Ring;
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::params::KernelParams;
use crate::ops::memory::{Meter, Purpose};
use crate::ops::profile::{CLEAR, DOWNLOAD, Entry, UPLOAD};
use crate::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUdevice_attribute, CUfunction, CUfunction_attribute, CUstream};
use cudarc::driver::{CudaContext, CudaStream};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Dynamic shared memory that a kernel may use without an attribute set for it.
const PLAIN_SHARED: u32 = 48 << 10;

/// A stream on a device, and the kernels that run on it.
#[derive(Debug)]
pub struct Queue {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    modules: Modules,
    ring: Mutex<Ring>,
    known: Mutex<Known>,
    /// Whether a profile is recorded: read at each launch, without taking the lock.
    is_profiled: AtomicBool,
}

/// Kernels that have been launched, and the current profile.
#[derive(Debug)]
struct Known {
    /// By file, then by name, so that a lookup does not copy the name.
    functions: HashMap<&'static str, HashMap<String, Function>>,
    /// The profile that is being recorded, if any.
    profile: Option<Profile>,
    /// The stage and layer that work is attributed to.
    place: (Stage, Option<usize>),
}

impl Default for Known {
    fn default() -> Self {
        Self { functions: HashMap::new(), profile: None, place: (Stage::Idle, None) }
    }
}

/// A kernel's handle, and the dynamic shared memory that was allowed for it.
#[derive(Debug, Clone, Copy)]
struct Function {
    handle: CUfunction,
    shared: u32,
}

// SAFETY: a function's handle belongs to its module, not to a thread.
unsafe impl Send for Function {}

impl Queue {
    /// A queue on a context.
    ///
    /// # Errors
    /// When the driver refuses a stream or the kernels.
    pub fn new(context: Arc<CudaContext>, code: Code) -> Result<Self> {
        let stream = context.new_stream().map_err(|e| refused("a stream", e))?;
        let modules = Modules::load(&context, code)?;
        let ring = Mutex::new(Ring::new(context.clone())?);
        let (known, is_profiled) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { context, stream, modules, ring, known, is_profiled })
    }

    /// The code path of its kernels.
    pub fn path(&self) -> u32 {
        self.modules.code().path()
    }

    /// The stream's handle, with the context current on this thread.
    ///
    /// # Errors
    /// When the context is lost.
    pub fn stream(&self) -> Result<CUstream> {
        self.bind()?;
        Ok(self.stream.cu_stream())
    }

    /// The context.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// An attribute of the device.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn attribute(&self, which: CUdevice_attribute) -> Result<i32> {
        self.context.attribute(which).map_err(|e| refused("to describe the device", e))
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|e| refused("to bind the context", e))
    }

    fn function(&self, launch: &Launch) -> Result<CUfunction> {
        let mut known = self.known();
        let functions = known.functions.entry(launch.file).or_default();
        let mut function = match functions.get(&launch.kernel) {
            Some(function) if launch.shared <= function.shared => return Ok(function.handle),
            Some(function) => *function,
            None => Function {
                handle: self.modules.function(launch.file, &launch.kernel)?,
                shared: PLAIN_SHARED,
            },
        };
        if launch.shared > function.shared {
            // SAFETY: the handle is the module's, which lives as long as `self`.
            unsafe {
                result::function::set_function_attribute(
                    function.handle,
                    CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    launch.shared as i32,
                )
            }
            .map_err(|e| refused(&format!("{} bytes of shared memory", launch.shared), e))?;
            function.shared = launch.shared;
        }
        functions.insert(launch.kernel.clone(), function);
        Ok(function.handle)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enqueues a kernel, unless the grid is empty.
    ///
    /// # Safety
    /// The kernel's preconditions must hold, and the memory behind the parameters' pointers must stay allocated until
    /// it has run.
    ///
    /// # Errors
    /// When there is no such kernel or the driver refuses the launch.
    pub unsafe fn launch<P: KernelParams>(&self, launch: &Launch, params: &P) -> Result<()> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        debug_assert_eq!(params.check(launch), None, "{launch:?}");
        self.bind()?;
        let function = self.function(launch)?;
        let mut list = [(&raw const *params).cast_mut().cast::<c_void>()];
        let [x, y, z] = launch.grid;
        self.recorded(
            || launch.kernel.clone().into(),
            launch.cost,
            || {
                // SAFETY: the driver copies the parameters during the call; the rest is upheld by this function's own
                // contract.
                unsafe {
                    result::launch_kernel(
                        function,
                        (x, y, z),
                        (launch.block, 1, 1),
                        launch.shared,
                        self.stream.cu_stream(),
                        &mut list,
                    )
                }
                .map_err(|e| refused(&format!("to launch {}", launch.kernel), e))
            },
        )
    }

    /// Enqueues a copy to the device. The values may be dropped when this returns.
    ///
    /// # Safety
    /// `to` must have space for the values on the device.
    ///
    /// # Errors
    /// When the driver refuses.
    pub unsafe fn upload<T: bytemuck::NoUninit>(&self, to: u64, values: &[T]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.bind()?;
        self.recorded(
            || UPLOAD.into(),
            Cost::bytes(size_of_val(values)),
            || {
                let bytes = bytemuck::cast_slice(values);
                // SAFETY: upheld by this function's own contract; all copies from the ring are of this stream.
                unsafe { self.ring().copy(to, bytes, self.stream.cu_stream()) }
            },
        )
    }

    /// Copies from the device, after everything that was enqueued before.
    ///
    /// # Safety
    /// `from` must be the address of `count` values on the device.
    ///
    /// # Errors
    /// When the driver refuses, or work that was enqueued before has failed.
    pub unsafe fn download<T: bytemuck::Pod>(&self, from: u64, count: usize) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); count];
        if count > 0 {
            self.bind()?;
            let bytes = Cost::bytes(count * size_of::<T>());
            let outcome = self.recorded(
                || DOWNLOAD.into(),
                bytes,
                || {
                    // SAFETY: upheld by this function's own contract; the values live until the stream has been
                    // synchronized.
                    unsafe { result::memcpy_dtoh_async(&mut values, from, self.stream.cu_stream()) }
                        .map_err(|e| refused("a copy from the device", e))
                },
            );
            let waited = self.wait();
            outcome?;
            waited?;
        }
        Ok(values)
    }

    /// Enqueues a copy inside the device.
    ///
    /// # Safety
    /// Both must be addresses of `bytes` bytes on the device.
    ///
    /// # Errors
    /// When the driver refuses.
    pub unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: upheld by this function's own contract.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(|e| refused("a copy on the device", e))
    }

    /// Enqueues setting bytes to zero.
    ///
    /// # Safety
    /// `at` must be the address of `bytes` bytes on the device.
    ///
    /// # Errors
    /// When the driver refuses.
    pub unsafe fn clear(&self, at: u64, bytes: usize) -> Result<()> {
        self.bind()?;
        self.recorded(
            || CLEAR.into(),
            Cost::bytes(bytes),
            || {
                // SAFETY: upheld by this function's own contract.
                unsafe { result::memset_d8_async(at, 0, bytes, self.stream.cu_stream()) }
                    .map_err(|e| refused("to clear memory", e))
            },
        )
    }

    /// Records an event after everything enqueued so far.
    ///
    /// # Errors
    /// When the driver refuses an event.
    pub fn mark(&self) -> Result<Event> {
        Event::record(&self.context, self.stream()?)
    }

    /// Starts to record a profile of all work.
    ///
    /// # Errors
    /// When the driver refuses an event.
    pub fn profile(&self) -> Result<()> {
        self.known().profile = Some(Profile::new(self.mark()?));
        self.is_profiled.store(true, Relaxed);
        Ok(())
    }

    /// Whether a profile is recorded.
    pub fn is_profiled(&self) -> bool {
        self.is_profiled.load(Relaxed)
    }

    /// Ends the profile and returns its entries, in order.
    ///
    /// # Errors
    /// When some of the work has failed.
    pub fn profiled(&self) -> Result<Vec<Entry>> {
        self.is_profiled.store(false, Relaxed);
        let Some(profile) = self.known().profile.take() else { return Ok(Vec::new()) };
        self.wait()?;
        profile.entries()
    }

    /// Enqueues a kernel or copy, and records it while a profile is recorded.
    ///
    /// # Errors
    /// Those of `enqueue`, or when the driver refuses an event.
    pub fn recorded(
        &self,
        name: impl FnOnce() -> Cow<'static, str>,
        cost: Cost,
        enqueue: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if !self.is_profiled() {
            return enqueue();
        }
        let begin = self.mark()?;
        enqueue()?;
        let end = self.mark()?;
        let mut known = self.known();
        let (stage, layer) = known.place;
        if let Some(profile) = &mut known.profile {
            profile.push(Piece { name: name(), stage, layer, cost, begin, end });
        }
        Ok(())
    }

    /// Attributes the work that follows to a stage and layer.
    pub fn place(&self, stage: Stage, layer: Option<usize>) {
        self.known().place = (stage, layer);
    }

    /// Synchronizes: waits until everything enqueued has run.
    ///
    /// # Errors
    /// When some of it has failed.
    pub fn wait(&self) -> Result<()> {
        self.bind()?;
        // The lock is held throughout, so that a copy enqueued meanwhile does not count as complete.
        let mut ring = self.ring();
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream.cu_stream()) }.map_err(faulted)?;
        ring.fetched();
        Ok(())
    }

    /// Allocates a block of device memory, charged for `purpose`.
    ///
    /// # Errors
    /// When the driver has too little free memory.
    pub fn block(&self, meter: &Arc<Meter>, purpose: Purpose, bytes: usize) -> Result<Block> {
        self.bind()?;
        Block::new(self.context.clone(), meter, purpose, bytes)
    }

    /// Bytes of device memory that are free.
    pub fn available(&self) -> Option<usize> {
        self.bind().ok()?;
        result::mem_get_info().ok().map(|(free, _)| free)
    }
}

/// The error for work that failed on the device.
fn faulted(error: DriverError) -> Error {
    match refused("to finish the work", error) {
        Error::Device(message) => {
            Error::Device(format!("{message}; the device needs a new engine"))
        }
        other => other,
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Nothing may run when memory and modules are freed. An error here was reported before.
        let _ = self.wait();
    }
}
