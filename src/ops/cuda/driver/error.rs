//! Converts the driver's errors.

use crate::Error;
use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;

/// The error for a driver that refused `what`.
pub fn refused(what: &str, error: DriverError) -> Error {
    let hint = match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            return Error::Capacity(format!(
                "the device has no memory left for {what}: close other programs on it, or use a \
                 smaller budget or fewer images at a time"
            ));
        }
        CUresult::CUDA_ERROR_NO_DEVICE => {
            "no CUDA device is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES"
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the kernel module and libcuda are of different versions: restart the machine"
        }
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU => {
            "update NVIDIA's driver"
        }
        _ => "use the CPU (--device cpu) if it persists",
    };
    Error::Device(format!("the CUDA driver refused {what}: {} ({hint})", name(error)))
}

/// The driver's name of an error, `CUDA_ERROR_…`, or its number.
fn name(error: DriverError) -> String {
    match error.error_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("error {}", error.0 as i32),
    }
}
