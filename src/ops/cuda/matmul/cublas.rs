//! cuBLAS, an optional backend for large matrix products. It is loaded at run time, where it is installed.

use crate::ops::cuda::buffer::{Buffer, Weight};
use crate::ops::cuda::driver::queue::Queue;
use crate::ops::cuda::matmul::ops::Factor;
use crate::ops::memory::Purpose;
use crate::{Error, Result};
use cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasMath_t, cublasOperation_t,
    cudaDataType,
};
use cudarc::driver::CudaContext;
use half::f16;
use libloading::Library;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::ffi::{c_int, c_void};
use std::sync::{Arc, OnceLock};

/// Return value of cuBLAS functions; 0 is success. A number and not an enum, since newer versions may return others.
type Status = c_int;

/// The cuBLAS functions that are used, with the types of its header.
#[derive(Debug, Clone, Copy)]
struct Functions {
    create: unsafe extern "C" fn(*mut cublasHandle_t) -> Status,
    destroy: unsafe extern "C" fn(cublasHandle_t) -> Status,
    set_stream: unsafe extern "C" fn(cublasHandle_t, *mut c_void) -> Status,
    set_math_mode: unsafe extern "C" fn(cublasHandle_t, cublasMath_t) -> Status,
    gemm: Gemm,
}

type Gemm = unsafe extern "C" fn(
    cublasHandle_t,
    cublasOperation_t,
    cublasOperation_t,
    c_int,
    c_int,
    c_int,
    *const c_void,
    *const c_void,
    cudaDataType,
    c_int,
    *const c_void,
    cudaDataType,
    c_int,
    *const c_void,
    *mut c_void,
    cudaDataType,
    c_int,
    cublasComputeType_t,
    cublasGemmAlgo_t,
) -> Status;

/// cuBLAS on one queue.
#[derive(Debug)]
pub struct Blas {
    context: Arc<CudaContext>,
    functions: Functions,
    handle: cublasHandle_t,
}

// SAFETY: the handle may be used from any thread, one at a time.
unsafe impl Send for Blas {}

/// Why cuBLAS cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// It is not installed.
    Absent,
    /// It is installed, but does not work.
    Failed(Error),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Unusable {
    /// The error for users who demand cuBLAS.
    pub fn error(self) -> Error {
        match self {
            Self::Absent => Error::Device(
                "there is no cuBLAS here (libcublas.so): install it, or use --gemm own".into(),
            ),
            Self::Failed(error) => error,
        }
    }
}

/// The library, loaded once and never unloaded, because it registers exit handlers of the process.
fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    // The bindings' list of names ends with CUDA 12.
    let newer = [format!("{DLL_PREFIX}cublas{DLL_SUFFIX}.13"), "cublas64_13.dll".to_owned()];
    let open = || {
        let names = cudarc::get_lib_name_candidates("cublas");
        // SAFETY: opens the library by its well-known names.
        names.iter().chain(&newer).find_map(|name| unsafe { Library::new(name) }.ok())
    };
    LIBRARY.get_or_init(open).as_ref()
}

impl Functions {
    fn of(library: &'static Library) -> Result<Self> {
        /// # Safety
        /// `F` must be the function's type in the library's header.
        unsafe fn named<F: Copy>(library: &'static Library, name: &str) -> Result<F> {
            // SAFETY: upheld by this function's own contract; the library stays open.
            let found = unsafe { library.get::<F>(name) };
            found.map(|function| *function).map_err(|_| {
                Error::Device(format!(
                    "libcublas.so lacks {name}: install another version, or use --gemm own"
                ))
            })
        }
        // SAFETY: the types are those of cublas_v2.h.
        unsafe {
            Ok(Self {
                create: named(library, "cublasCreate_v2")?,
                destroy: named(library, "cublasDestroy_v2")?,
                set_stream: named(library, "cublasSetStream_v2")?,
                set_math_mode: named(library, "cublasSetMathMode")?,
                gemm: named(library, "cublasGemmEx")?,
            })
        }
    }
}

