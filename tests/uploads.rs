//! What goes up leaves from memory that is used again only when the device has fetched it. On the emulator, whose device
//! works as late as it may.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/emulator.rs"]
mod emulator;

use emulator::{Build, Emulator};
use hired::checkpoint::synth::Recipe;
use hired::format::Dtype;
use hired::kv::Shape;
use hired::ops::cuda::Gemm;
use hired::ops::cuda::{Cuda, Options};
use hired::ops::memory::Purpose;
use hired::ops::{BatchOps, DECODE_ROWS, MemoryOps, RowOps, Span, Storage};

#[test]
fn more_than_the_pinned_memory_holds_goes_up_whole() {
    let late = [("HIRED_EMULATOR_LAZY", "1"), ("HIRED_EMULATOR_PAGEABLE", "late")];
    let output = Emulator::build(Build::Plain, &[]).child("child_uploads", &late);
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}

/// Steps of a cache with so many pages that the tables of one fill the pinned memory, and nothing that waits between them.
#[test]
#[ignore = "child"]
fn child_uploads() {
    const PAGES: usize = 40_000;
    let (dtype, gemm) = (Dtype::F32, Gemm::Own);
    let mut cuda =
        Cuda::open(Options { ordinal: None, formats: dtype.into(), graphs: false, gemm }).unwrap();
    assert!(DECODE_ROWS * PAGES * size_of::<u32>() > emulator::stats().pinned_bytes as usize);
    cuda.reserve(Purpose::Weights, 1 << 16).unwrap();
    cuda.reserve(Purpose::Workspace, 1 << 16).unwrap();
    let (name, shape) = ("table".into(), vec![8, 16]);
    let recipe = Recipe { name, shape, key: 1, mean: 0.0, reach: 1.0, scheme: None };
    let table = cuda.synthesize(&recipe, Storage::Matrix).unwrap();
    let cache = cuda.cache(Shape { layers: 1, pages: PAGES, kv_heads: 1, head_dim: 16 }).unwrap();
    let pages: Vec<u32> = (0..PAGES as u32).collect();
    let spans: Vec<Span> = (0..DECODE_ROWS)
        .map(|row| Span { row, rows: 1, slot: 0, position: 0, pages: pages.clone() })
        .collect();
    let steps: Vec<_> = (0..4)
        .map(|step| {
            let tokens = (0..DECODE_ROWS as u32).map(|row| (row * 3 + step) % 8).collect();
            let batch = cuda.batch(&cache, tokens, spans.clone()).unwrap();
            cuda.embed(&table, &batch).unwrap()
        })
        .collect();
    let whole = cuda.interleave(&table, &[], &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    let whole = cuda.download(&whole).unwrap();
    for (step, rows) in steps.iter().enumerate() {
        for (row, got) in cuda.download(rows).unwrap().chunks(16).enumerate() {
            let token = (row * 3 + step) % 8;
            assert_eq!(got, &whole[token * 16..][..16], "step {step}, row {row}");
        }
    }
}
