//! The driver and its devices. Missing libraries and functions become errors, not panics.

use crate::ops::cuda::driver::error::refused;
use crate::ops::cuda::driver::modules::{Code, Embedded, forced};
use crate::{Error, Result};
use cudarc::driver::CudaContext;
use cudarc::driver::result;
use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};
use std::ffi::c_int;
use std::sync::Arc;

/// The oldest CUDA version whose driver has all functions used here, and that driver's number.
const MINIMUM: (Version, &str) = (Version(12000), "525");

/// Functions of the driver that the executor calls. A library that lacks one is refused by name, because the bindings
/// would panic at the first call.
const FUNCTIONS: [&str; 54] = [
    "cuCtxGetCurrent",
    "cuCtxGetStreamPriorityRange",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetUuid_v2",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphUpload",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoH_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyHtoD_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamIsCapturing",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// A CUDA version in the driver's encoding: 12040 is 12.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

/// A driver that is installed, new enough and initialised.
#[derive(Debug, Clone, Copy)]
pub struct Driver {
    /// The newest CUDA version that it supports.
    pub version: Version,
}

/// A device as the driver describes it.
#[derive(Debug)]
pub struct Device {
    /// The driver's ordinal of it.
    pub ordinal: usize,
    /// The driver's name of it.
    pub name: String,
    /// Compute capability: 61 means 6.1.
    pub capability: u32,
    /// Bytes of memory.
    pub memory: usize,
    /// The code that it would run, or why it cannot run any.
    pub code: Result<Code>,
}

impl Driver {
    /// Whether a driver library is installed, even one that cannot be used.
    pub fn is_installed() -> bool {
        // SAFETY: opens and closes the library by its well-known names.
        unsafe { sys::is_culib_present() }
    }

    /// Opens and initialises the driver.
    ///
    /// # Errors
    /// When there is none, when it is too old or damaged, and when it does not start.
    pub fn open() -> Result<Self> {
        if !Self::is_installed() {
            return Err(Error::Device(format!(
                "there is no CUDA driver here (libcuda.so): install NVIDIA's driver {} or newer, or \
                 use the CPU (--device cpu)",
                MINIMUM.1
            )));
        }
        let version = version()?;
        check(version, |function| {
            // SAFETY: the symbol is looked up, and never called by this type.
            unsafe { sys::culib().get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_ok()
        })?;
        result::init().map_err(|e| refused("to start", e))?;
        Ok(Self { version })
    }

    /// All devices, including those that this build has no code for.
    ///
    /// # Errors
    /// When the driver refuses a query, or `HIRED_FORCE_ARCH` is not a code path.
    pub fn devices(&self) -> Result<Vec<Device>> {
        let failed = |e| refused("to describe its devices", e);
        let embedded = Embedded::here();
        let path = forced(std::env::var("HIRED_FORCE_ARCH").ok().as_deref())?;
        let count = result::device::get_count().map_err(failed)?;
        (0..count)
            .map(|ordinal| {
                let device = result::device::get(ordinal).map_err(failed)?;
                let attribute = |which| {
                    // SAFETY: `device` comes from the driver.
                    unsafe { result::device::get_attribute(device, which) }.map_err(failed)
                };
                let major =
                    attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
                let minor =
                    attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
                let capability = u32::try_from(major * 10 + minor).unwrap_or(0);
                Ok(Device {
                    ordinal: ordinal as usize,
                    name: result::device::get_name(device).map_err(failed)?,
                    capability,
                    // SAFETY: `device` comes from the driver.
                    memory: unsafe { result::device::total_mem(device) }.map_err(failed)?,
                    code: embedded.choose(capability, path),
                })
            })
            .collect()
    }

    /// The device with this ordinal, or the first that can run the kernels.
    ///
    /// # Errors
    /// When there is no such device, or it cannot run the kernels.
    pub fn device(&self, ordinal: Option<usize>) -> Result<Device> {
        let mut devices = self.devices()?;
        let count = devices.len();
        if count == 0 {
            return Err(Error::Device(
                "the CUDA driver sees no device: check nvidia-smi and CUDA_VISIBLE_DEVICES, or use \
                 the CPU (--device cpu)"
                    .into(),
            ));
        }
        let chosen = ordinal.unwrap_or_else(|| {
            devices.iter().position(|device| device.code.is_ok()).unwrap_or_default()
        });
        if chosen >= count {
            return Err(Error::Device(format!(
                "there is no CUDA device {chosen}, only {count}: they count from 0 (hired devices \
                 lists them)"
            )));
        }
        Ok(devices.swap_remove(chosen))
    }
}

impl Device {
    /// Creates a context on the device.
    ///
    /// # Errors
    /// When the device cannot run the kernels, or the driver refuses the context.
    pub fn context(self) -> Result<(Arc<CudaContext>, Code)> {
        let code = self.code?;
        let context = CudaContext::new(self.ordinal)
            .map_err(|e| refused(&format!("a context on device {}", self.ordinal), e))?;
        Ok((context, code))
    }
}

fn version() -> Result<Version> {
    let mut version = 0;
    // SAFETY: the documented type of the function, which every driver has and which needs no initialisation.
    let error = unsafe {
        let get = sys::culib()
            .get::<unsafe extern "C" fn(*mut c_int) -> CUresult>(b"cuDriverGetVersion")
            .map_err(|_| lacks("cuDriverGetVersion"))?;
        get(&mut version)
    };
    match error {
        CUresult::CUDA_SUCCESS => Ok(Version(version)),
        _ => Err(Error::Device(format!(
            "libcuda.so does not tell its version (error {}): reinstall NVIDIA's driver",
            error as i32
        ))),
    }
}

/// Fails for a driver that is too old or lacks a function.
fn check(version: Version, has: impl Fn(&str) -> bool) -> Result<()> {
    let (minimum, driver) = MINIMUM;
    if version < minimum {
        return Err(Error::Device(format!(
            "the CUDA driver serves CUDA {version}, {minimum} is the oldest that works: install \
             NVIDIA's driver {driver} or newer, or use the CPU (--device cpu)"
        )));
    }
    FUNCTIONS.into_iter().find(|function| !has(function)).map_or(Ok(()), |f| Err(lacks(f)))
}

fn lacks(function: &str) -> Error {
    Error::Device(format!(
        "libcuda.so lacks {function}: it is damaged or not NVIDIA's; install the driver anew, or \
         use the CPU (--device cpu)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_driver_is_refused_with_both_versions() {
        let error = check(Version(11080), |_| true).unwrap_err().to_string();
        for part in ["CUDA 11.8", "12.0", "525"] {
            assert!(error.contains(part), "{error}");
        }
        check(Version(12000), |_| true).unwrap();
        check(Version(13010), |_| true).unwrap();
    }

    #[test]
    fn a_driver_that_lacks_a_function_is_refused_by_its_name() {
        for function in FUNCTIONS {
            let error = check(Version(12000), |f| f != function).unwrap_err().to_string();
            assert!(error.contains(function), "{error}");
        }
    }

    #[test]
    fn this_machine_answers_without_a_panic() {
        match Driver::open().and_then(|driver| driver.devices()) {
            Ok(devices) => println!("{devices:?}"),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
}
