//! Whole requests with integer weights on the CUDA executor, on the emulator: the CPU's tokens, and the memory that was
//! predicted.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

mod common;
#[path = "support/emulator.rs"]
mod emulator;

use common::folder::{edit_tensor, model_copy};
use common::integers::{Golden, folder};
use emulator::{Build, Emulator};
use hired::format::Dtype;
use hired::quant::{Quantization, Scheme, Scope, quantize};
use hired::{
    Answer, Budget, Device, Engine, EngineOptions, Image, Preset, Prompt, Request, Selection,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/models").join(name)
}

fn demo() -> PathBuf {
    root().join("demo/model")
}

fn image() -> Image {
    let path = root().join("tests/fixtures/images/board-420x230.png");
    Image::encoded("board-420x230.png", std::fs::read(path).unwrap())
}

fn options(device: Device, dtype: Dtype) -> EngineOptions {
    EngineOptions::default().with_device(device).with_dtype(dtype)
}

fn quantized(scheme: Scheme, scope: Scope, device: Device, dtype: Dtype) -> EngineOptions {
    options(device, dtype).with_quantization(Quantization { scheme, scope })
}

fn request(words: &str, budget: &str) -> Request {
    let budget: Budget = budget.parse().unwrap();
    Request::new(words)
        .with_image(image())
        .with_selection(Selection::default().with_budget(budget))
        .with_max_new_tokens(3)
        .with_ignore_eos(true)
        .with_keep_stages(true)
}

/// Answers, alone and together, with the memory that was predicted, and the logits of their first tokens.
fn answers(
    engine: &mut Engine,
    requests: &[Request],
    what: &str,
) -> (Vec<Vec<u32>>, Vec<Vec<f32>>) {
    let on_card = engine.card().is_some();
    let go = |_: hired::Event<'_>| ControlFlow::Continue(());
    let (mut tokens, mut logits) = (Vec::new(), Vec::new());
    for request in requests {
        let Answer { token_ids, memory, stages, .. } = engine.generate(request, go).unwrap();
        assert_eq!(memory.peak, memory.predicted_peak, "{what}: {memory:?}");
        if on_card {
            assert_eq!(memory.peak as u64, emulator::stats().device_bytes, "{what}");
        }
        tokens.push(token_ids);
        logits.push(stages.unwrap().prefill_logits);
    }
    let together = engine.generate_batch(requests, go).unwrap();
    assert_eq!(together.iter().map(|a| a.token_ids.clone()).collect::<Vec<_>>(), tokens, "{what}");
    (tokens, logits)
}

/// Distance of logits beside their size.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (off / a.iter().map(|a| square(*a)).sum::<f64>()).sqrt()
}

fn on_emulator(test: &str) {
    let emulator = Emulator::build(Build::Plain, &[]);
    for sm in ["61", "75", "80"] {
        let output = emulator.child(test, &[("HIRED_EMULATOR_SM", sm)]);
        let words = [output.stdout, output.stderr].concat();
        let words = String::from_utf8_lossy(&words);
        assert!(output.status.success(), "sm_{sm}: {words}");
        print!("sm_{sm}: {words}");
    }
}

const SCOPES: [Scope; 2] = [Scope::Llm, Scope::All];

/// In fp32. Products are equal to the bit, but norms and softmax differ by roundings. Where one of these moves a code by
/// one, attention carries that to all rows, whose codes move in turn: such logits are as far apart as int8 is from what it
/// rounds (so far 3%; others 1e-6), and random models, whose best tokens are close, may go on differently after a few.
#[test]
fn every_fixture_answers_as_the_cpu_does() {
    on_emulator("child_fixtures");
}

