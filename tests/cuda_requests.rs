//! Requests of every kind on one CUDA engine: the CPU engine's answers, whatever came before.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

mod common;
#[path = "support/emulator.rs"]
mod emulator;

use common::folder::{edit_tensor, model_copy};
use common::golden::{cases, fixture};
use emulator::{Build, Emulator};
use hired::engine::{
    Answer, Device, Dtype, Engine, EngineOptions, Event, Gemm, Image, Limit, Request, inspect,
};
use hired::ops::clock::Stage;
use hired::ops::profile::UPLOAD;
use hired::ops::sample::Sampling;
use hired::select::{Counting, Heads, Method, Newlines, Rule, Selection, Spacing, Tuning};
use std::ops::ControlFlow;

const MODEL: &str = "next-hub";

fn options(device: Device) -> EngineOptions {
    EngineOptions::default().with_device(device).with_dtype(Dtype::F32).with_gemm(Gemm::Own)
}

fn engine(device: Device) -> Engine {
    engine_of(MODEL, device)
}

fn engine_of(model: &str, device: Device) -> Engine {
    Engine::load(fixture("models").join(model), options(device)).unwrap()
}

fn picture(name: &str) -> Image {
    Image::encoded(name, std::fs::read(fixture("images").join(name)).unwrap())
}

fn words(prompt: &str) -> Request {
    Request::new(prompt).with_max_new_tokens(6)
}

fn about(image: &str, selection: Selection) -> Request {
    words("What is it?").with_selection(selection).with_image(picture(image))
}

fn at(budget: &str) -> Selection {
    Selection::default().with_budget(budget.parse().unwrap())
}

