//! cuBLAS, where it is installed: another maker of large products. Opened when asked for, never needed.

use super::buffer::{Buffer, Weight};
use super::queue::Queue;
use crate::{Error, Result};
use cudarc::cublas::result::{self, CublasError};
use cudarc::cublas::sys::{
    self, cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasOperation_t, cudaDataType,
};
use std::ffi::c_int;

/// Functions of the library that are used. One that lacks some is refused: the bindings would panic.
const FUNCTIONS: [&str; 4] =
    ["cublasCreate_v2", "cublasDestroy_v2", "cublasSetStream_v2", "cublasGemmEx"];

/// The library on one queue.
#[derive(Debug)]
pub struct Blas {
    handle: cublasHandle_t,
}

// SAFETY: the handle may be used from any thread, by one at a time.
unsafe impl Send for Blas {}

fn refused(what: &str, error: CublasError) -> Error {
    Error::Device(format!("cuBLAS refused {what}: {error} (use --gemm own)"))
}

impl Blas {
    /// Opens the library for a queue.
    ///
    /// # Errors
    /// When it is not installed, is of another kind, or does not start.
    pub fn open(queue: &Queue) -> Result<Self> {
        // SAFETY: opens and closes the library by its well-known names.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::Device(
                "there is no cuBLAS here (libcublas.so): install it, or use --gemm own".into(),
            ));
        }
        let lacks = |name: &&str| {
            // SAFETY: only asked whether it exists; never called by this type.
            unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_err()
        };
        if let Some(name) = FUNCTIONS.iter().find(|name| lacks(name)) {
            return Err(Error::Device(format!(
                "libcublas.so lacks {name}: install another version, or use --gemm own"
            )));
        }
        let stream = queue.stream()?;
        let handle = result::create_handle().map_err(|e| refused("to start", e))?;
        let blas = Self { handle };
        // SAFETY: both handles are alive.
        unsafe { result::set_stream(handle, stream.cast()) }
            .map_err(|e| refused("the stream", e))?;
        Ok(blas)
    }

    /// out = x·Wᵀ, or out += x·Wᵀ, in fp16 with sums in fp32.
    ///
    /// A sum beyond 65504 becomes infinite: the library stores it, and only a pass through fp32 scratch, a tenth of a
    /// product's time, could prevent that. Residuals stay far below (some thousands in LLaMA-2 7B and 13B). Gate times up,
    /// which does get there, is a kernel of this crate, and saturates.
    ///
    /// # Safety
    /// x `[rows, cols]`, W `[n, cols]` and out `[rows, n]` must be fp16 and alive until it has run.
    ///
    /// # Errors
    /// When the library refuses.
    pub unsafe fn product(
        &self,
        x: &Buffer,
        weight: &Weight,
        inner: usize,
        out: &Buffer,
        add: bool,
    ) -> Result<()> {
        let (alpha, beta) = (1.0f32, if add { 1.0f32 } else { 0.0 });
        // Columns are its rows: outᵀ = W·xᵀ, where W is stored transposed.
        // SAFETY: the caller's word.
        unsafe {
            sys::cublasGemmEx(
                self.handle,
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                weight.rows as c_int,
                x.rows as c_int,
                inner as c_int,
                (&raw const alpha).cast(),
                weight.address as *const _,
                cudaDataType::CUDA_R_16F,
                weight.stride as c_int,
                x.pointer(),
                cudaDataType::CUDA_R_16F,
                x.stride as c_int,
                (&raw const beta).cast(),
                out.pointer(),
                cudaDataType::CUDA_R_16F,
                out.stride as c_int,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .result()
        .map_err(|e| refused("a product", e))
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: made by `open`; an error here was one before.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}
