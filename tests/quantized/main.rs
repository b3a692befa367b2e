//! Requests with integer weights on the CPU: int4 against the same numbers in f32, int8 against what rounding costs, both
//! alone and in batches, with the memory that was predicted.

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod layers;
mod others;

use common::integers::Stored;
use half::f16;
use hired::quant::{Quantization, Scheme, Scope, quantize};
use hired::{
    Answer, Budget, Device, Engine, EngineOptions, Image, Preset, Prompt, Request, Selection,
};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn demo() -> PathBuf {
    root().join("demo/model")
}

fn image() -> Image {
    let path = root().join("demo/images/grid-2x2.png");
    Image::encoded("grid-2x2.png", std::fs::read(path).unwrap())
}

fn options(scheme: Scheme, scope: Scope) -> EngineOptions {
    let quantization = Quantization { scheme, scope };
    EngineOptions::default().with_device(Device::Cpu).with_quantization(quantization)
}

fn request(words: &str, budget: &str) -> Request {
    let budget: Budget = budget.parse().unwrap();
    Request::new(words)
        .with_image(image())
        .with_selection(Selection::default().with_budget(budget))
        .with_max_new_tokens(12)
        .with_ignore_eos(true)
        .with_keep_stages(true)
}

fn ask(engine: &mut Engine, request: &Request) -> Answer {
    engine.generate(request, |_| ControlFlow::Continue(())).unwrap()
}

const WORDS: [&str; 3] = [
    "What number is on the yellow sign?",
    "How many signs are there?",
    "What shape is the white sign?",
];