fn check(what: &str, status: Status) -> Result<()> {
    let name = match status {
        0 => return Ok(()),
        1 => "CUBLAS_STATUS_NOT_INITIALIZED",
        3 => "CUBLAS_STATUS_ALLOC_FAILED",
        7 => "CUBLAS_STATUS_INVALID_VALUE",
        8 => "CUBLAS_STATUS_ARCH_MISMATCH",
        11 => "CUBLAS_STATUS_MAPPING_ERROR",
        13 => "CUBLAS_STATUS_EXECUTION_FAILED",
        14 => "CUBLAS_STATUS_INTERNAL_ERROR",
        15 => "CUBLAS_STATUS_NOT_SUPPORTED",
        16 => "CUBLAS_STATUS_LICENSE_ERROR",
        _ => "an unknown status",
    };
    Err(Error::Device(format!("cuBLAS refused {what}: {name}, {status} (use --gemm own)")))
}

/// Operands of out = x·Wᵀ in fp16: addresses on the device, sizes, and the distances between rows.
struct Operands {
    x: *const c_void,
    w: *const c_void,
    out: *mut c_void,
    rows: usize,
    cols: usize,
    inner: usize,
    x_stride: usize,
    w_stride: usize,
    out_stride: usize,
}

impl Blas {
    /// Opens cuBLAS for a queue, and tries it.
    ///
    /// # Errors
    /// When it is not installed, lacks a function, does not start, or computes a known product wrongly.
    pub fn open(queue: &Queue) -> Result<Self, Unusable> {
        let functions = Functions::of(library().ok_or(Unusable::Absent)?)?;
        let stream = queue.stream()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the pointer to the handle is valid.
        check("to start", unsafe { (functions.create)(&raw mut handle) })?;
        let blas = Self { context: queue.context().clone(), functions, handle };
        // By default cuBLAS may add parts of a long sum in the format of the result, which is fp16.
        let mode = cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: both handles are alive.
        unsafe {
            check("the stream", (functions.set_stream)(handle, stream.cast()))?;
            check("to add in fp32 alone", (functions.set_math_mode)(handle, mode))?;
        }
        blas.attempt(queue)?;
        Ok(blas)
    }

    /// out = x·Wᵀ, or out += x·Wᵀ, in fp16 with sums in fp32.
    ///
    /// A sum beyond 65504 becomes infinite when cuBLAS stores it. Only a pass through fp32 scratch, a tenth of a
    /// product's time, could prevent that. Residuals stay far below it (some thousands in LLaMA-2 7B and 13B). Gate
    /// times up does reach it; that is a kernel of this crate, which saturates.
    ///
    /// # Safety
    /// x `[rows, inner]`, W `[n, cols]` and out `[rows, n]` must be fp16 and alive until it has run.
    ///
    /// # Errors
    /// When cuBLAS refuses the call.
    pub unsafe fn product(
        &self,
        x: &Factor,
        weight: &Weight,
        out: &Buffer,
        add: bool,
    ) -> Result<()> {
        let operands = Operands {
            x: x.address as *const _,
            w: weight.address as *const _,
            out: out.pointer(),
            rows: x.rows,
            cols: weight.rows,
            inner: x.inner,
            x_stride: x.stride,
            w_stride: weight.stride,
            out_stride: out.stride,
        };
        // SAFETY: upheld by this function's own contract.
        unsafe { self.multiply(&operands, add) }
    }

