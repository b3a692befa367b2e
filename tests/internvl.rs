//! What is InternVL's alone: methods on tokens of four patches, prompts, sub-images that are not encoded.
#![cfg(feature = "image-formats")]

mod common;
#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
#[path = "support/emulator.rs"]
mod emulator;

use common::golden::{Case, Golden, cases, fixture};
use hired::engine::{Answer, Device, Engine, EngineOptions, Image, Prompt, Request};
use hired::image::Resample;
use hired::select::{Method, Rule, Selection};
use std::ops::ControlFlow;

const MODELS: [&str; 2] = ["internvl-qwen2", "internvl-qwen3"];

fn engine(model: &str) -> Engine {
    let options = EngineOptions::default().with_device(Device::Cpu).with_resample(Resample::Pillow);
    Engine::load(fixture("models").join(model), options).unwrap()
}

fn of_model(model: &str) -> Vec<Case> {
    cases().into_iter().filter(|case| case.model == model).collect()
}

fn image(case: &Case) -> Image {
    Image::encoded(&case.image, std::fs::read(fixture("images").join(&case.image)).unwrap())
}

fn at_20() -> Selection {
    Selection::default().with_budget("20%".parse().unwrap())
}

fn ask(engine: &mut Engine, request: &Request) -> hired::Result<Answer> {
    engine.generate(request, |_| ControlFlow::Continue(()))
}

#[test]
fn methods_choose_tokens_or_are_refused_by_name() {
    let case = of_model(MODELS[0]).into_iter().find(|case| case.partitions == 13).unwrap();
    let mut engine = engine(MODELS[0]);
    for &method in Method::ALL {
        let selection = at_20().with_method(method);
        let request = Request::new("What is it?").with_image(image(&case));
        let request = request.with_selection(selection).with_max_new_tokens(2);
        match ask(&mut engine, &request) {
            Ok(answer) => {
                let visual = answer.visual.unwrap();
                let wanted = if method == Method::Full { case.valid } else { visual.budget };
                assert_eq!(visual.kept, wanted, "{method}");
                assert_eq!((visual.merged, visual.newlines), (0, 0), "{method}");
                assert!(visual.kept_indices.iter().flatten().all(|&token| token < 16), "{method}");
                assert_eq!(answer.memory.peak, answer.memory.predicted_peak, "{method}");
            }
            Err(error) => {
                let told = error.to_string();
                assert!(told.contains("keys of single patches"), "{method}: {told}");
                assert!(told.starts_with(&method.to_string()), "{method}: {told}");
            }
        }
    }
}

/// LLaVA's spelling of an image's place and the model's own, and what stands around it.
#[test]
fn an_images_place_has_two_spellings() {
    let case = of_model(MODELS[1]).remove(0);
    let mut engine = engine(MODELS[1]);
    let ids = |engine: &mut Engine, prompt: Prompt| {
        let mut request = Request::new("").with_image(image(&case)).with_selection(at_20());
        request.prompt = prompt;
        let answer = ask(engine, &request.with_max_new_tokens(1).with_keep_stages(true)).unwrap();
        answer.stages.unwrap().input_ids
    };
    let own = ids(&mut engine, Prompt::Raw("a <IMG_CONTEXT> b".into()));
    assert_eq!(ids(&mut engine, Prompt::Raw("a <image> b".into())), own);
    let token = engine.config().image_token;
    let first = own.iter().position(|&id| id == token).unwrap();
    let last = own.iter().rposition(|&id| id == token).unwrap();
    // The fixture's ids of `<img>` and `</img>` are those before.
    assert_eq!([own[first - 1], own[last + 1]], [token - 2, token - 1]);
    // A question that holds either has no image there.
    for word in ["<image>", "<IMG_CONTEXT>"] {
        let request = Request::new(format!("what is {word}?")).with_image(image(&case));
        let told = ask(&mut engine, &request).unwrap_err().to_string();
        assert!(told.contains("literal"), "{told}");
        let request = request.with_literal(true).with_max_new_tokens(1);
        ask(&mut engine, &request).unwrap();
    }
}

