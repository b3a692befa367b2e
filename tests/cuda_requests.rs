//! Requests of every kind on one CUDA engine: the CPU engine's answers, whatever came before.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

mod common;
#[path = "support/emulator.rs"]
mod emulator;

use common::folder::{edit_tensor, model_copy};
use common::golden::{cases, fixture};
use emulator::{Build, Emulator};
use hired::engine::{
    Answer, Device, Dtype, Engine, EngineOptions, Event, Gemm, Image, Limit, Prompt, Request,
    inspect,
};
use hired::ops::clock::Stage;
use hired::ops::profile::UPLOAD;
use hired::ops::sample::Sampling;
use hired::select::{Counting, Heads, Method, Newlines, Rule, Selection, Spacing, Tuning};
use std::ops::ControlFlow;

const MODEL: &str = "next-hub";

fn options(device: Device) -> EngineOptions {
    EngineOptions { device, dtype: Some(Dtype::F32), gemm: Gemm::Own, ..EngineOptions::default() }
}

fn engine(device: Device) -> Engine {
    Engine::load(fixture("models").join(MODEL), options(device)).unwrap()
}

fn picture(name: &str) -> Image {
    Image::Encoded {
        name: name.into(),
        bytes: std::fs::read(fixture("images").join(name)).unwrap(),
    }
}

fn words(prompt: &str) -> Request {
    Request { prompt: Prompt::User(prompt.into()), max_new_tokens: 6, ..Request::new("") }
}

fn about(image: &str, selection: Selection) -> Request {
    Request { selection, ..words("What is it?") }.with_image(picture(image))
}

fn at(budget: &str) -> Selection {
    Selection { budget: budget.parse().unwrap(), ..Selection::default() }
}

