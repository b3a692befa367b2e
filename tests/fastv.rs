//! FastV: answers of a decoder that drops visual tokens on the way, against transformers' layers run one by one
//! (`tools/fixtures/fastv.py`) and against what each request gets by itself.

mod common;
#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
#[path = "support/emulator.rs"]
mod emulator;

use common::golden::{Golden, fixture};
use hired::Error;
use hired::engine::{
    Answer, Device, Dtype, Engine, EngineOptions, Event, Gemm, Image, Limit, Prompt, Request,
};
use hired::kv::{PAGE, pages_for};
use hired::select::{Method, Newlines, Selection, Tuning};
use serde::Deserialize;
use std::ops::ControlFlow;

/// Of the largest logit.
const RELATIVE: f32 = 1e-4;

/// One image asked of one model.
#[derive(Deserialize)]
struct Case {
    model: String,
    image: String,
    prompt: String,
    golden: String,
    layer: usize,
    budget: String,
    all_newlines: bool,
    prompt_tokens: usize,
    newlines: usize,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(fixture("golden/fastv.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn go(_: Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn load(model: &str, device: Device) -> Engine {
    let options =
        EngineOptions::default().with_device(device).with_dtype(Dtype::F32).with_gemm(Gemm::Own);
    Engine::load(fixture("models").join(model), options).unwrap()
}

fn picture(name: &str) -> Image {
    let bytes = std::fs::read(fixture("images").join(name)).unwrap();
    Image::encoded(name, bytes)
}

fn fastv(layer: usize, budget: &str) -> Selection {
    let budget = budget.parse().unwrap();
    let tuning = Tuning::default().with_fastv_layer(layer);
    Selection::default().with_method(Method::FastV).with_tuning(tuning).with_budget(budget)
}

fn about(image: &str, selection: Selection) -> Request {
    // As long as planned, so that memory is as predicted.
    let ignore_eos = true;
    Request::new("What is it?")
        .with_selection(selection)
        .with_max_new_tokens(8)
        .with_ignore_eos(ignore_eos)
        .with_image(picture(image))
}

impl Case {
    fn request(&self) -> Request {
        let newlines = if self.all_newlines { None } else { Some(Newlines::None) };
        let selection = fastv(self.layer, &self.budget).with_newlines(newlines);
        about(&self.image, selection)
            .with_prompt(Prompt::User(self.prompt.clone()))
            .with_max_new_tokens(32)
            .with_keep_stages(true)
            .with_ignore_eos(false)
    }

    /// Kept patches and tokens are the golden ones, logits nearly; memory is as predicted.
    fn check(&self, answer: &Answer) {
        let golden = Golden::read(self.golden.clone(), &self.golden);
        let visual = answer.visual.as_ref().unwrap();
        let kept: Vec<i64> = visual.kept_indices.iter().flatten().map(|&i| i64::from(i)).collect();
        assert_eq!(kept, golden.i64("kept"), "{}", self.golden);
        let counts: Vec<i64> = visual.kept_indices.iter().map(|k| k.len() as i64).collect();
        assert_eq!(counts, golden.i64("kept_counts"), "{}", self.golden);
        assert_eq!(visual.allocation, counts.iter().map(|&n| n as usize).collect::<Vec<_>>());
        assert_eq!((visual.kept, visual.newlines), (kept.len(), self.newlines), "{}", self.golden);
        assert_eq!(visual.kept + visual.newlines, visual.budget, "{}", self.golden);
        assert_eq!(answer.prompt_tokens, self.prompt_tokens, "{}", self.golden);

        let (got, wanted) = (&answer.stages.as_ref().unwrap().prefill_logits, golden.f32("logits"));
        assert_eq!(got.len(), wanted.len());
        let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let far = got.iter().zip(&wanted).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(far <= RELATIVE * largest, "{}: logits differ by {far}", self.golden);
        println!("{}: logits differ by {:.1e}", self.golden, far / largest);
        let tokens: Vec<i64> = answer.token_ids.iter().map(|&id| i64::from(id)).collect();
        assert_eq!(tokens, golden.i64("tokens"), "{}", self.golden);
        check_memory(answer);
    }
}

fn check_memory(answer: &Answer) {
    let memory = answer.memory;
    assert_eq!(memory.peak, memory.predicted_peak, "{memory:?}");
}

fn every_case(device: Device) {
    for case in cases() {
        let mut engine = load(&case.model, device);
        case.check(&engine.generate(&case.request(), go).unwrap());
    }
}

/// What is not told of time, which no two runs share.
fn outcome(answer: &Answer) -> (&[u32], usize, Option<&hired::engine::Visual>) {
    (&answer.token_ids, answer.prompt_tokens, answer.visual.as_ref())
}

/// Requests that drop nowhere, early, and behind different layers.
fn mixed() -> Vec<Request> {
    let hired = Selection::default().with_budget("20%".parse().unwrap());
    let full = Selection::default().with_method(Method::Full);
    let words = Request::new("Good morning").with_max_new_tokens(5).with_ignore_eos(true);
    vec![
        about("photo-60x44.png", fastv(2, "20%")),
        about("photo-60x44.png", hired),
        about("portrait-70x110.png", fastv(1, "9")),
        words,
        about("thin-12x300.png", full),
        about("thin-12x300.png", fastv(2, "full")).with_max_new_tokens(3),
    ]
}

/// A batch gives every request what it gets alone, whatever the engine has answered before.
fn batches(engine: &mut Engine) {
    let requests = mixed();
    let together = engine.generate_batch(&requests, go).unwrap();
    for (request, batched) in requests.iter().zip(&together) {
        let alone = engine.generate(request, go).unwrap();
        assert_eq!(outcome(&alone), outcome(batched));
        check_memory(&alone);
        check_memory(batched);
    }
}

/// A sweep gives every selection what a request by itself gets.
fn sweeps(engine: &mut Engine) {
    let requests: Vec<Request> =
        (0..3).map(|i| Request::new(format!("Question {i}?")).with_max_new_tokens(4 + i)).collect();
    let selections: Vec<Selection> = mixed().into_iter().map(|r| r.selection).collect();
    let image = picture("portrait-70x110.png");
    let swept = engine.sweep(&image, &requests, &selections, || ControlFlow::Continue(())).unwrap();
    for (selection, answers) in selections.iter().zip(&swept) {
        for (request, answer) in requests.iter().zip(answers) {
            let request =
                request.clone().with_selection(selection.clone()).with_image(image.clone());
            let alone = engine.generate(&request, go).unwrap();
            assert_eq!(outcome(&alone), outcome(answer), "{selection:?}");
            check_memory(answer);
        }
    }
}

#[test]
fn tokens_are_those_of_transformers() {
    every_case(Device::Cpu);
}

#[test]
fn a_batch_of_mixed_methods_gives_what_each_gives_alone() {
    batches(&mut load("next-hub", Device::Cpu));
}

#[test]
fn a_sweep_gives_what_each_gives_alone() {
    sweeps(&mut load("next-hub", Device::Cpu));
}

/// Later layers take pages for the rows that they see, and no more.
#[test]
fn keys_and_values_of_dropped_tokens_take_no_memory() {
    let mut engine = load("next-hub", Device::Cpu);
    let image = "photo-60x44.png";
    // 3 layers, 4 heads of 16, f32.
    let page = PAGE * 2 * 64 * size_of::<f32>();
    let full = engine.generate(&about(image, fastv(2, "full")), go).unwrap();
    let rows = full.prompt_tokens + 7;
    assert_eq!(full.memory.kv, 3 * pages_for(rows) * page);
    let visual = full.visual.unwrap();
    let all = visual.kept + visual.newlines;
    for layer in [1, 2] {
        for budget in [1, 16, all - 1] {
            let answer = engine.generate(&about(image, fastv(layer, &budget.to_string())), go);
            let answer = answer.unwrap();
            assert_eq!(answer.prompt_tokens, full.prompt_tokens);
            let left = rows - all + budget;
            let pages = layer * pages_for(rows) + (3 - layer) * pages_for(left);
            assert_eq!(answer.memory.kv, pages * page, "{layer} {budget}");
            let visual = answer.visual.as_ref().unwrap();
            assert_eq!(visual.kept + visual.newlines, budget);
            check_memory(&answer);
        }
    }
    // As many as there are: nothing is dropped.
    let same = engine.generate(&about(image, fastv(2, &all.to_string())), go).unwrap();
    assert_eq!((same.token_ids, same.memory.kv), (full.token_ids, full.memory.kv));
}

/// The answer begins with the prompt's last row, so that stays, also where it is the image's.
#[test]
fn a_prompt_that_ends_with_its_image_keeps_its_last_row() {
    let mut engine = load("next-hub", Device::Cpu);
    for budget in [1, 5] {
        let selection = fastv(1, &budget.to_string()).with_newlines(Newlines::None);
        let prompt = Prompt::Raw("Look: <image>".into());
        let request = about("square-96x96.png", selection).with_prompt(prompt);
        let visual = engine.generate(&request, go).unwrap().visual.unwrap();
        assert_eq!((visual.kept, visual.newlines), (budget, 0));
        // The lower right corner of the last sub-image.
        assert_eq!(visual.kept_indices.last().unwrap().last(), Some(&15));
    }
}

#[test]
fn a_cache_of_fixed_size_serves_both_ways() {
    let options = EngineOptions::default().with_device(Device::Cpu).with_kv_tokens(160);
    let mut fixed = Engine::load(fixture("models/next-hub"), options).unwrap();
    let mut free = load("next-hub", Device::Cpu);
    for request in &mixed()[..3] {
        let (got, wanted) =
            (fixed.generate(request, go).unwrap(), free.generate(request, go).unwrap());
        assert_eq!(outcome(&got), outcome(&wanted));
        assert_eq!(got.memory.kv, 3 * 10 * PAGE * 2 * 64 * size_of::<f32>());
        check_memory(&got);
    }
    let long = about("photo-60x44.png", fastv(2, "1")).with_max_new_tokens(100);
    let refused = fixed.generate(&long, go).unwrap_err();
    assert!(matches!(refused, Error::Capacity(_)) && refused.to_string().contains("160"));
}

/// The search for a budget ends where nothing is dropped, newlines counted.
#[test]
fn the_largest_budget_keeps_everything() {
    let mut engine = load("next-hub", Device::Cpu);
    let request = about("photo-60x44.png", fastv(2, "1"));
    let most = engine.largest_budget(std::slice::from_ref(&request), Limit::Ttft(1e6)).unwrap();
    let full = request.with_selection(fastv(2, "full"));
    assert_eq!(most, engine.generate(&full, go).unwrap().visual.unwrap().tokens());
}

#[test]
fn a_drop_behind_no_layer_is_refused() {
    let mut engine = load("next-hub", Device::Cpu);
    for layer in [0, 3, 7] {
        let error = engine.generate(&about("photo-60x44.png", fastv(layer, "20%")), go);
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Request(_)), "{error}");
        let words = error.to_string();
        assert!(words.contains(&format!("layer {layer}")) && words.contains("1 to 2"), "{words}");
    }
    let error = engine.select(&picture("photo-60x44.png"), &fastv(2, "20%")).unwrap_err();
    assert!(matches!(error, Error::Request(_)) && error.to_string().contains("fastv"), "{error}");
}

