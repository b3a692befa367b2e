//! What the decoder attends to, against transformers' eager attention, on the CPU and on the emulator; and
//! `hired attention`.

mod common;

use common::golden::fixture;
use hired::engine::{Attention, PromptRow};
use hired::{Budget, Device, Dtype, Engine, EngineOptions, Image, Method, Request, Selection};
use safetensors::SafeTensors;
use std::collections::HashMap;

struct Golden {
    request: Request,
    tokens: Vec<u32>,
    /// By token and layer.
    weights: Vec<Vec<Vec<f32>>>,
    model: String,
}

fn golden(model: &str) -> Golden {
    let bytes = std::fs::read(fixture(format!("golden/attention-{model}.safetensors"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let about: HashMap<String, String> = header.metadata().clone().unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let tokens: Vec<i64> = bytemuck::pod_collect_to_vec(stored.tensor("tokens").unwrap().data());
    let weights = (0..tokens.len()).map(|step| {
        let tensor = stored.tensor(&format!("step.{step}")).unwrap();
        let numbers: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
        numbers.chunks(tensor.shape()[1]).map(<[f32]>::to_vec).collect()
    });
    let image = std::fs::read(fixture(format!("images/{}", about["image"]))).unwrap();
    let request = Request::new(&about["prompt"])
        .with_image(Image::encoded(about["image"].clone(), image))
        .with_selection(Selection::default().with_budget(Budget::Full))
        .with_max_new_tokens(tokens.len())
        .with_ignore_eos(true);
    Golden {
        request,
        weights: weights.collect(),
        tokens: tokens.into_iter().map(|id| id as u32).collect(),
        model: about["model"].clone(),
    }
}

fn engine(model: &str, device: Device) -> hired::Result<Engine> {
    let options = EngineOptions::default().with_device(device).with_dtype(Dtype::F32);
    Engine::load(fixture(format!("models/{model}")), options)
}

fn check(golden: &Golden, told: &Attention) {
    assert_eq!(told.answer.token_ids, golden.tokens);
    assert_eq!(told.rows.len(), told.answer.prompt_tokens);
    assert_eq!(told.weights.len(), golden.weights.len());
    for (step, (ours, theirs)) in told.weights.iter().zip(&golden.weights).enumerate() {
        assert_eq!(ours.len(), theirs.len());
        for (layer, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            assert_eq!(ours.len(), told.rows.len() + step);
            assert!((ours.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            for (row, (a, b)) in ours.iter().zip(theirs).enumerate() {
                assert!((a - b).abs() <= 2e-5, "{step} {layer} {row}: {a} {b}");
            }
        }
    }
}

#[test]
fn weights_are_those_of_transformers() {
    for model in ["next-hub", "next-mistral", "llava15"] {
        let golden = golden(model);
        let mut engine = engine(&golden.model, Device::Cpu).unwrap();
        let told = engine.attention(&golden.request).unwrap();
        check(&golden, &told);
        // The image's rows lie where the prompt has them, all patches of the full image first.
        let visual = told.answer.visual.as_ref().unwrap();
        let patches: Vec<_> = (told.rows.iter())
            .filter_map(|row| match row {
                PromptRow::Patch { partition, patch } => Some((*partition, *patch)),
                _ => None,
            })
            .collect();
        assert_eq!(patches.len(), visual.kept);
        assert_eq!(patches[1], (0, 1));
        assert!(matches!(told.rows[0], PromptRow::System));
        assert!(matches!(told.rows[told.rows.len() - 1], PromptRow::Text));
        // The next request is answered as ever.
        let again = engine.generate(&golden.request, |_| std::ops::ControlFlow::Continue(()));
        assert_eq!(again.unwrap().token_ids, golden.tokens);
    }
}

#[test]
fn what_has_no_place_in_the_image_is_refused() {
    let golden = golden("next-hub");
    let mut engine = engine(&golden.model, Device::Cpu).unwrap();
    for (method, word) in
        [(Method::FastV, "inside the language model"), (Method::PruMerge, "merges")]
    {
        let selection = Selection::default().with_method(method);
        let request = golden.request.clone().with_selection(selection);
        let message = engine.attention(&request).unwrap_err().to_string();
        assert!(message.contains(word) && message.contains(&method.to_string()), "{message}");
    }
    // A request without an image has its tokens alone.
    let told = engine.attention(&golden.request.clone().with_image(None)).unwrap();
    assert!(told.rows.iter().all(|row| *row == PromptRow::System));
}

#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
#[path = "support/emulator.rs"]
mod emulator;

/// The same on the emulator, on each code path.
#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
#[test]
fn weights_on_a_device_are_those_of_transformers() {
    let emulator = emulator::Emulator::build(emulator::Build::Plain, &[]);
    for sm in ["61", "80"] {
        let output = emulator.child("child_weights", &[("HIRED_EMULATOR_SM", sm)]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "sm_{sm}: {said}");
    }
}

#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
#[test]
#[ignore = "child"]
fn child_weights() {
    for model in ["next-hub", "next-mistral", "llava15"] {
        let golden = golden(model);
        let mut engine = engine(&golden.model, Device::Cuda(None)).unwrap();
        check(&golden, &engine.attention(&golden.request).unwrap());
        let again = engine.generate(&golden.request, |_| std::ops::ControlFlow::Continue(()));
        let again = again.unwrap();
        assert_eq!(again.token_ids, golden.tokens);
        assert_eq!(again.memory.peak, again.memory.predicted_peak);
    }
}

#[cfg(feature = "cli")]
mod program {
    use super::{fixture, golden};
    use serde_json::Value;
    use std::process::Command;

    /// Towers without a class token, and a canvas that is shrunk: what patches receive stands for it.
    #[test]
    fn a_tower_without_a_class_token_has_a_heatmap() {
        let dir = tempfile::tempdir().unwrap();
        for model in ["next-siglip", "onevision"] {
            let png = dir.path().join(format!("{model}.png"));
            let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
            command.args(["attention", "--device", "cpu", "--json", "--max-new-tokens", "2"]);
            command.arg("--model").arg(fixture(format!("models/{model}"))).arg("--image");
            command.arg(fixture("images/street-640x427.png")).args(["--prompt", "What is it?"]);
            let output = command.args(["--vision-layers", "0,1", "--heatmap"]).arg(&png).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(told["tokens"]["visual"].as_u64().unwrap() > 1, "{model}");
            assert!(image::open(png).unwrap().height() > 100);
        }
    }

    #[test]
    fn figures_are_sums_of_the_weights() {
        let dir = tempfile::tempdir().unwrap();
        let [svg, png] = ["a.svg", "a.png"].map(|name| dir.path().join(name));
        let golden = golden("next-hub");
        let image = fixture("images/board-420x230.png");
        let run = |more: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
            command.args(["attention", "--device", "cpu", "--json", "--max-new-tokens", "6"]);
            command.arg("--model").arg(fixture("models/next-hub")).arg("--image").arg(&image);
            command.args(["--prompt", "What is shown in this image?"]).args(more);
            let output = command.output().unwrap();
            (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
        };
        let (svg_path, png_path) = (svg.to_str().unwrap(), png.to_str().unwrap());
        let drawn = ["--plot", svg_path, "--heatmap", png_path, "--vision-layers", "0,-3"];
        let (status, stdout, said) = run(&drawn);
        assert_eq!(status, Some(0), "{said}");
        let told: Value = serde_json::from_slice(&stdout).unwrap();
        let number = |value: &Value| value.as_f64().unwrap();
        let kinds = ["system", "visual", "newline", "text", "answer"];
        let layers = told["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 3);
        for shares in layers.iter().chain(told["steps"].as_array().unwrap()) {
            let all: f64 = kinds.iter().map(|kind| number(&shares["shares"][*kind])).sum();
            assert!((all - 1.0).abs() < 1e-4, "{shares}");
        }
        // The first token's row in transformers' numbers: the prompt begins with the tokens before the image.
        let system = told["tokens"]["system"].as_u64().unwrap() as usize;
        let steps = golden.weights.len().min(told["steps"].as_array().unwrap().len());
        assert_eq!(steps, 6);
        for (layer, told) in layers.iter().enumerate() {
            let sums = golden.weights.iter().map(|step| step[layer][..system].iter().sum::<f32>());
            let mean = f64::from(sums.sum::<f32>()) / steps as f64;
            assert!((mean - number(&told["shares"]["system"])).abs() < 1e-4, "{layer}");
        }
        let shares: Vec<f64> =
            told["cumulative"].as_array().unwrap().iter().map(|c| number(&c["share"])).collect();
        assert!(shares.is_sorted() && shares[shares.len() - 1] < 1.0);
        for top in told["top"].as_array().unwrap() {
            let counts = top["partitions"].as_array().unwrap().iter();
            let sum: u64 = counts.map(|count| count.as_u64().unwrap()).sum();
            assert_eq!(sum, top["count"].as_u64().unwrap());
        }
        assert!(std::fs::read_to_string(svg).unwrap().contains("attention by kind of token"));
        let heat = image::open(png).unwrap();
        assert!(heat.width() > 2 * 300 && heat.height() > 300);

        let (status, stdout, _) = run(&["--layers", "0,-1"]);
        assert_eq!(status, Some(0));
        let told: Value = serde_json::from_slice(&stdout).unwrap();
        let numbers: Vec<&Value> =
            told["layers"].as_array().unwrap().iter().map(|of| &of["layer"]).collect();
        assert_eq!(numbers, [0, 2]);
        let (status, _, said) = run(&["--layers", "3"]);
        assert!(status == Some(2) && said.contains("layers 0 to 2"), "{said}");
        let (status, _, said) = run(&["--method", "fastv", "--budget", "20%"]);
        assert!(status == Some(1) && said.contains("fastv"), "{said}");
    }
}
