//! Launches single kernels on the emulator, to compare them with the CPU.
#![allow(dead_code)] // each test file uses a part

use cudarc::driver::{result, sys};
use hired::ops::cuda::launch::Launch;
use std::ffi::{CString, c_void};

use super::emulator;

/// The emulator's schedules (number, seed) to test, each with the byte that fills new memory.
pub const ORDERS: [(i32, u64, u8); 5] =
    [(0, 0, 0xff), (1, 0, 0x5a), (2, 0, 0x00), (3, 1, 0xff), (3, 2, 0x11)];

/// An emulated GPU with one schedule and no allocations.
pub struct Card {
    module: sys::CUmodule,
}

impl Card {
    pub fn new((schedule, seed, poison): (i32, u64, u8)) -> Self {
        result::init().expect("the emulator starts");
        emulator::reset();
        emulator::schedule(schedule, seed);
        emulator::poison(poison);
        let sm = std::env::var("HIRED_EMULATOR_SM").unwrap_or("80".into());
        let image = format!(".version 6.0\n.target sm_{sm}\n.address_size 64\n");
        let image = CString::new(image).unwrap();
        // SAFETY: plain driver calls; the image is a C string that outlives the call.
        let module = unsafe {
            let context = result::primary_ctx::retain(0).unwrap();
            result::ctx::set_current(context).unwrap();
            result::module::load_data(image.as_ptr().cast()).unwrap()
        };
        Self { module }
    }

    /// Allocates uninitialised memory for `count` values of `T`.
    pub fn blank<T>(&self, count: usize) -> u64 {
        // SAFETY: a plain allocation of at least a byte.
        unsafe { result::malloc_sync((count * size_of::<T>()).max(1)).unwrap() }
    }

    pub fn upload<T: Copy>(&self, values: &[T]) -> u64 {
        let at = self.blank::<T>(values.len());
        if !values.is_empty() {
            // SAFETY: the block has the size of the values.
            unsafe { result::memcpy_htod_sync(at, values).unwrap() };
        }
        at
    }

    pub fn download<T: Copy + Default>(&self, at: u64, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        if count > 0 {
            // SAFETY: the caller asks for what it allocated; any bits are a T of these tests.
            unsafe { result::memcpy_dtoh_sync(&mut values, at).unwrap() };
        }
        values
    }

    /// Launches `kernel` with the parameter struct of abi.h, and waits for it.
    pub fn launch<P>(&self, kernel: &str, grid: usize, block: u32, shared: usize, params: P) {
        let launch = Launch {
            file: "",
            kernel: kernel.to_owned(),
            grid: [grid as u32, 1, 1],
            block,
            shared: shared as u32,
            cost: Default::default(),
        };
        self.run(&launch, (&raw const params).cast());
    }

    /// Launches with a struct at an address, and waits for it.
    pub fn run(&self, launch: &Launch, params: *const c_void) {
        let mut list = [params.cast_mut()];
        let name = CString::new(launch.kernel.as_str()).unwrap();
        let [x, y, z] = launch.grid;
        // SAFETY: the struct is the one that abi.h names for the kernel; its pointers are of this card.
        let outcome = unsafe {
            let function = result::module::get_function(self.module, name).unwrap();
            let (grid, block) = ((x, y, z), (launch.block, 1, 1));
            let stream = std::ptr::null_mut();
            result::launch_kernel(function, grid, block, launch.shared, stream, &mut list)
                .and_then(|()| sys::cuCtxSynchronize().result())
        };
        let report = emulator::report();
        assert!(outcome.is_ok() && report.is_empty(), "{launch:?}: {outcome:?} {report}");
    }
}
