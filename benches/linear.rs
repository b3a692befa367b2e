//! Matrix products of the CPU executor, weights in f16, beside `gemm` itself on f32 at the same shapes. An item is a
//! floating-point operation; of a single row the bytes of its weights are counted.
//!
//!     cargo bench --bench linear

use std::fmt;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use half::f16;
use hired::checkpoint::Checkpoint;
use hired::format::Dtype;
use hired::ops::cpu::Cpu;
use hired::ops::{Executor, Linear, MatmulOps, MemoryOps, RowOps, Storage};
use safetensors::tensor::{Dtype as Stored, TensorView, serialize_to_file};

fn main() {
    println!("{} threads", rayon::current_num_threads());
    divan::main();
}

/// A product of LLaVA-v1.6-vicuna-7b: rows, inputs, outputs, and where it occurs.
#[derive(Clone, Copy)]
struct Shape(usize, usize, usize, &'static str);

const SHAPES: [Shape; 6] = [
    Shape(2885, 1024, 1024, "vision attention, 5 tiles"),
    Shape(2885, 1024, 4096, "vision MLP, 5 tiles"),
    Shape(576, 1024, 4096, "projector at 20%"),
    Shape(636, 4096, 4096, "decoder attention at 20%"),
    Shape(636, 4096, 11008, "decoder MLP at 20%"),
    Shape(64, 4096, 4096, "a short prompt"),
];
const ROW: Shape = Shape(1, 4096, 11008, "a decode step's MLP");

#[derive(Clone, Copy)]
enum Who {
    Gemm,
    Ours,
}

/// Both sides of a shape have neighbouring names and so are measured one after the other, under the same other load.
#[derive(Clone, Copy)]
struct Case(Shape, Who);

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Shape(m, k, n, place), who) = self;
        let who = match who {
            Who::Gemm => "gemm f32",
            Who::Ours => "ours f16",
        };
        write!(f, "{m}×{k}×{n} {place}: {who}")
    }
}

/// The shapes, or a trial where `cargo test --benches` only wants to know that it runs.
fn cases(all: &[Shape]) -> impl Iterator<Item = Case> {
    let whole = std::env::args().any(|arg| arg == "--bench");
    let shapes = if whole { all.to_vec() } else { vec![Shape(9, 64, 130, "a trial")] };
    shapes.into_iter().flat_map(|shape| [Who::Gemm, Who::Ours].map(|who| Case(shape, who)))
}

#[divan::bench(args = cases(&SHAPES), sample_count = 15, sample_size = 1)]
fn product(bencher: Bencher, case: Case) {
    let Shape(m, k, n, _) = case.0;
    measure(bencher.counter(ItemsCount::new(2 * m * k * n)), case);
}

#[divan::bench(args = cases(&[ROW]).filter(|case| matches!(case.1, Who::Ours)))]
fn one_row(bencher: Bencher, case: Case) {
    let Shape(_, k, n, _) = case.0;
    measure(bencher.counter(BytesCount::new(2 * k * n)), case);
}

fn measure(bencher: Bencher, Case(Shape(m, k, n, _), who): Case) {
    let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
    match who {
        Who::Gemm => {
            let mut y = vec![0.0f32; m * n];
            bencher.bench_local(|| gemm_f32(&x, &w, black_box(&mut y), (m, k, n)));
        }
        Who::Ours => {
            let mut ops = Cpu::new(Dtype::F32);
            let layer = Linear { weight: f16_weight(&mut ops, &w, n, k), bias: None };
            let rows = as_rows(&mut ops, &x, m, k);
            bencher.bench_local(|| ops.linear(&rows, &layer, None).unwrap());
        }
    }
}

/// y \[m, n\] = x \[m, k\] · wᵀ, w \[n, k\].
fn gemm_f32(x: &[f32], w: &[f32], y: &mut [f32], (m, k, n): (usize, usize, usize)) {
    assert_eq!((x.len(), w.len(), y.len()), (m * k, n * k, m * n));
    // SAFETY: the three buffers have the sizes given by m, k and n.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            n as isize,
            false,
            x.as_ptr(),
            1,
            k as isize,
            w.as_ptr(),
            k as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed) % 1999) as f32 / 999.5 - 1.0).collect()
}

/// A weight in a mapped file, as a checkpoint's are.
fn f16_weight(ops: &mut Cpu, w: &[f32], n: usize, k: usize) -> <Cpu as Executor>::Weight {
    let halves: Vec<f16> = w.iter().map(|&x| f16::from_f32(x)).collect();
    let view = TensorView::new(Stored::F16, vec![n, k], bytemuck::cast_slice(&halves)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    serialize_to_file([("lm_head.weight", view)], None, &file).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    ops.upload(&checkpoint.get("lm_head.weight").unwrap(), Storage::Matrix).unwrap()
}

/// Activations can only be made by operations: rows of an f32 embedding table.
fn as_rows(ops: &mut Cpu, x: &[f32], m: usize, k: usize) -> <Cpu as Executor>::Buffer {
    let view = TensorView::new(Stored::F32, vec![m, k], bytemuck::cast_slice(x)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    serialize_to_file([("lm_head.weight", view)], None, &file).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let table = ops.upload(&checkpoint.get("lm_head.weight").unwrap(), Storage::Matrix).unwrap();
    let ids: Vec<u32> = (0..m as u32).collect();
    ops.interleave(&table, &[], &ids).unwrap()
}