/// A copy of the demo model in f32 that holds the numbers of its quantised weights.
fn multiplied_out(scheme: Scheme, scope: Scope, folder: &Path) {
    let quantized = folder.with_extension("q");
    quantize(&demo(), &quantized, scheme, scope, &mut |_, _| ControlFlow::Continue(())).unwrap();
    std::fs::create_dir(folder).unwrap();
    for entry in std::fs::read_dir(demo()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    let bytes = std::fs::read(quantized.join("model.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let halves = |data: &[u8]| -> Vec<f32> {
        data.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
    };
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, tensor) in stored.tensors() {
        let numbers: Vec<f32> = if let Some(weight) = name.strip_suffix("_packed") {
            let scale = stored.tensor(&format!("{weight}_scale")).unwrap();
            let group = 8 * tensor.shape()[1] / scale.shape()[1];
            let scales = halves(scale.data());
            let codes = tensor
                .data()
                .iter()
                .flat_map(|byte| [byte & 15, byte >> 4])
                .map(|c| f32::from(c) - 8.0);
            let numbers = codes.enumerate().map(|(i, code)| code * scales[i / group]).collect();
            let shape = vec![tensor.shape()[0], 8 * tensor.shape()[1]];
            tensors.insert(weight.to_owned(), (shape, Vec::new()));
            numbers
        } else if name.ends_with("weight_scale") || name.ends_with("weight_shape") {
            continue;
        } else {
            assert_eq!(tensor.dtype(), Dtype::F16, "{name}");
            tensors.insert(name.clone(), (tensor.shape().to_vec(), Vec::new()));
            halves(tensor.data())
        };
        let name = name.strip_suffix("_packed").unwrap_or(&name);
        tensors.get_mut(name).unwrap().1 = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    }
    let views = tensors.iter().map(|(name, (shape, data))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

#[test]
fn int4_answers_as_the_same_numbers_in_f32() {
    let dir = tempfile::tempdir().unwrap();
    for (number, (group, scope)) in [(32, Scope::Llm), (64, Scope::All)].into_iter().enumerate() {
        let scheme = Scheme::Q4 { group };
        let folder = dir.path().join(number.to_string());
        multiplied_out(scheme, scope, &folder);
        let dense = EngineOptions::default().with_device(Device::Cpu);
        let mut dense = Engine::load(&folder, dense).unwrap();
        let mut packed = Engine::load(demo(), options(scheme, scope)).unwrap();
        for words in WORDS {
            for budget in ["full", "20%"] {
                let request = request(words, budget);
                let [a, b] = [&mut dense, &mut packed].map(|engine| ask(engine, &request));
                assert_eq!(a.token_ids, b.token_ids, "{words} {budget} {scheme}");
                assert_eq!(a.visual, b.visual);
                let [a, b] = [a, b].map(|answer| answer.stages.unwrap().prefill_logits);
                let largest = a.iter().fold(0f32, |l, x| l.max(x.abs()));
                let off = a.iter().zip(&b).fold(0f32, |o, (a, b)| o.max((a - b).abs()));
                assert!(off <= 1e-5 * largest, "{off} of {largest}");
            }
        }
    }
}

#[test]
fn int8_costs_what_rounding_costs() {
    let mut dense =
        Engine::load(demo(), EngineOptions::default().with_device(Device::Cpu)).unwrap();
    for scope in [Scope::Llm, Scope::All] {
        let mut packed = Engine::load(demo(), options(Scheme::Q8, scope)).unwrap();
        let mut changed = false;
        for words in WORDS {
            let request = request(words, "full");
            let [a, b] = [&mut dense, &mut packed].map(|engine| ask(engine, &request));
            // What the demo model answers is far from a tie: the first token is the answer's.
            assert_eq!(a.token_ids[0], b.token_ids[0], "{words} {}", scope.name());
            let [a, b] = [a, b].map(|answer| answer.stages.unwrap().prefill_logits);
            let square = |x: f32| f64::from(x) * f64::from(x);
            let off: f64 = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum();
            let share = (off / a.iter().map(|a| square(*a)).sum::<f64>()).sqrt();
            assert!(share < 0.06, "{words} {}: {share}", scope.name());
            changed |= share > 1e-4;
        }
        assert!(changed, "integers were used");
    }
}

/// Every fixture that a scheme can take, alone and in a batch, with its memory.
#[test]
fn a_request_has_the_tokens_that_it_has_alone_and_the_memory_that_was_predicted() {
    let fixtures = root().join("tests/fixtures/models");
    let picture = std::fs::read(root().join("tests/fixtures/images/board-420x230.png")).unwrap();
    let folders = std::fs::read_dir(&fixtures).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<(PathBuf, Scheme)> = folders.map(|folder| (folder, Scheme::Q8)).collect();
    assert!(cases.len() > 10);
    cases.push((demo(), Scheme::Q8));
    cases.push((demo(), Scheme::Q4 { group: 128 }));
    // Of the small models those whose rows groups of 32 divide.
    for name in ["next-hub", "next-llama3", "llava-phi3"] {
        cases.push((fixtures.join(name), Scheme::Q4 { group: 32 }));
    }
    for (folder, scheme) in cases {
        for scope in [Scope::Llm, Scope::All] {
            let mut engine = Engine::load(&folder, options(scheme, scope)).unwrap();
            let ask_for = |words: &str, budget: &str| {
                request(words, budget)
                    .with_keep_stages(false)
                    .with_image(Image::encoded("board-420x230.png", picture.clone()))
            };
            let requests = [ask_for("What is it?", "full"), ask_for("Where is this?", "20%")];
            let alone = requests.each_ref().map(|request| {
                let answer = ask(&mut engine, request);
                assert_eq!(
                    answer.memory.peak,
                    answer.memory.predicted_peak,
                    "{}",
                    folder.display()
                );
                assert!(answer.memory.weights > 0);
                answer.token_ids
            });
            let together = engine.generate_batch(&requests, |_| ControlFlow::Continue(())).unwrap();
            let together: Vec<Vec<u32>> = together.into_iter().map(|a| a.token_ids).collect();
            assert_eq!(together, alone, "{} {scheme}", folder.display());
        }
    }
}

#[test]
fn synthetic_weights_are_those_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tiny");
    let tokenizer =
        hired::text::synth::tokenizer_json(Preset::Tiny.vocab(), Preset::Tiny.image_token());
    let go = &mut |_, _| ControlFlow::Continue(());
    hired::checkpoint::synth::write(Preset::Tiny, &folder, 3, &tokenizer, go).unwrap();
    let options = options(Scheme::Q8, Scope::All);
    let mut stored = Engine::load(&folder, options.clone()).unwrap();
    let mut made =
        Engine::synthetic(Preset::Tiny, 3, options, |_, _| ControlFlow::Continue(())).unwrap();
    let request =
        request("", "20%").with_keep_stages(false).with_prompt(Prompt::Raw("<image> what".into()));
    let [a, b] = [&mut stored, &mut made].map(|engine| ask(engine, &request).token_ids);
    assert_eq!(a, b);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let message = |folder: &Path, scheme| {
        Engine::load(folder, options(scheme, Scope::Llm)).map(|_| ()).unwrap_err().to_string()
    };
    let odd = root().join("tests/fixtures/models/llava15");
    let said = message(&odd, Scheme::Q4 { group: 32 });
    assert!(said.contains("48 numbers") && said.contains("smaller group, or q8"), "{said}");
    let said = message(&demo(), Scheme::Q4 { group: 16 });
    assert!(said.contains("32, 64 or 128"), "{said}");
}

/// A copy of the demo model with integer weights.
fn folder(dir: &Path, model: &Path, scheme: Scheme, scope: Scope) -> PathBuf {
    let out = dir.join(format!("{}-{}", scheme.name(), scope.name()));
    let _ = std::fs::remove_dir_all(&out);
    quantize(model, &out, scheme, scope, &mut |_, _| ControlFlow::Continue(())).unwrap();
    out
}

#[test]
fn a_quantised_folder_answers_as_the_dense_one_quantised_while_it_loads() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = |name| root().join("tests/fixtures/models").join(name);
    let both = &[Scope::Llm, Scope::All][..];
    for (model, scheme, scopes) in [
        (demo(), Scheme::Q8, both),
        (demo(), Scheme::Q4 { group: 64 }, both),
        (fixture("next-mistral"), Scheme::Q8, both),
        // Biases stay numbers; what is stored in one tensor is quantised as one and split when it is read.
        (fixture("next-qwen2"), Scheme::Q8, both),
        (fixture("llava-phi3"), Scheme::Q8, both),
        (fixture("llava-phi"), Scheme::Q8, both),
        (fixture("llava-phi3"), Scheme::Q4 { group: 64 }, &both[..1]),
    ] {
        for &scope in scopes {
            let out = folder(dir.path(), &model, scheme, scope);
            let mut made = Engine::load(&model, options(scheme, scope)).unwrap();
            let plain = EngineOptions::default().with_device(Device::Cpu);
            let mut stored = Engine::load(&out, plain).unwrap();
            for budget in ["full", "20%"] {
                let request = request(WORDS[0], budget);
                let [a, b] = [&mut made, &mut stored].map(|engine| ask(engine, &request));
                assert_eq!(a.token_ids, b.token_ids, "{scheme}");
                assert_eq!(
                    a.stages.unwrap().prefill_logits,
                    b.stages.unwrap().prefill_logits,
                    "{scheme} {}",
                    scope.name()
                );
                assert_eq!(a.memory.weights, b.memory.weights);
                assert_eq!(b.memory.peak, b.memory.predicted_peak);
            }
            let inspection =
                hired::inspect(&out, &EngineOptions::default(), &Selection::default()).unwrap();
            let dense =
                hired::inspect(&model, &EngineOptions::default(), &Selection::default()).unwrap();
            assert_eq!(inspection.parameters, dense.parameters);
            assert!(inspection.bytes < dense.bytes);
        }
    }
}

/// The quantised demo model with its tensors changed.
fn changed(dir: &Path, scheme: Scheme, change: impl FnOnce(&mut Stored)) -> PathBuf {
    let out = folder(dir, &demo(), scheme, Scope::Llm);
    let path = out.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Stored = stored
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, &path).unwrap();
    out
}

