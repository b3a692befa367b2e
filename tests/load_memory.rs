//! Weights quantised as they load: the host's memory, on the CPU the result and little more, for a GPU a panel; and what is
//! said of a row that cannot be.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/emulator.rs"]
mod emulator;

use emulator::{Build, Emulator};
use half::f16;
use hired::checkpoint::{Checkpoint, Tensor};
use hired::format::Dtype;
use hired::ops::cpu::Cpu;
use hired::ops::cuda::{Cuda, Gemm, Options};
use hired::ops::memory::Purpose;
use hired::ops::{MemoryOps, Storage};
use hired::quant::Scheme;
use safetensors::tensor::TensorView;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's memory, counted.
struct Counted;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: upheld by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: upheld by the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// 32 MB of f16.
const SHAPE: [usize; 2] = [4096, 4096];

/// The largest panel of codes that a GPU's weights are made in, and what belongs to it.
const PANEL: usize = (8 << 20) + (2 << 20);

/// Rows of threads, scales of q8 before they are widened, names.
const LITTLE: usize = 1 << 20;

fn tensor(shape: [usize; 2], number: impl Fn(usize) -> f32) -> (tempfile::TempDir, Tensor) {
    let folder = tempfile::tempdir().unwrap();
    let numbers = (0..shape[0] * shape[1]).map(number);
    let bytes: Vec<u8> = numbers.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect();
    let view = TensorView::new(safetensors::Dtype::F16, shape.to_vec(), &bytes).unwrap();
    let file = safetensors::serialize([("w", view)], None).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
    let tensor = Checkpoint::open(folder.path()).unwrap().get("w").unwrap();
    (folder, tensor)
}

fn large() -> (tempfile::TempDir, Tensor) {
    tensor(SHAPE, |i| (i % 251) as f32 / 64.0 - 1.9)
}

/// The most memory taken meanwhile, beyond what was held.
fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let made = work();
    (made, MOST.load(Relaxed) - before)
}

fn schemes() -> [Scheme; 3] {
    [Scheme::Q8, Scheme::Q4 { group: 32 }, Scheme::Q4 { group: 128 }]
}

/// Layers that are stored as one are its rows, and panels too.
#[test]
fn a_row_is_named_by_its_place_in_the_file() {
    let (_folder, tensor) = tensor([6, 32], |i| if i == 4 * 32 + 7 { f32::NAN } else { 1.0 });
    for scheme in [Scheme::Q8, Scheme::Q4 { group: 32 }] {
        let whole = tensor.clone().quantized(scheme).unwrap();
        for part in [whole.clone(), whole.clone().rows(3..6), whole.rows(2..5).rows(1..3)] {
            let message = part.to_words().unwrap_err().to_string();
            assert!(message.contains("row 4 of tensor w "), "{message}");
        }
    }
}

#[test]
fn quantising_while_loading_takes_the_result_or_a_panel() {
    // In one process of its own each, for the counts are of a whole process.
    let emulator = Emulator::build(Build::Plain, &["--sm", "80"]);
    for child in ["child_cpu", "child_gpu"] {
        let output = emulator.child(child, &[("HIRED_EMULATOR_SM", "80")]);
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&words));
    }
}

#[test]
#[ignore = "child"]
fn child_cpu() {
    let (_folder, tensor) = large();
    for scheme in schemes() {
        let quantized = tensor.clone().quantized(scheme).unwrap();
        let bytes = quantized.format.bytes(SHAPE[0], SHAPE[1]);
        let mut cpu = Cpu::new(Dtype::F32);
        let (weight, most) = most(|| cpu.upload(&quantized, Storage::Matrix).unwrap());
        assert!(most >= bytes, "{scheme}: {most} bytes for a result of {bytes}");
        assert!(most <= bytes + LITTLE, "{scheme}: {most} bytes for a result of {bytes}");
        assert_eq!(cpu.meter().held(Purpose::Weights), bytes, "{scheme}");
        drop(weight);
    }
}

#[test]
#[ignore = "child"]
fn child_gpu() {
    let (_folder, tensor) = large();
    let options =
        Options { ordinal: None, formats: Dtype::F16.into(), graphs: true, gemm: Gemm::Own };
    let mut cuda = Cuda::open(options).unwrap();
    cuda.reserve(Purpose::Weights, 64 << 20).unwrap();
    for scheme in schemes() {
        let quantized = tensor.clone().quantized(scheme).unwrap();
        let (_weight, most) = most(|| cuda.upload(&quantized, Storage::Matrix).unwrap());
        assert!(most <= PANEL + LITTLE, "{scheme}: {most} bytes of the host");
    }
}
