//! Many clients on one CUDA engine: the tokens of each request alone, whatever else is under way and whatever fails.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

mod common;
#[path = "support/emulator.rs"]
mod emulator;
#[path = "support/load.rs"]
mod load;

use common::golden::fixture;
use emulator::{Build, Emulator, fail, stats};
use hired::engine::{Device, Dtype, Engine, EngineOptions, Gemm, Scheduler, SchedulerOptions};
use load::{Client, Random, many_at_once, request};
use std::ops::ControlFlow;

fn engine(device: Device, kv_tokens: Option<usize>) -> Engine {
    let options = EngineOptions::default()
        .with_device(device)
        .with_dtype(Dtype::F32)
        .with_gemm(Gemm::Own)
        .with_kv_tokens(kv_tokens);
    Engine::load(fixture("models/next-hub"), options).unwrap()
}

fn child(name: &str, environment: &[(&str, &str)]) {
    let output = Emulator::build(Build::Plain, &[]).child(name, environment);
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}\n{told}\n{errors}");
    told.lines().filter(|line| line.contains("calls")).for_each(|line| println!("{line}"));
}

#[test]
fn requests_that_come_at_random_get_the_tokens_that_they_get_alone() {
    for sm in ["61", "80"] {
        child("child_load", &[("HIRED_EMULATOR_SM", sm)]);
    }
}

#[test]
#[ignore = "child"]
fn child_load() {
    let cuda = || Device::Cuda(None);
    // Alone on the same device, and on the CPU; the second with what is kept of those before.
    for (seed, device, kv_tokens, stall, memory) in
        [(5, cuda(), Some(900), 16, 0), (6, Device::Cpu, Some(4000), 1, 16 << 20)]
    {
        let options = SchedulerOptions::default().with_max_stall(stall).with_cache_memory(memory);
        let mut alone = engine(device, None);
        let now = many_at_once(&mut alone, engine(cuda(), kv_tokens), options, 64, seed);
        assert_eq!((now.images_known > 0, now.rows_known > 0), (memory > 0, memory > 0), "{now:?}");
    }
    assert_eq!(stats().device_bytes, 0, "memory is lost");
}

/// Of the calls that four requests and their answers take, one in so many fails (`tools/test --full`: each).
fn step() -> usize {
    if std::env::var("HIRED_FULL").as_deref() == Ok("1") { 1 } else { 41 }
}

#[test]
fn a_call_that_fails_under_load_fails_its_request_and_the_next_is_answered() {
    child("child_faults", &[("HIRED_EMULATOR_SM", "61")]);
}

#[test]
#[ignore = "child"]
fn child_faults() {
    let mut random = Random(11);
    let requests: Vec<_> = (0..4).map(|_| request(&mut random).with_max_new_tokens(4)).collect();
    let mut alone = engine(Device::Cpu, None);
    let mut ask =
        |request| alone.generate(request, |_| ControlFlow::Continue(())).unwrap().token_ids;
    let wanted: Vec<Vec<u32>> = requests.iter().map(&mut ask).collect();
    let options = SchedulerOptions::default().with_max_stall(8).with_cache_memory(16 << 20);
    let scheduler = Scheduler::start(engine(Device::Cuda(None), Some(1200)), options);
    let submit = || -> Vec<Client> {
        requests.iter().map(|r| Client::submit(&scheduler, r.clone()).unwrap()).collect()
    };
    // Twice, so that the second run has its memory and its recorded steps.
    let mut calls = 0;
    for _ in 0..2 {
        let before = stats().calls;
        submit().into_iter().for_each(|client| drop(client.outcome().unwrap()));
        calls = (stats().calls - before) as usize;
    }
    let (mut failed, mut answered) = (0, 0);
    for call in (1..=calls).step_by(step()) {
        // CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_OUT_OF_MEMORY.
        fail(&format!("any:{call}={}", [700, 2][call / step() % 2]));
        for (client, wanted) in submit().into_iter().zip(&wanted) {
            match client.outcome() {
                Ok(answer) => {
                    assert_eq!(answer.token_ids, *wanted, "call {call}");
                    answered += 1;
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(!message.is_empty() && !message.contains('\n'), "{message}");
                    failed += 1;
                }
            }
        }
        fail("");
        for (client, wanted) in submit().into_iter().zip(&wanted) {
            assert_eq!(client.outcome().unwrap().token_ids, *wanted, "after call {call}");
        }
        let now = scheduler.statistics();
        assert_eq!((now.running, now.waiting), (0, 0), "call {call}: {now:?}");
        assert_eq!(now.pages_free, now.pages, "call {call}: {now:?}");
    }
    println!("{calls} calls, {failed} requests failed, {answered} answered beside them");
    assert!(failed > 0 && answered > 0);
    drop(scheduler);
    assert_eq!(stats().device_bytes, 0, "memory is lost");
}