const WEIGHT: &str = "language_model.model.layers.1.mlp.up_proj.weight";

#[test]
fn folders_of_other_makers_keep_their_codes_and_scales() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = |path: &Path| {
        let mut engine =
            Engine::load(path, EngineOptions::default().with_device(Device::Cpu)).unwrap();
        ask(&mut engine, &request(WORDS[0], "20%")).stages.unwrap().prefill_logits
    };
    let expected = tokens(&folder(dir.path(), &demo(), Scheme::Q8, Scope::Llm));
    // Scales as f32, and as a vector instead of a column.
    let path = changed(dir.path(), Scheme::Q8, |tensors| {
        let (dtype, shape, data) = tensors.get_mut(&format!("{WEIGHT}_scale")).unwrap();
        *dtype = Dtype::F32;
        shape.truncate(1);
        *data = data
            .chunks(2)
            .flat_map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32().to_le_bytes())
            .collect();
    });
    assert_eq!(tokens(&path), expected);
    // Codes down to −128.
    let path = changed(dir.path(), Scheme::Q8, |tensors| {
        let (.., data) = tensors.get_mut(WEIGHT).unwrap();
        assert!(!data.contains(&0x80));
        data[..100].fill(0x80);
    });
    let other = tokens(&path);
    assert!(other != expected && other.iter().all(|x| x.is_finite()));
}

