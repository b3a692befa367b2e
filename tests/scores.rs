//! Scores and methods beyond those of tests/parity.rs, against transformers' attention and rows and numpy's choice
//! (`tools/fixtures/scores.py`): SigLIP's pooling head, what InternVL's patches receive, added up over a token's four, and
//! the features and projected rows of such tokens. On the CPU, and on the emulator for three code paths.
#![cfg(feature = "image-formats")]

mod common;
#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
#[path = "support/emulator.rs"]
mod emulator;

use common::golden::{Golden, fixture};
use hired::engine::{Answer, Device, Dtype, Engine, EngineOptions, Gemm, Image, Request};
use hired::image::Resample;
use hired::select::{Method, Score, Selection};
use serde::Deserialize;
use std::ops::ControlFlow;

const SCORES: f32 = 1e-5;
/// Of the largest logit.
const RELATIVE: f32 = 1e-4;

#[derive(Deserialize)]
struct Case {
    model: String,
    image: String,
    prompt: String,
    golden: String,
    method: String,
    /// Where the method looks at one.
    score: Option<String>,
    heads: String,
    budget: String,
}

impl Case {
    fn all() -> Vec<Self> {
        let text = std::fs::read_to_string(fixture("golden/scores.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn selection(&self) -> Selection {
        let selection = Selection::default()
            .with_method(self.method.parse().unwrap())
            .with_heads(self.heads.parse().unwrap())
            .with_budget(self.budget.parse().unwrap());
        match &self.score {
            Some(score) => selection.with_score(score.parse::<Score>().unwrap()),
            None => selection,
        }
    }

    fn request(&self, selection: Selection) -> Request {
        let bytes = std::fs::read(fixture("images").join(&self.image)).unwrap();
        Request::new(self.prompt.clone())
            .with_image(Image::encoded(&self.image, bytes))
            .with_selection(selection)
            .with_max_new_tokens(32)
            .with_keep_stages(true)
    }
}

fn load(model: &str, device: Device) -> Engine {
    let options = EngineOptions::default()
        .with_device(device)
        .with_dtype(Dtype::F32)
        .with_resample(Resample::Pillow)
        .with_gemm(Gemm::Own);
    Engine::load(fixture("models").join(model), options).unwrap()
}

fn ask(engine: &mut Engine, request: &Request) -> hired::Result<Answer> {
    engine.generate(request, |_| ControlFlow::Continue(()))
}

fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let far = |(a, b): (&f32, &f32)| (a - b).abs();
    got.iter().zip(want).map(far).fold(0.0, |most, d| if d.is_nan() { d } else { most.max(d) })
}

/// Sums of rows by column, plain and weighted by (i+1)/K.
fn moments(rows: &[f32], width: usize) -> [Vec<f32>; 2] {
    let count = (rows.len() / width) as f64;
    let sum = |weight: &dyn Fn(usize) -> f64| {
        let mut sums = vec![0.0f64; width];
        for (i, row) in rows.chunks_exact(width).enumerate() {
            sums.iter_mut().zip(row).for_each(|(s, &x)| *s += weight(i) * f64::from(x));
        }
        sums.into_iter().map(|x| x as f32).collect()
    };
    [sum(&|_| 1.0), sum(&|i| (i + 1) as f64 / count)]
}

fn every_case(device: Device) {
    let mut engine: Option<(String, Engine)> = None;
    for case in Case::all() {
        if engine.as_ref().is_none_or(|(model, _)| *model != case.model) {
            engine = Some((case.model.clone(), load(&case.model, device)));
        }
        let engine = &mut engine.as_mut().unwrap().1;
        let golden = Golden::read(format!("{} {}", case.model, case.golden), &case.golden);
        let what = &golden.name;
        let answer = ask(engine, &case.request(case.selection())).unwrap();
        let (visual, stages) = (answer.visual.unwrap(), answer.stages.unwrap());
        let kept: Vec<i64> = visual.kept_indices.iter().flatten().map(|&i| i64::from(i)).collect();
        let counts: Vec<i64> = visual.kept_indices.iter().map(|k| k.len() as i64).collect();
        assert_eq!(counts, golden.i64("kept_counts"), "{what}");
        assert_eq!(kept, golden.i64("kept"), "{what}");
        if golden.has("final") {
            let last = stages.cls_attention_final.as_ref().unwrap();
            let far = difference(last, &golden.f32("final"));
            assert!(far < SCORES, "{what}: final scores differ by {far:e}");
        }
        if golden.has("init") && visual.partitions > 1 {
            let want = golden.f32("init");
            let init = &stages.cls_attention_init.as_ref().unwrap()[..want.len()];
            let far = difference(init, &want);
            assert!(far < SCORES, "{what}: init scores differ by {far:e}");
        }
        let rows = stages.visual_tokens.as_ref().unwrap();
        let range = rows.iter().fold(0.0f32, |most, x| most.max(x.abs())) * kept.len() as f32;
        for (sums, name) in moments(rows, stages.hidden).iter().zip(["sum", "weighted"]) {
            let far = difference(sums, &golden.f32(&format!("visual_tokens.{name}"))) / range;
            assert!(far < RELATIVE, "{what}: visual tokens differ by {far:e}");
        }
        let want = golden.f32("logits");
        let largest = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let far = difference(&stages.prefill_logits, &want) / largest;
        assert!(far < RELATIVE, "{what}: logits differ by {far:e}");
        let tokens: Vec<i64> = answer.token_ids.iter().map(|&id| i64::from(id)).collect();
        assert_eq!(tokens, golden.i64("tokens"), "{what}");
        assert_eq!(answer.memory.peak, answer.memory.predicted_peak, "{what}");
    }
}

#[test]
fn other_scores_and_rows_are_those_of_transformers() {
    // One of each kind at least: none may get lost when the data is made anew.
    let kinds: Vec<_> = Case::all().into_iter().map(|c| (c.model, c.score, c.method)).collect();
    for wanted in [
        ("next-siglip", Some("head"), "hired"),
        ("llava-siglip", Some("head"), "hired"),
        ("internvl-qwen2", Some("received"), "hired"),
        ("internvl-qwen3", Some("received"), "scope"),
        ("internvl-qwen2", Some("cls"), "scope"),
        ("internvl-qwen3", None, "divprune"),
    ] {
        let is_there =
            |(m, s, k): &(String, Option<String>, String)| (&**m, s.as_deref(), &**k) == wanted;
        assert!(kinds.iter().any(is_there), "no case {wanted:?}");
    }
    every_case(Device::Cpu);
}

/// A sweep looks at the pooling head beside blocks, and each selection gets what it gets alone.
#[test]
fn a_sweep_sees_the_pooling_head_beside_other_scores() {
    let case = Case::all().remove(0);
    let selections: Vec<Selection> = [Score::Received, Score::Head]
        .into_iter()
        .flat_map(|score| {
            [Method::Hired, Method::FasterVlm, Method::Scope]
                .map(|method| case.selection().with_method(method).with_score(score))
        })
        .collect();
    let mut engine = load(&case.model, Device::Cpu);
    let alone: Vec<Answer> = selections
        .iter()
        .map(|selection| ask(&mut engine, &case.request(selection.clone())).unwrap())
        .collect();
    assert_ne!(alone[0].visual, alone[3].visual);
    let image = case.request(selections[0].clone()).images()[0].clone();
    let request = case.request(selections[0].clone());
    let swept =
        engine.sweep(&image, &[request], &selections, || ControlFlow::Continue(())).unwrap();
    for (one, of_sweep) in alone.iter().zip(&swept) {
        assert_eq!(one.visual, of_sweep[0].visual);
        assert_eq!(one.token_ids, of_sweep[0].token_ids);
    }
}

#[test]
fn a_pooling_head_that_is_not_there_is_named_with_a_way_out() {
    let case = Case::all().remove(0);
    for (model, words) in [
        ("onevision", ["vision_tower.vision_model.head.*", "take received"]),
        ("next-hub", ["only SigLIP's has a pooling head", "take cls or received"]),
        ("internvl-qwen2", ["only SigLIP's has a pooling head", "take cls or received"]),
    ] {
        let mut engine = load(model, Device::Cpu);
        let told = ask(&mut engine, &case.request(case.selection())).unwrap_err().to_string();
        assert!(told.starts_with("score head: "), "{model}: {told}");
        assert!(words.iter().all(|word| told.contains(word)), "{model}: {told}");
        assert!(!told.contains('\n'), "{model}: {told}");
        // A method that looks at no score has nothing to miss.
        let other = case.selection().with_method(Method::Spatial);
        ask(&mut engine, &case.request(other)).unwrap();
    }
}

#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
mod cuda {
    use super::*;
    use emulator::{Build, Emulator};

    fn child(build: Build, name: &str, sm: &str) {
        Emulator::build(build, &[]).passes(name, sm);
    }

    #[test]
    fn on_sm_61() {
        child(Build::Plain, "cuda::child_cases", "61");
    }

    #[test]
    fn on_sm_75() {
        child(Build::Plain, "cuda::child_cases", "75");
    }

    #[test]
    fn on_sm_80() {
        child(Build::Plain, "cuda::child_cases", "80");
    }

    #[test]
    fn the_address_sanitizer_finds_nothing() {
        child(Build::Asan, "cuda::child_head", "80");
    }

    #[test]
    #[ignore = "child"]
    fn child_cases() {
        every_case(Device::Cuda(None));
    }

    /// One case whose scores are the pooling head's.
    #[test]
    #[ignore = "child"]
    fn child_head() {
        let case = Case::all().remove(0);
        let request = case.request(case.selection()).with_max_new_tokens(2);
        let [cpu, cuda] = [Device::Cpu, Device::Cuda(None)]
            .map(|device| ask(&mut load(&case.model, device), &request).unwrap());
        assert_eq!(cpu.visual, cuda.visual);
        assert_eq!(cpu.token_ids, cuda.token_ids);
    }
}
