//! Matrix products of the CPU executor, weights in f16, against `gemm` itself on f32 at the same shape in the same
//! run; and the single-row product in bytes of weights per second.
//!
//!     cargo bench --bench linear

use half::f16;
use hired::checkpoint::Checkpoint;
use hired::model::Source;
use hired::ops::cpu::Cpu;
use hired::ops::{Linear, Ops, Storage};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::time::{Duration, Instant};

/// Rows, inputs and outputs, and where they occur in LLaVA-v1.6-vicuna-7b.
const SHAPES: [(usize, usize, usize, &str); 6] = [
    (2885, 1024, 1024, "vision attention, 5 tiles"),
    (2885, 1024, 4096, "vision MLP, 5 tiles"),
    (576, 1024, 4096, "projector at 20%"),
    (636, 4096, 4096, "decoder attention at 20%"),
    (636, 4096, 11008, "decoder MLP at 20%"),
    (64, 4096, 4096, "a short prompt"),
];

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let quick = std::env::args().any(|arg| arg == "--test");
    let shapes = if quick { &[(9, 64, 130, "a trial")][..] } else { &SHAPES[..] };
    println!("{} threads", rayon::current_num_threads());
    println!("| rows | in | out | | gemm f32 GFLOP/s | ours f16 GFLOP/s | ratio |");
    println!("|---:|---:|---:|---|---:|---:|---:|");
    for &(m, k, n, what) in shapes {
        let (plain, ours) = compare(m, k, n, if quick { 1 } else { 5 });
        let rate = |time: Duration| 2.0 * (m * k * n) as f64 / time.as_secs_f64() / 1e9;
        let (plain, ours) = (rate(plain), rate(ours));
        println!("| {m} | {k} | {n} | {what} | {plain:.1} | {ours:.1} | {:.2} |", ours / plain);
    }
    let (k, n) = if quick { (64, 130) } else { (4096, 11008) };
    let time = compare(1, k, n, if quick { 1 } else { 50 }).1;
    println!("one row, {k} × {n}: {:.1} GB/s", (2 * k * n) as f64 / time.as_secs_f64() / 1e9);
}

/// Best times of `reps` alternating runs.
fn compare(m: usize, k: usize, n: usize, reps: usize) -> (Duration, Duration) {
    let numbers = |len: usize, seed: usize| -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed) % 1999) as f32 / 999.5 - 1.0).collect()
    };
    let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
    let mut y = vec![0.0f32; m * n];

    let mut ops = Cpu::default();
    let layer = Linear { weight: f16_weight(&mut ops, &w, n, k), bias: None };
    let rows = as_rows(&mut ops, &x, m, k);

    let (mut plain, mut ours) = (Duration::MAX, Duration::MAX);
    for _ in 0..reps {
        let start = Instant::now();
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
        plain = plain.min(start.elapsed());
        let start = Instant::now();
        std::hint::black_box(ops.linear(&rows, &layer, None).unwrap());
        ours = ours.min(start.elapsed());
    }
    (plain, ours)
}

/// A weight in a mapped file, as a checkpoint's are.
fn f16_weight(ops: &mut Cpu, w: &[f32], n: usize, k: usize) -> <Cpu as Ops>::Weight {
    let halves: Vec<f16> = w.iter().map(|&x| f16::from_f32(x)).collect();
    let view = TensorView::new(Dtype::F16, vec![n, k], bytemuck::cast_slice(&halves)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    serialize_to_file([("lm_head.weight", view)], None, &file).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    checkpoint.take(ops, "lm_head.weight", &[n, k], Storage::Matrix).unwrap()
}

/// Activations can only be made by operations: rows of an f32 embedding table.
fn as_rows(ops: &mut Cpu, x: &[f32], m: usize, k: usize) -> <Cpu as Ops>::Buffer {
    let view = TensorView::new(Dtype::F32, vec![m, k], bytemuck::cast_slice(x)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    serialize_to_file([("lm_head.weight", view)], None, &file).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let table = checkpoint.take(ops, "lm_head.weight", &[m, k], Storage::Matrix).unwrap();
    let ids: Vec<u32> = (0..m as u32).collect();
    ops.interleave(&table, &ids, None, &[]).unwrap()
}
