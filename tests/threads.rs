//! An executor that goes from thread to thread: what it gives back on a thread that has not used the device yet goes
//! back all the same.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

mod common;
#[path = "support/emulator.rs"]
mod emulator;

use common::golden::fixture;
use emulator::{Build, Emulator, stats};
use hired::checkpoint::synth::Recipe;
use hired::engine::{Device, Dtype, Engine, EngineOptions};
use hired::kv::Shape;
use hired::ops::cuda::Gemm;
use hired::ops::cuda::{Cuda, Options};
use hired::ops::memory::Purpose;
use hired::ops::{BatchOps, MemoryOps, RowOps, Span, Storage};

fn on_emulator(child: &str) {
    let output = Emulator::build(Build::Plain, &[]).child(child, &[("HIRED_EMULATOR_SM", "75")]);
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{child}\n{}", String::from_utf8_lossy(&told));
}

/// On a thread of its own.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn pinned_memory_goes_back_from_another_thread() {
    on_emulator("child_staging");
}

#[test]
#[ignore = "child"]
fn child_staging() {
    let options = EngineOptions::default()
        .with_device(Device::Cuda(None))
        .with_dtype(Dtype::F32)
        .with_gemm(Gemm::Own);
    let mut engine = Engine::load(fixture("models/llava15"), options).unwrap();
    let loading = stats().pinned_bytes;
    assert!(loading > 16 << 20, "{loading}");
    elsewhere(|| engine.release().unwrap());
    let left = stats().pinned_bytes;
    assert!(left <= 1 << 20, "{left} bytes are still pinned");
    elsewhere(|| drop(engine));
    let left = stats();
    assert_eq!((left.pinned_bytes, left.device_bytes, left.events), (0, 0, 0));
}

#[test]
fn a_recorded_step_goes_back_from_another_thread() {
    on_emulator("child_graph");
}

#[test]
#[ignore = "child"]
fn child_graph() {
    let (dtype, gemm) = (Dtype::F32, Gemm::Own);
    let mut cuda =
        Cuda::open(Options { ordinal: None, formats: dtype.into(), graphs: true, gemm }).unwrap();
    cuda.reserve(Purpose::Weights, 1 << 16).unwrap();
    cuda.reserve(Purpose::Workspace, 1 << 16).unwrap();
    let (name, shape) = ("table".into(), vec![8, 16]);
    let recipe = Recipe { name, shape, key: 1, mean: 0.0, reach: 1.0, scheme: None };
    let table = cuda.synthesize(&recipe, Storage::Matrix).unwrap();
    let shape = Shape { layers: 1, pages: 1, kv_heads: 1, head_dim: 16 };
    let mut caches = [cuda.cache(shape).unwrap()];
    let span = Span { row: 0, rows: 1, slot: 0, position: 0, pages: vec![0] };
    // The first runs as it is, the second is recorded.
    let rows = [3, 5].map(|token| {
        let batches = [cuda.batch(&caches[0], vec![token], vec![span.clone()]).unwrap()];
        let step = |cuda: &mut Cuda, _: &mut [_]| cuda.embed(&table, &batches[0]);
        let row = cuda.step(&batches, &mut caches, &mut { step }).unwrap();
        cuda.download(&row).unwrap()
    });
    assert_ne!(rows[0], rows[1]);
    assert_eq!(stats().execs, 1);
    let again = elsewhere(|| cuda.cache(shape)).unwrap();
    assert_eq!(stats().execs, 0, "the recorded step is lost");
    drop((again, caches, table, cuda));
    assert_eq!(stats().device_bytes, 0);
}