#[test]
fn only_sub_images_with_a_budget_are_encoded() {
    let mut skipped = 0;
    for model in MODELS {
        let mut engine = engine(model);
        for case in of_model(model) {
            let golden = Golden::open(&case);
            let scores = golden.f32("cls_attention.final");
            let lazy = at_20().with_lazy_tiles(true);
            let request = Request::new("What is it?").with_image(image(&case));
            let request = request.with_selection(lazy.clone()).with_max_new_tokens(4);
            let answer = ask(&mut engine, &request.clone().with_keep_stages(true)).unwrap();
            assert!(answer.memory.peak <= answer.memory.predicted_peak, "{}", case.image);
            let visual = answer.visual.unwrap();
            assert_eq!((visual.kept, visual.partitions), (visual.budget, case.partitions));
            let with_tokens = visual.allocation[1..].iter().filter(|&&tokens| tokens > 0).count();
            assert_eq!(visual.encoded, 1 + with_tokens, "{}", case.image);
            skipped += case.partitions - visual.encoded;
            // At least a quarter each, unless one alone could not hold the rest.
            let of_sub_images: usize = visual.allocation[1..].iter().sum();
            let poor = |&&tokens: &&usize| tokens > 0 && 4 * tokens < 16;
            assert!(visual.allocation[1..].iter().filter(poor).count() == 0 || of_sub_images < 4);
            let last = answer.stages.unwrap().cls_attention_final.unwrap();
            for (i, (kept, tokens)) in
                visual.kept_indices.iter().zip(&visual.allocation).enumerate()
            {
                let range = i * 16..(i + 1) * 16;
                let (got, want) = (&last[range.clone()], &scores[range]);
                if i > 0 && *tokens == 0 {
                    assert!(got.iter().all(|score| score.is_nan()) && kept.is_empty());
                    continue;
                }
                // A partition's scores do not know of the others.
                assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5));
                let mut order: Vec<u32> = (0..16).collect();
                order.sort_by(|&a, &b| want[b as usize].total_cmp(&want[a as usize]));
                let mut best = order[..*tokens].to_vec();
                best.sort_unstable();
                assert_eq!(*kept, best, "{} partition {i}", case.image);
            }
            assert_eq!(engine.select(&image(&case), &lazy).unwrap(), visual);
            // Encoded once for several budgets, everything is encoded, and the same is kept.
            let together = engine
                .sweep(&image(&case), &[request], &[lazy.clone(), at_20()], || {
                    ControlFlow::Continue(())
                })
                .unwrap();
            let swept = together[0][0].visual.as_ref().unwrap();
            assert_eq!(swept.kept_indices, visual.kept_indices);
            assert_eq!(together[0][0].token_ids, answer.token_ids);
        }
    }
    assert!(skipped > 10, "{skipped}");
}

#[test]
fn lazy_tiles_are_refused_where_they_mean_nothing() {
    let case = of_model(MODELS[0]).remove(0);
    let lazy = at_20().with_lazy_tiles(true);
    let mut internvl = engine(MODELS[0]);
    for (selection, word) in [
        (lazy.clone().with_method(Method::FasterVlm), "HiRED"),
        (lazy.clone().with_rule(Rule::Paper), "exact"),
    ] {
        let told = internvl.select(&image(&case), &selection).unwrap_err().to_string();
        assert!(told.contains("--lazy-tiles") && told.contains(word), "{told}");
    }
    // Everything has a budget.
    let full = lazy.clone().with_budget("full".parse().unwrap());
    let visual = internvl.select(&image(&case), &full).unwrap();
    assert_eq!((visual.encoded, visual.kept), (visual.partitions, visual.valid));
    let told = engine("next-hub").select(&image(&case), &lazy).unwrap_err().to_string();
    assert!(told.contains("InternVL"), "{told}");
}

#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
mod cuda {
    use super::*;
    use emulator::{Build, Emulator};
    use hired::engine::{Dtype, Gemm};

    fn child(build: Build, name: &str, sm: &str) {
        Emulator::build(build, &[]).passes(name, sm);
    }

    #[test]
    fn lazy_tiles_on_sm_61() {
        child(Build::Plain, "cuda::child_lazy", "61");
    }

    #[test]
    fn lazy_tiles_on_sm_75() {
        child(Build::Plain, "cuda::child_lazy", "75");
    }

    #[test]
    fn lazy_tiles_on_sm_80() {
        child(Build::Plain, "cuda::child_lazy", "80");
    }

    /// The device encodes the same sub-images, keeps the same tokens of them and answers the same as the CPU, which the
    /// golden scores hold.
    #[test]
    #[ignore = "child"]
    fn child_lazy() {
        let mut skipped = 0;
        for model in MODELS {
            let options = EngineOptions::default()
                .with_device(Device::Cuda(None))
                .with_dtype(Dtype::F32)
                .with_resample(Resample::Pillow)
                .with_gemm(Gemm::Own);
            let mut device = Engine::load(fixture("models").join(model), options).unwrap();
            let mut cpu = engine(model);
            for case in of_model(model) {
                let request = Request::new("What is it?").with_image(image(&case));
                let request = request.with_selection(at_20().with_lazy_tiles(true));
                let request = request.with_max_new_tokens(4);
                let [got, want] =
                    [&mut device, &mut cpu].map(|engine| ask(engine, &request).unwrap());
                assert_eq!(got.visual, want.visual, "{model} {}", case.image);
                assert_eq!(got.token_ids, want.token_ids, "{model} {}", case.image);
                assert!(got.memory.peak <= got.memory.predicted_peak, "{model} {}", case.image);
                let visual = got.visual.unwrap();
                skipped += visual.partitions - visual.encoded;
            }
        }
        assert!(skipped > 10, "{skipped}");
    }
}