#[test]
#[ignore = "child"]
fn child_fixtures() {
    let mut cases = vec![(fixture("next-hub"), Scheme::Q8)];
    // One code path has all of them.
    if std::env::var("HIRED_EMULATOR_SM").as_deref() == Ok("61") {
        let folders = std::fs::read_dir(root().join("tests/fixtures/models")).unwrap();
        cases = folders.map(|entry| (entry.unwrap().path(), Scheme::Q8)).collect();
        cases.sort_by(|a, b| a.0.cmp(&b.0));
        assert!(cases.len() > 10);
        let narrow = ["next-hub", "next-llama3", "llava-phi3"];
        cases.extend(narrow.map(|name| (fixture(name), Scheme::Q4 { group: 32 })));
        cases.push((demo(), Scheme::Q8));
        cases.push((demo(), Scheme::Q4 { group: 128 }));
    }
    cases.push((demo(), Scheme::Q4 { group: 32 }));
    let requests = [request("What is it?", "full"), request("Where is this?", "20%")];
    let (mut compared, mut different) = (0, 0);
    for (folder, scheme) in cases {
        for scope in SCOPES {
            let what = format!("{} {scheme} {}", folder.display(), scope.name());
            let [cpu, cuda] = [Device::Cpu, Device::Cuda(None)].map(|device| {
                let options = quantized(scheme, scope, device, Dtype::F32);
                answers(&mut Engine::load(&folder, options).unwrap(), &requests, &what)
            });
            // Only a random model in int8 may go on differently, as said above, and the first token may not.
            let may_tie = scheme == Scheme::Q8 && folder != demo();
            let bound = if scheme == Scheme::Q8 { 0.06 } else { 1e-4 };
            for request in 0..requests.len() {
                let off = apart(&cuda.1[request], &cpu.1[request]);
                assert!(off < bound, "{what}: logits {off:.1e} apart");
                println!("{what}: logits {off:.1e} apart");
                let (cuda, cpu) = (&cuda.0[request], &cpu.0[request]);
                assert!(cuda == cpu || may_tie && cuda[0] == cpu[0], "{what}: {cuda:?}, {cpu:?}");
                compared += 1;
                different += usize::from(cuda != cpu);
            }
        }
    }
    println!("{different} of {compared} answers go on differently");
    assert!(different * 10 <= compared, "too many to be chance");
}

/// With fp16 activations, as on a real card: the demo model's answers are far from ties.
#[test]
fn half_precision_answers_too() {
    on_emulator("child_half");
}

#[test]
#[ignore = "child"]
fn child_half() {
    let requests =
        [request("What number is on the yellow sign?", "full"), request("How many?", "20%")];
    for scheme in [Scheme::Q8, Scheme::Q4 { group: 64 }] {
        for scope in SCOPES {
            let what = format!("{scheme} {}", scope.name());
            let [cpu, cuda] = [Device::Cpu, Device::Cuda(None)].map(|device| {
                let dtype = if device == Device::Cpu { Dtype::F32 } else { Dtype::F16 };
                let options = quantized(scheme, scope, device, dtype);
                answers(&mut Engine::load(demo(), options).unwrap(), &requests, &what)
            });
            let first = |all: &[Vec<u32>]| all.iter().map(|tokens| tokens[0]).collect::<Vec<_>>();
            assert_eq!(first(&cuda.0), first(&cpu.0), "{what}");
        }
    }
}

/// A folder that was quantised before, and weights that are in no file.
#[test]
fn folders_and_synthetic_weights_are_those_that_are_quantised_while_they_load() {
    let output = Emulator::build(Build::Plain, &[]).child("child_folders", &[]);
    let words = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&words));
}

