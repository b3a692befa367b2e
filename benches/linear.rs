//! Matrix products of the CPU executor with weights in f16, q8 and q4, and `gemm` itself on f32 of the same shapes.
//! Throughput is in floating-point operations; for a single row it is in bytes of weights. A product alternates between
//! several weights, so that no cache holds them.
//!
//!     cargo bench --bench linear

use std::fmt;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use half::f16;
use hired::checkpoint::Checkpoint;
use hired::format::{Dtype, Format};
use hired::ops::cpu::Cpu;
use hired::ops::{Executor, Linear, MatmulOps, MemoryOps, RowOps, Storage};
use hired::quant::Scheme;
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
const ROWS: [Shape; 2] = [
    Shape(1, 4096, 11008, "a decode step's MLP, up"),
    Shape(1, 11008, 4096, "a decode step's MLP, down"),
];

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Gemm,
    F16,
    Q8,
    Q4,
}

const OURS: [Who; 3] = [Who::F16, Who::Q8, Who::Q4];

impl Who {
    fn scheme(self, k: usize) -> Option<Scheme> {
        match self {
            Self::Gemm | Self::F16 => None,
            Self::Q8 => Some(Scheme::Q8),
            Self::Q4 => Some(Scheme::Q4 { group: if k.is_multiple_of(128) { 128 } else { 32 } }),
        }
    }

    fn format(self, k: usize) -> Format {
        match self.scheme(k) {
            None => Format::F16,
            Some(Scheme::Q8) => Format::Q8,
            Some(Scheme::Q4 { group }) => Format::Q4 { group },
        }
    }
}

/// The two sides of a shape have adjacent names, so that they are measured one after the other, under the same load.
#[derive(Clone, Copy)]
struct Case(Shape, Who);

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Shape(m, k, n, place), who) = self;
        let who = match who {
            Who::Gemm => "gemm f32",
            Who::F16 => "ours f16",
            Who::Q8 => "ours q8",
            Who::Q4 => "ours q4",
        };
        write!(f, "{m}×{k}×{n} {place}: {who}")
    }
}

/// Whether this is a real benchmark. `cargo test --benches` only checks that it runs.
fn is_whole() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

fn cases(all: &[Shape], who: &'static [Who]) -> impl Iterator<Item = Case> {
    let shapes = if is_whole() { all.to_vec() } else { vec![Shape(9, 64, 130, "a trial")] };
    shapes.into_iter().flat_map(move |shape| who.iter().map(move |&who| Case(shape, who)))
}

#[divan::bench(args = cases(&SHAPES, &[Who::Gemm, Who::F16, Who::Q8, Who::Q4]), sample_count = 15, sample_size = 1)]
fn product(bencher: Bencher, case: Case) {
    let Shape(m, k, n, _) = case.0;
    measure(bencher.counter(ItemsCount::new(2 * m * k * n)), case, 1);
}

#[divan::bench(args = cases(&ROWS, &OURS), sample_count = 15, sample_size = 1)]
fn one_row(bencher: Bencher, case: Case) {
    let Case(Shape(_, k, n, _), who) = case;
    // 23 MB each in the smallest format.
    let count = if is_whole() { 6 } else { 2 };
    measure(bencher.counter(BytesCount::new(count * who.format(k).bytes(n, k))), case, count);
}

/// Multiplies rows with each of `count` weights.
fn measure(bencher: Bencher, Case(Shape(m, k, n, _), who): Case, count: usize) {
    let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
    match who {
        Who::Gemm => {
            let mut y = vec![0.0f32; m * n];
            bencher.bench_local(|| gemm_f32(&x, &w, black_box(&mut y), (m, k, n)));
        }
        who => {
            let mut ops = Cpu::new(Dtype::F32);
            let layers: Vec<_> = (0..count)
                .map(|_| Linear { weight: weight(&mut ops, &w, n, k, who.scheme(k)), bias: None })
                .collect();
            let rows = as_rows(&mut ops, &x, m, k);
            bencher.bench_local(|| {
                layers.iter().for_each(|layer| drop(ops.linear(&rows, layer, None).unwrap()));
            });
        }
    }
}

/// y \[m, n\] = x \[m, k\] · wᵀ, with w \[n, k\].
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

/// A weight in a mapped file like those of a checkpoint, or integers quantized from it.
fn weight(
    ops: &mut Cpu,
    w: &[f32],
    n: usize,
    k: usize,
    scheme: Option<Scheme>,
) -> <Cpu as Executor>::Weight {
    let halves: Vec<f16> = w.iter().map(|&x| f16::from_f32(x)).collect();
    let view = TensorView::new(Stored::F16, vec![n, k], bytemuck::cast_slice(&halves)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    serialize_to_file([("lm_head.weight", view)], None, &file).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let tensor = checkpoint.get("lm_head.weight").unwrap();
    let tensor = match scheme {
        Some(scheme) => tensor.quantized(scheme).unwrap(),
        None => tensor,
    };
    ops.upload(&tensor, Storage::Matrix).unwrap()
}

/// Activations with given content: only operations make buffers, so an f32 embedding table is used.
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