#[test]
fn damaged_integers_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let [q8, q4] = [Scheme::Q8, Scheme::Q4 { group: 64 }];
    let refused = |scheme, change: &dyn Fn(&mut Stored), words: &[&str]| {
        let path = changed(dir.path(), scheme, change);
        let options = EngineOptions::default().with_device(Device::Cpu);
        let message = Engine::load(&path, options).map(|_| ()).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert!(!message.contains('\n'));
    };
    let scale = format!("{WEIGHT}_scale");
    let (packed, shape) = (format!("{WEIGHT}_packed"), format!("{WEIGHT}_shape"));
    let name = "layers.1.mlp.up_proj.weight";
    for (number, value) in [(f16::NAN, "NaN"), (f16::INFINITY, "inf"), (f16::ZERO, "scale 0")] {
        for scheme in [q8, q4] {
            let change = |tensors: &mut Stored| {
                let (.., data) = tensors.get_mut(&scale).unwrap();
                let at = data.len() / 2;
                data[at..at + 2].copy_from_slice(&number.to_le_bytes());
            };
            refused(scheme, &change, &[&format!("{name}_scale"), "row 192", value]);
        }
    }
    for scheme in [q8, q4] {
        refused(scheme, &|t| drop(t.remove(&scale)), &[&format!("{name}_scale is missing")]);
        let halved = |tensors: &mut Stored| {
            let (_, shape, data) = tensors.get_mut(&scale).unwrap();
            shape[0] /= 2;
            data.truncate(data.len() / 2);
        };
        refused(scheme, &halved, &[&format!("{name}_scale"), "[192, ", "[384, "]);
    }
    refused(q4, &|t| drop(t.remove(&shape)), &[&format!("{name}_shape is missing")]);
    let lying = |tensors: &mut Stored| {
        let (.., data) = tensors.get_mut(&shape).unwrap();
        data[8..16].copy_from_slice(&256i64.to_le_bytes());
    };
    refused(q4, &lying, &[&format!("{name}_packed"), "[384, 16]", "[384, 32]"]);
    let negative = |tensors: &mut Stored| {
        let (.., data) = tensors.get_mut(&shape).unwrap();
        data[..8].copy_from_slice(&(-1i64).to_le_bytes());
    };
    refused(q4, &negative, &[&format!("{name}_shape"), "negative"]);
    let wide = |tensors: &mut Stored| {
        let (_, shape, data) = tensors.get_mut(&packed).unwrap();
        shape[0] *= 2;
        let more = data.clone();
        data.extend(more);
    };
    refused(q4, &wide, &[&format!("{name}_packed"), "[768, 16]"]);
    refused(q8, &|t| drop(t.remove(WEIGHT)), &[name, "none of the *.safetensors"]);

    // A configuration that says something else than the tensors.
    let lie = |scheme, from: &str, to: &str, words: &[&str]| {
        let path = folder(dir.path(), &demo(), scheme, Scope::Llm);
        let file = path.join("config.json");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from));
        std::fs::write(&file, text.replace(from, to)).unwrap();
        let options = EngineOptions::default().with_device(Device::Cpu);
        let message = Engine::load(&path, options).map(|_| ()).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word}: {message}");
        }
    };
    lie(q4, "\"group_size\": 64", "\"group_size\": 32", &["_scale", "[128, 2]", "[128, 4]"]);
    lie(q8, "quantization_config", "no_config", &["I8", "quantization_config"]);

    // Another wish than the folder's.
    let path = folder(dir.path(), &demo(), q8, Scope::Llm);
    let message = Engine::load(&path, options(q4, Scope::Llm)).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("q8") && message.contains("q4, groups of 64"), "{message}");
    let again = dir.path().join("again");
    let stop = &mut |_, _| ControlFlow::Continue(());
    let message = quantize(&path, &again, q4, Scope::Llm, stop).unwrap_err().to_string();
    assert!(message.contains("q8") && !again.exists(), "{message}");
}