    /// # Safety
    /// The addresses must be of fp16 matrices of these sizes, allocated until the product has run.
    unsafe fn multiply(&self, operands: &Operands, add: bool) -> Result<()> {
        let (alpha, beta) = (1.0f32, if add { 1.0f32 } else { 0.0 });
        // cuBLAS is column-major, so its columns are our rows: outᵀ = W·xᵀ, where W is stored transposed.
        // SAFETY: upheld by this function's own contract; the factors are read during the call.
        let status = unsafe {
            (self.functions.gemm)(
                self.handle,
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                operands.cols as c_int,
                operands.rows as c_int,
                operands.inner as c_int,
                (&raw const alpha).cast(),
                operands.w,
                cudaDataType::CUDA_R_16F,
                operands.w_stride as c_int,
                operands.x,
                cudaDataType::CUDA_R_16F,
                operands.x_stride as c_int,
                (&raw const beta).cast(),
                operands.out,
                cudaDataType::CUDA_R_16F,
                operands.out_stride as c_int,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        check("a product", status)
    }

    /// Computes a product with a known result, because a library that opens need not have code for this GPU.
    fn attempt(&self, queue: &Queue) -> Result<()> {
        let (x, w, exact) = trial();
        let bytes = size_of_val(&x[..]);
        // Freed before free memory is measured.
        let block = || queue.block(&Arc::default(), Purpose::Workspace, bytes);
        let (x_block, w_block, out_block) = (block()?, block()?, block()?);
        let operands = Operands {
            x: x_block.address() as *const _,
            w: w_block.address() as *const _,
            out: out_block.address() as *mut _,
            rows: TRIAL,
            cols: TRIAL,
            inner: TRIAL,
            x_stride: TRIAL,
            w_stride: TRIAL,
            out_stride: TRIAL,
        };
        // SAFETY: each block has space for a matrix, and is freed after the result has been read.
        let got = unsafe {
            queue.upload(x_block.address(), &x)?;
            queue.upload(w_block.address(), &w)?;
            self.multiply(&operands, false)?;
            queue.download::<f16>(out_block.address(), exact.len())?
        };
        let wrong = got.iter().zip(&exact).find(|(got, exact)| got.to_f32() != **exact);
        wrong.map_or(Ok(()), |(got, exact)| {
            Err(Error::Device(format!(
                "cuBLAS multiplies wrongly, {got} for {exact}: install another version, or use --gemm own"
            )))
        })
    }
}

/// Rows, columns and depth of the trial product.
const TRIAL: usize = 64;

/// Integer operands and their product. The second half of each sum subtracts all but some hundreds of the first half.
/// It is exact when added in fp32 in any order, and its result is exact in fp16; partial sums in fp16 would not be.
fn trial() -> (Vec<f16>, Vec<f16>, Vec<f32>) {
    let half = TRIAL / 2;
    let large = |row: usize, k: usize| ((row * 7 + k * 5) % 31 + 1) as i32;
    let rest = |col: usize, k: usize| ((col + k) % 3) as i32 - 1;
    let matrix = |number: &dyn Fn(usize, usize) -> i32| {
        let numbers = (0..TRIAL * TRIAL).map(|i| number(i / TRIAL, i % TRIAL));
        numbers.map(|number| f16::from_f32(number as f32)).collect::<Vec<_>>()
    };
    let x = matrix(&|row, k| large(row, k % half));
    let w = matrix(&|col, k| match k.checked_sub(half) {
        None => large(col + 3, k),
        Some(k) => rest(col, k) - large(col + 3, k),
    });
    let sum = |row, col| (0..half).map(|k| large(row, k) * rest(col, k)).sum::<i32>() as f32;
    (x, w, (0..TRIAL * TRIAL).map(|i| sum(i / TRIAL, i % TRIAL)).collect())
}

impl Drop for Blas {
    fn drop(&mut self) {
        // A context that cannot be bound is lost, with everything that cuBLAS allocated there.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: created by `open`. An error here was reported before.
            let _ = unsafe { (self.functions.destroy)(self.handle) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_is_exact_in_fp32_and_fails_where_halves_are_added_in_fp16() {
        let (x, w, exact) = trial();
        let mut differ = 0;
        for (i, &exact) in exact.iter().enumerate() {
            let (row, col) = (i / TRIAL * TRIAL, i % TRIAL * TRIAL);
            let product = |k: usize| x[row + k].to_f32() * w[col + k].to_f32();
            let sum = |range: std::ops::Range<usize>| range.map(product).sum::<f32>();
            assert_eq!(sum(0..TRIAL), exact);
            assert_eq!(f16::from_f32(exact).to_f32(), exact);
            let halves = [sum(0..TRIAL / 2), sum(TRIAL / 2..TRIAL)].map(f16::from_f32);
            differ += usize::from((halves[0] + halves[1]).to_f32() != exact);
        }
        assert!(differ > TRIAL * TRIAL / 4, "{differ}");
    }
}