fn go(_: Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Batches of requests of every kind.
fn batches() -> Vec<Vec<Request>> {
    let images: Vec<String> =
        cases().into_iter().filter(|c| c.model == MODEL).map(|c| c.image).collect();
    let image = |i: usize| images[i % images.len()].as_str();
    let drawn = |seed| {
        about(image(0), at("20%")).with_sampling(
            Sampling::default()
                .with_temperature(0.9)
                .with_top_k(40)
                .with_top_p(0.95)
                .with_seed(seed),
        )
    };
    let tuning = Tuning::default().with_prumerge(Counting::Budget);
    let strided = Tuning::default().with_spatial(Spacing::Stride);
    let nine = (0..9)
        .map(|i| about(image(i), at(["20%", "3", "full"][i % 3])).with_max_new_tokens(2 + i % 4));
    vec![
        vec![words("Words alone?")],
        vec![about(image(0), at("20%").with_newlines(Newlines::All))],
        vec![about(image(1), at("10%").with_alpha("0.25".parse().unwrap()))],
        // The block behind the features scores: its weights come later.
        vec![about(image(0), at("20%").with_final_layer(-1).with_init_layer(2))],
        vec![about(image(2), at("20%").with_method(Method::Full))],
        vec![about(image(3), at("1").with_rule(Rule::Repo))],
        vec![
            // More patches than the budget.
            about(image(1), at("40%").with_method(Method::Spatial).with_tuning(strided)),
            about(image(2), at("30%").with_method(Method::Random).with_seed(9)),
        ],
        vec![
            about(image(0), at("20%").with_method(Method::FasterVlm)),
            about(image(1), at("20%").with_heads(Heads::Max)),
            about(image(2), at("20%").with_method(Method::DivPrune)),
        ],
        vec![about(
            image(0),
            at("30%").with_method(Method::VisionZip).with_newlines(Newlines::All),
        )],
        vec![about(image(1), at("10%").with_method(Method::Scope))],
        vec![about(image(2), at("20%").with_method(Method::GlobalCom2))],
        vec![
            about(image(2), at("10%")),
            about(image(1), at("20%").with_method(Method::FastV)),
            words("No picture?"),
        ],
        vec![
            about(image(2), at("20%").with_method(Method::PruMergePlus).with_tuning(tuning)),
            about(image(0), at("20%").with_method(Method::PruMerge)),
        ],
        vec![drawn(1), drawn(2), words("Nothing to see?")],
        // What the host draws, alone and beside what the device could.
        vec![words("Again?").with_sampling(Sampling::default().with_repetition_penalty(1.3))],
        vec![
            about(image(0), at("20%")).with_sampling(
                Sampling::default()
                    .with_temperature(0.9)
                    .with_min_p(0.05)
                    .with_repetition_penalty(1.2),
            ),
            drawn(3),
            about(image(1), at("1").with_rule(Rule::Repo))
                .with_sampling(Sampling::default().with_temperature(1.0).with_min_p(0.2)),
        ],
        // More than decode together.
        nine.collect(),
        vec![about(image(1), at("1")).with_max_new_tokens(1)],
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

/// Rows without a class token before them, and scores that are what patches receive.
#[test]
fn a_tower_without_a_class_token_gives_what_the_cpu_gives() {
    for sm in ["61", "80"] {
        let output = Emulator::build(Build::Plain, &[])
            .child("child_without_class_token", &[("HIRED_EMULATOR_SM", sm)]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
#[ignore = "child"]
fn child_without_class_token() {
    let engines = [Device::Cpu, Device::Cuda(None)].map(|d| engine_of("next-siglip", d));
    let [mut cpu, mut cuda] = engines;
    let case = cases().into_iter().find(|c| c.model == "next-siglip" && c.grid.is_some()).unwrap();
    // The model has two layers, of which the first drops.
    let early = Tuning::default().with_fastv_layer(1);
    let with = |method| {
        let selection = at("20%").with_method(method).with_tuning(early.clone());
        selection.with_newlines(Newlines::All)
    };
    let mut selections = vec![
        at("30%").with_rule(Rule::Paper),
        at("30%").with_rule(Rule::Repo).with_heads(Heads::Max),
        at("20%").with_final_layer(-1),
        at("20%").with_init_layer(1),
    ];
    let methods = [Method::Hired, Method::FasterVlm, Method::Scope, Method::DivPrune];
    selections.extend(methods.into_iter().chain([Method::FastV, Method::Random]).map(with));
    for selection in selections {
        let request = about(&case.image, selection.clone()).with_keep_stages(true);
        let wanted = cpu.generate(&request, go).unwrap();
        let got = cuda.generate(&request, go).unwrap();
        let [of_cpu, of_cuda] = [&wanted, &got].map(|answer| answer.stages.as_ref().unwrap());
        for scores in [
            [&of_cpu.cls_attention_init, &of_cuda.cls_attention_init],
            [&of_cpu.cls_attention_final, &of_cuda.cls_attention_final],
        ] {
            let [wanted, got] = scores.map(|scores| scores.as_ref().unwrap());
            let far = |(a, b): (&f32, &f32)| (a - b).abs() > 2e-6 && !(a.is_nan() && b.is_nan());
            assert!(!wanted.iter().zip(got).any(far), "{selection:?}");
        }
        let memory = got.memory;
        assert_eq!(memory.peak, memory.predicted_peak, "{selection:?}: {memory:?}");
        assert_eq!((&got.text, &got.visual), (&wanted.text, &wanted.visual), "{selection:?}");
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
            // Where the number of rows is what the picture says, or the host chooses.
            let waits = match method {
                Method::GlobalCom2 => true,
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
    let long = words("And so on?").with_max_new_tokens(200_000);
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
        about("square-96x96.png", at("10%")).with_keep_stages(true).with_max_new_tokens(2);
    for dtype in [Dtype::F16, Dtype::F32] {
        let options = || options(Device::Cuda(None)).with_dtype(dtype);
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
    let request = about(&cases()[0].image, at("1")).with_max_new_tokens(1);
    let budget_within = |engine: &mut Engine, seconds| {
        engine.largest_budget(std::slice::from_ref(&request), Limit::Ttft(seconds))
    };
    let ttft = engine.generate(&request, go).unwrap().timings.ttft;
    let refused = budget_within(&mut engine, ttft / 100.0).unwrap_err();
    assert!(matches!(refused, hired::Error::Capacity(_)), "{refused}");
    let count = budget_within(&mut engine, ttft * 100.0).unwrap();
    // What was measured with is given back: the answer needs what it always needs.
    let request = request.with_selection(at(&count.to_string()));
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
    let short = words("Some words?").with_ignore_eos(true);
    let long = words("And many more?").with_ignore_eos(true).with_max_new_tokens(150);
    let batch = [short, long];
    let wanted = engine(Device::Cpu).generate_batch(&batch, go).unwrap();
    let told = [None, Some(20_000)].map(|kv_tokens| {
        let options = options(Device::Cuda(None)).with_kv_tokens(kv_tokens);
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
    let long = words("And so on?").with_max_new_tokens(2000);
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
        let options = options(Device::Cuda(None)).with_dtype(dtype);
        let request = words("What is it?").with_max_new_tokens(2);
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