#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
mod cuda {
    use super::*;
    use emulator::{Build, Emulator};

    fn child(build: Build, name: &str, sm: &str, more: &[(&str, &str)]) {
        let environment = [more, &[("HIRED_EMULATOR_SM", sm)]].concat();
        let output = Emulator::build(build, &[]).child(name, &environment);
        assert!(
            output.status.success(),
            "{name} {environment:?}\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[test]
    fn the_emulator_gives_the_tokens_of_transformers() {
        for sm in ["61", "80"] {
            child(Build::Plain, "cuda::child_cases", sm, &[]);
        }
    }

    #[test]
    fn every_kind_of_request_gives_what_the_cpu_gives() {
        for sm in ["61", "80"] {
            child(Build::Plain, "cuda::child_requests", sm, &[]);
        }
    }

    #[test]
    fn the_address_sanitizer_finds_nothing() {
        child(Build::Asan, "cuda::child_one", "80", &[("HIRED_SEPARATE_BUFFERS", "1")]);
    }

    #[test]
    fn the_race_detector_finds_nothing() {
        child(Build::Races, "cuda::child_one", "80", &[]);
    }

    #[test]
    #[ignore = "child"]
    fn child_cases() {
        every_case(Device::Cuda(None));
    }

    #[test]
    #[ignore = "child"]
    fn child_requests() {
        let (mut cpu, mut cuda) =
            (load("next-hub", Device::Cpu), load("next-hub", Device::Cuda(None)));
        let requests = mixed();
        let wanted = cpu.generate_batch(&requests, go).unwrap();
        let got = cuda.generate_batch(&requests, go).unwrap();
        for (wanted, got) in wanted.iter().zip(&got) {
            assert_eq!(outcome(wanted), outcome(got));
            check_memory(got);
            assert_eq!(got.memory.peak as u64, emulator::stats().device_bytes);
        }
        batches(&mut cuda);
        sweeps(&mut cuda);
    }

    #[test]
    #[ignore = "child"]
    fn child_one() {
        let mut engine = load("next-hub", Device::Cuda(None));
        let request = about("thin-50x1.png", fastv(2, "5")).with_max_new_tokens(3);
        let got = engine.generate(&request, go).unwrap();
        let wanted = load("next-hub", Device::Cpu).generate(&request, go).unwrap();
        assert_eq!(outcome(&got), outcome(&wanted));
    }

    /// On a real card, where there is one.
    #[test]
    fn a_card_gives_the_tokens_of_transformers() {
        let device = hired::ops::cuda::Driver::open().and_then(|driver| driver.device(None));
        match device.and_then(|device| device.code) {
            Ok(_) => {
                every_case(Device::Cuda(None));
                let mut cuda = load("next-hub", Device::Cuda(None));
                batches(&mut cuda);
                sweeps(&mut cuda);
            }
            Err(error) => {
                assert!(std::env::var("HIRED_REQUIRE_GPU").as_deref() != Ok("1"), "{error}");
                eprintln!("skipped: no CUDA device ({error})");
            }
        }
    }
}