#[test]
#[ignore = "child"]
fn child_folders() {
    let go = |_, _| ControlFlow::Continue(());
    let dir = tempfile::tempdir().unwrap();
    let requests = [request("What is it?", "20%")];
    for (number, scheme) in [Scheme::Q8, Scheme::Q4 { group: 32 }].into_iter().enumerate() {
        let out = dir.path().join(number.to_string());
        quantize(&demo(), &out, scheme, Scope::All, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let loaded = quantized(scheme, Scope::All, Device::Cuda(None), Dtype::F16);
        let made = answers(&mut Engine::load(demo(), loaded.clone()).unwrap(), &requests, "loaded");
        let plain = options(Device::Cuda(None), Dtype::F16);
        let stored = answers(&mut Engine::load(&out, plain).unwrap(), &requests, "stored");
        assert_eq!(made, stored, "{scheme}");
        // Logits of a few rows have kernels of their own.
        let loaded = quantized(scheme, Scope::All, Device::Cuda(None), Dtype::F16);
        let mut engine = Engine::load(demo(), loaded).unwrap();
        for count in [3, 5] {
            let batch = vec![request("How many?", "20%").with_max_new_tokens(3); count];
            let told = engine.generate_batch(&batch, |_| ControlFlow::Continue(())).unwrap();
            assert!(told.iter().all(|answer| answer.token_ids == told[0].token_ids), "{count}");
            let alone = engine.generate(&batch[0], |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(told[0].token_ids[0], alone.token_ids[0], "{count}");
        }
    }
    let mut cases = Vec::new();
    for device in [Device::Cpu, Device::Cuda(None)] {
        let options = quantized(Scheme::Q8, Scope::All, device, Dtype::F32);
        let mut engine = Engine::synthetic(Preset::Tiny, 3, options, go).unwrap();
        let request = request("", "20%").with_prompt(Prompt::Raw("<image> what".into()));
        cases.push(answers(&mut engine, &[request], "synthetic"));
    }
    assert_eq!(cases[0].0, cases[1].0);
    assert!(apart(&cases[0].1[0], &cases[1].1[0]) < 0.06);
}

/// Folders of other tools, with codes in groups and zero points: transformers' tokens, alone and in batches.
#[test]
fn folders_of_others_answer_as_transformers_does() {
    on_emulator("child_others");
}

#[test]
#[ignore = "child"]
fn child_others() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["awq", "awq-fused", "int4-channel", "int8-group", "int8-channel"] {
        let (path, golden) = folder(dir.path(), kind, |_, _| {});
        let Golden { image, prompt, logits, tokens } = golden;
        let full = Request::new(prompt)
            .with_image(image)
            .with_selection(Selection::default().with_budget(Budget::Full))
            .with_max_new_tokens(tokens.len())
            .with_ignore_eos(true)
            .with_keep_stages(true);
        let fewer = full.clone().with_selection(Selection::default());
        let requests = [full, fewer];
        let [cpu, cuda] = [Device::Cpu, Device::Cuda(None)].map(|device| {
            let mut engine = Engine::load(&path, options(device, Dtype::F32)).unwrap();
            answers(&mut engine, &requests, kind)
        });
        assert_eq!(cuda.0, cpu.0, "{kind}");
        assert_eq!(cuda.0[0], tokens, "{kind}");
        let off = apart(&logits, &cuda.1[0]);
        assert!(off < 1e-4, "{kind}: logits {off:.1e} from those of transformers");
        // With fp16 activations, as on a real card.
        let half = options(Device::Cuda(None), Dtype::F16);
        let half = answers(&mut Engine::load(&path, half).unwrap(), &requests, kind);
        let off = apart(&logits, &half.1[0]);
        assert!(off < 0.02, "{kind}: logits {off:.1e} from those of transformers in fp16");
        println!("{kind}: logits {off:.1e} apart in fp16");
    }
}

/// A number that is not finite ends in the error that it ends in without integers.
#[test]
fn rows_that_are_not_finite_are_an_error() {
    let output = Emulator::build(Build::Plain, &[]).child("child_infinite", &[]);
    let words = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&words));
}

#[test]
#[ignore = "child"]
fn child_infinite() {
    let folder = model_copy("next-hub");
    // Rows of the first block are infinite before they are rounded.
    edit_tensor(folder.path(), "language_model.model.layers.0.input_layernorm.weight", |w| {
        w[0] = f32::INFINITY
    });
    for scope in SCOPES {
        for device in [Device::Cpu, Device::Cuda(None)] {
            let options = quantized(Scheme::Q8, scope, device, Dtype::F32);
            let mut engine = Engine::load(folder.path(), options).unwrap();
            let refused = engine
                .generate(&request("What?", "20%"), |_| ControlFlow::Continue(()))
                .unwrap_err();
            assert!(matches!(refused, hired::Error::Numeric(_)), "{}: {refused}", scope.name());
        }
    }
}