fn go(_: Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Batches of requests of every kind.
fn batches() -> Vec<Vec<Request>> {
    let images: Vec<String> =
        cases().into_iter().filter(|c| c.model == MODEL).map(|c| c.image).collect();
    let image = |i: usize| images[i % images.len()].as_str();
    let drawn = |seed| Request {
        sampling: Sampling { temperature: 0.9, top_k: 40, top_p: 0.95, seed },
        ..about(image(0), at("20%"))
    };
    let tuning = Tuning { prumerge: Counting::Budget, ..Tuning::default() };
    let strided = Tuning { spatial: Spacing::Stride, ..Tuning::default() };
    let nine = (0..9).map(|i| Request {
        max_new_tokens: 2 + i % 4,
        ..about(image(i), at(["20%", "3", "full"][i % 3]))
    });
    vec![
        vec![words("Words alone?")],
        vec![about(image(0), Selection { newlines: Some(Newlines::All), ..at("20%") })],
        vec![about(image(1), Selection { alpha: "0.25".parse().unwrap(), ..at("10%") })],
        // The block behind the features scores: its weights come later.
        vec![about(image(0), Selection { final_layer: Some(-1), init_layer: 2, ..at("20%") })],
        vec![about(image(2), Selection { method: Method::Full, ..at("20%") })],
        vec![about(image(3), Selection { rule: Rule::Repo, ..at("1") })],
        vec![
            // More patches than the budget.
            about(image(1), Selection { method: Method::Spatial, tuning: strided, ..at("40%") }),
            about(image(2), Selection { method: Method::Random, seed: 9, ..at("30%") }),
        ],
        vec![
            about(image(0), Selection { method: Method::FasterVlm, ..at("20%") }),
            about(image(1), Selection { heads: Heads::Max, ..at("20%") }),
            about(image(2), Selection { method: Method::DivPrune, ..at("20%") }),
        ],
        vec![about(
            image(0),
            Selection { method: Method::VisionZip, newlines: Some(Newlines::All), ..at("30%") },
        )],
        vec![about(image(1), Selection { method: Method::Scope, ..at("10%") })],
        vec![
            about(image(2), at("10%")),
            about(image(1), Selection { method: Method::FastV, ..at("20%") }),
            words("No picture?"),
        ],
        vec![
            about(image(2), Selection { method: Method::PruMergePlus, tuning, ..at("20%") }),
            about(image(0), Selection { method: Method::PruMerge, ..at("20%") }),
        ],
        vec![drawn(1), drawn(2), words("Nothing to see?")],
        // More than decode together.
        nine.collect(),
        vec![Request { max_new_tokens: 1, ..about(image(1), at("1")) }],
    ]
}

#[test]
fn every_kind_of_request_gives_what_the_cpu_gives() {
    for sm in ["61", "80"] {
        let output = Emulator::build(Build::Plain, &[])
            .child("child_requests", &[("HIRED_EMULATOR_SM", sm)]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
#[ignore = "child"]
fn child_requests() {
    let (mut cpu, mut cuda) = (engine(Device::Cpu), engine(Device::Cuda(None)));
    for (i, batch) in batches().iter().enumerate() {
        let wanted = cpu.generate_batch(batch, go).unwrap();
        let got = cuda.generate_batch(batch, go).unwrap();
        for (wanted, got) in wanted.iter().zip(&got) {
            assert_eq!(got.token_ids, wanted.token_ids, "batch {i}");
            assert_eq!((&got.text, &got.visual), (&wanted.text, &wanted.visual), "batch {i}");
            assert_eq!(got.prompt_tokens, wanted.prompt_tokens, "batch {i}");
            assert!(!wanted.host_round_trip);
        }
        for (request, got) in batch.iter().zip(&got) {
            let Selection { method, rule, tuning, .. } = &request.selection;
            // Where the number of rows is what the picture says.
            let waits = match method {
                Method::Hired => matches!(rule, Rule::Paper | Rule::Repo),
                Method::PruMerge | Method::PruMergePlus => tuning.prumerge == Counting::Adaptive,
                _ => false,
            };
            assert_eq!(got.host_round_trip, waits && got.visual.is_some(), "batch {i}");
            let memory = got.memory;
            assert_eq!(memory.peak, memory.predicted_peak, "batch {i}: {memory:?}");
            assert_eq!(memory.peak as u64, emulator::stats().device_bytes, "batch {i}");
        }
        if let (Some(image), selection) = (&batch[0].image, &batch[0].selection) {
            let selected = cuda.select(image, selection).unwrap();
            assert_eq!(Some(&selected), wanted[0].visual.as_ref(), "batch {i}");
        }
    }
    // The same words under many selections, the picture encoded once.
    let Some(picture) = &batches()[1][0].image else { panic!("an image") };
    let selections: Vec<Selection> =
        batches()[1..11].iter().map(|b| b[0].selection.clone()).collect();
    let asked: Vec<Request> = (0..9).map(|i| words(&format!("Question {i}?"))).collect();
    let swept = cuda.sweep(picture, &asked, &selections, || ControlFlow::Continue(())).unwrap();
    let wanted = cpu.sweep(picture, &asked, &selections, || ControlFlow::Continue(())).unwrap();
    let told = |all: &[Vec<Answer>]| -> Vec<_> {
        all.iter().flatten().map(|a| (a.token_ids.clone(), a.visual.clone())).collect()
    };
    assert_eq!(told(&swept), told(&wanted));
    let memory = swept[0][0].memory;
    assert_eq!(memory.peak, memory.predicted_peak, "{memory:?}");
    // The device's own memory is the limit, and what a refused request leaves is an engine that answers.
    let long = Request { max_new_tokens: 200_000, ..words("And so on?") };
    let refused = cuda.generate(&long, go).unwrap_err().to_string();
    assert!(refused.contains("positions"), "{refused}");
    let stopped = cuda.generate(&words("Stop?"), |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(stopped, hired::Error::Cancelled));
    let again = &batches()[0];
    assert_eq!(
        cuda.generate_batch(again, go).unwrap()[0].token_ids,
        cpu.generate_batch(again, go).unwrap()[0].token_ids
    );
}

/// Random weights drawn on the device are those of a written checkpoint, bit by bit, in either format.
#[test]
fn synthetic_weights_are_those_of_the_files() {
    let output = Emulator::build(Build::Plain, &[]).child("child_synthetic", &[]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "child"]
fn child_synthetic() {
    use hired::checkpoint::synth::{self, Preset};
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tiny");
    let tokenizer =
        hired::text::synth::tokenizer_json(Preset::Tiny.vocab(), Preset::Tiny.image_token());
    let written = |_, _| ControlFlow::Continue(());
    synth::write(Preset::Tiny, &folder, 3, &tokenizer, &mut { written }).unwrap();
    let request =
        Request { keep_stages: true, max_new_tokens: 2, ..about("square-96x96.png", at("10%")) };
    for dtype in [Dtype::F16, Dtype::F32] {
        let options = || EngineOptions { dtype: Some(dtype), ..options(Device::Cuda(None)) };
        let made = Engine::synthetic(Preset::Tiny, 3, options(), |_, _| ControlFlow::Continue(()));
        let answers =
            [made.unwrap(), Engine::load(&folder, options()).unwrap()].map(|mut engine| {
                let answer = engine.generate(&request, go).unwrap();
                assert_eq!(answer.memory.peak, answer.memory.predicted_peak);
                let stages = answer.stages.unwrap();
                (
                    answer.token_ids,
                    stages.visual_tokens,
                    stages.prefill_logits,
                    answer.memory.weights,
                )
            });
        assert_eq!(answers[0], answers[1], "{dtype:?}");
    }
}

/// A rate is measured on work that is done: on a device that works when it is waited for, enqueuing it takes no time.
#[test]
fn a_measured_rate_is_that_of_finished_work() {
    let output =
        Emulator::build(Build::Plain, &[]).child("child_measured", &[("HIRED_EMULATOR_LAZY", "1")]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "child"]
fn child_measured() {
    let mut engine = engine(Device::Cuda(None));
    let request = Request { max_new_tokens: 1, ..about(&cases()[0].image, at("1")) };
    let budget_within = |engine: &mut Engine, seconds| {
        engine.largest_budget(std::slice::from_ref(&request), Limit::Ttft(seconds))
    };
    let ttft = engine.generate(&request, go).unwrap().timings.ttft;
    let refused = budget_within(&mut engine, ttft / 100.0).unwrap_err();
    assert!(matches!(refused, hired::Error::Capacity(_)), "{refused}");
    let count = budget_within(&mut engine, ttft * 100.0).unwrap();
    // What was measured with is given back: the answer needs what it always needs.
    let request = Request { selection: at(&count.to_string()), ..request };
    let memory = engine.generate(&request, go).unwrap().memory;
    assert_eq!(memory.peak, memory.predicted_peak);
    let fresh = self::engine(Device::Cuda(None)).generate(&request, go).unwrap().memory;
    assert_eq!(memory.peak, fresh.peak);
}

/// A cache far larger than the requests costs a step nothing and changes no answer; nor does an answer that outgrows the
/// step that was recorded for it.
#[test]
fn a_step_is_as_large_as_its_sequences() {
    let output = Emulator::build(Build::Plain, &[]).child("child_steps", &[]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "child"]
fn child_steps() {
    let short = Request { ignore_eos: true, ..words("Some words?") };
    let long = Request { ignore_eos: true, max_new_tokens: 150, ..words("And many more?") };
    let batch = [short, long];
    let wanted = engine(Device::Cpu).generate_batch(&batch, go).unwrap();
    let told = [None, Some(20_000)].map(|kv_tokens| {
        let options = EngineOptions { kv_tokens, ..options(Device::Cuda(None)) };
        let mut engine = Engine::load(fixture("models").join(MODEL), options).unwrap();
        let before = emulator::stats();
        let replayed = engine.generate_batch(&batch, go).unwrap();
        let after = emulator::stats();
        let (answers, entries) = engine.profile(&batch).unwrap();
        for (wanted, got) in wanted.iter().zip(replayed.iter().chain(&answers)) {
            assert_eq!(got.token_ids, wanted.token_ids, "{kv_tokens:?}");
            assert_eq!(got.memory.peak, got.memory.predicted_peak, "{kv_tokens:?}");
        }
        let decode = entries.iter().filter(|e| e.stage == Stage::Decode);
        let uploads: Vec<u64> =
            decode.clone().filter(|e| e.name == UPLOAD).map(|e| e.cost.bytes).collect();
        let layers = decode.filter(|e| e.layer.is_some()).count();
        // The first step's rows are there before its stage begins.
        assert_eq!(uploads.len(), 148);
        let memory = (answers[0].memory.weights, answers[0].memory.workspace);
        (after.blocks - before.blocks, after.launches - before.launches, uploads, layers, memory)
    });
    assert_eq!(told[0], told[1]);
    // Positions and slots, sequences and tokens in regions of their own, then tables that reach 128 slots, for two
    // sequences, and in the end 256 for one.
    let upload = |sequences: u64, slots: u64| Some(3 * 256 + sequences * slots / 16 * 4);
    assert_eq!(told[0].2.first().copied(), upload(2, 128));
    assert_eq!(told[0].2.last().copied(), upload(1, 256));
    // The products before and after attention, itself, and the two of the MLP: in each of three layers of each step.
    assert_eq!(told[0].3, 149 * 3 * 5);
}

/// A card with too little memory says so before anything is taken.
#[test]
fn a_small_card_refuses_with_the_numbers() {
    for (memory, what) in [("300K", "weights"), ("3M", "keys and values")] {
        let environment = [("HIRED_EMULATOR_MEMORY", memory), ("HIRED_TEST_REFUSED", what)];
        let output = Emulator::build(Build::Plain, &[]).child("child_small", &environment);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
#[ignore = "child"]
fn child_small() {
    let what = std::env::var("HIRED_TEST_REFUSED").unwrap();
    let long = Request { max_new_tokens: 2000, ..words("And so on?") };
    let refused = Engine::load(fixture("models").join(MODEL), options(Device::Cuda(None)))
        .and_then(|mut engine| engine.generate(&long, go).map(|_| ()))
        .unwrap_err();
    assert!(matches!(refused, hired::Error::Capacity(_)), "{refused}");
    let message = refused.to_string();
    assert!(message.contains(&what) && message.contains("available"), "{message}");
}

#[test]
fn a_residual_beyond_fp16_is_an_error_that_names_the_way_out() {
    let emulator = Emulator::build(Build::Plain, &[]);
    for sm in ["61", "80"] {
        let output = emulator.child("child_overflow", &[("HIRED_EMULATOR_SM", sm)]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "sm_{sm}: {said}");
    }
}

/// A residual that leaves fp16 is cut to its largest number: the request fails and says what helps, and answers in f32.
#[test]
#[ignore = "child"]
fn child_overflow() {
    let folder = model_copy(MODEL);
    let down = "language_model.model.layers.0.mlp.down_proj.weight";
    edit_tensor(folder.path(), down, |weights| weights.iter_mut().for_each(|w| *w *= 2e4));
    let answer = |dtype| {
        let options = EngineOptions { dtype: Some(dtype), ..options(Device::Cuda(None)) };
        let request = Request { max_new_tokens: 2, ..words("What is it?") };
        Engine::load(folder.path(), options)?.generate(&request, go).map(|answer| answer.token_ids)
    };
    let refused = answer(Dtype::F16).unwrap_err();
    assert!(matches!(refused, hired::Error::Numeric(_)), "{refused}");
    assert!(refused.to_string().contains("f32"), "{refused}");
    assert!(!answer(Dtype::F32).unwrap().is_empty());
}

/// What `inspect` plans for a device is known without one.
#[test]
fn an_inspection_plans_for_a_device_that_is_not_there() {
    let plan = |device| {
        inspect(fixture("models").join(MODEL), &options(device), &Selection::default()).unwrap()
    };
    let (cuda, cpu) = (plan(Device::Cuda(None)), plan(Device::Cpu));
    for (cuda, cpu) in cuda.budgets.iter().zip(&cpu.budgets) {
        assert_eq!((cuda.visual_tokens, cuda.mapped), (cpu.visual_tokens, 0));
        assert_eq!(cuda.peak, cuda.weights + cuda.kv + cuda.workspace);
        assert!(cuda.weights > cpu.mapped);
    }
}
