//! Whole requests on CUDA against the golden data of transformers: on the emulator for every fixture, and on a card where
//! there is one.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

mod common;
#[path = "support/emulator.rs"]
mod emulator;
#[path = "support/ties.rs"]
mod ties;

use common::golden::{Case, Golden, cases, fixture};
use emulator::{Build, Emulator};
use hired::engine::{Answer, Device, Dtype, Engine, EngineOptions, Gemm, Image, Request, Stages};
use hired::image::Resample;
use hired::ops::cuda::Driver;
use hired::select::{Rule, Selection};
use std::ops::ControlFlow;
use std::time::Instant;
use ties::Ties;

/// Of the largest logit: what f32 sums in another order differ by.
const RELATIVE: f32 = 1e-4;

/// As the CPU is held to.
const SCORES: f32 = 1e-5;

fn load(model: &str, dtype: Dtype, no_graph: bool) -> Engine {
    let options = EngineOptions::default()
        .with_device(Device::Cuda(None))
        .with_dtype(dtype)
        .with_no_graph(no_graph)
        .with_resample(Resample::Pillow)
        .with_gemm(Gemm::Own);
    Engine::load(fixture("models").join(model), options).unwrap()
}

fn request(case: &Case, rule: Rule, budget: &str, tokens: usize) -> Request {
    let path = fixture("images").join(&case.image);
    Request::new(case.prompt.clone())
        .with_image(Image::encoded(&case.image, std::fs::read(path).unwrap()))
        .with_selection(Selection::default().with_budget(budget.parse().unwrap()).with_rule(rule))
        .with_max_new_tokens(tokens)
        .with_keep_stages(true)
}

/// An answer has the golden tokens, kept patches and logits, and took the memory that was predicted.
fn check(
    ties: &mut Ties,
    case: &Case,
    (rule, budget): (Rule, &str),
    asked: usize,
    answer: &Answer,
) {
    let golden = Golden::open(case);
    let name = match budget {
        "full" => "full".into(),
        budget => format!("{rule}{}", budget.trim_end_matches('%')),
    };
    let what = format!("{} {} {name}", case.model, case.image);
    if budget != "full" {
        let visual = answer.visual.as_ref().unwrap();
        check_scores(ties, case, &golden, answer.stages.as_ref().unwrap());
        let counts: Vec<usize> = visual.kept_indices.iter().map(Vec::len).collect();
        let kept: Vec<i64> = visual.kept_indices.iter().flatten().map(|&i| i64::from(i)).collect();
        let wanted_counts = golden.i64(&format!("{name}.kept_counts"));
        assert!(counts.iter().map(|&n| n as i64).eq(wanted_counts), "{what}: {counts:?} kept");
        let [wanted, kept] = [golden.i64(&format!("{name}.kept")), kept]
            .map(|kept| of_image(&kept, &counts, case.tokens_per_partition));
        if !ties.is_same(&what, &wanted, &kept, &golden.f32("cls_attention.final")) {
            return;
        }
    }
    let logits = &answer.stages.as_ref().unwrap().prefill_logits;
    let wanted = golden.f32(&format!("{name}.logits"));
    assert_eq!(logits.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (got, wanted) in logits.iter().zip(&wanted) {
        assert!((got - wanted).abs() <= RELATIVE * largest, "{what}: logit {got} for {wanted}");
    }
    let tokens: Vec<i64> = answer.token_ids.iter().map(|&id| i64::from(id)).collect();
    let wanted = golden.i64(&format!("{name}.tokens"));
    assert_eq!(tokens, wanted[..asked.min(wanted.len())], "{what}");
    if std::env::var("HIRED_SEPARATE_BUFFERS").is_err() {
        assert_eq!(answer.memory.peak, answer.memory.predicted_peak, "{what}");
    }
}

/// Numbers of kept patches in the image, of which each partition has so many.
fn of_image(kept: &[i64], counts: &[usize], patches: usize) -> Vec<i64> {
    let mut kept = kept.iter();
    let parts = counts.iter().enumerate();
    parts
        .flat_map(|(part, &count)| {
            let first = (part * patches) as i64;
            kept.by_ref().take(count).map(move |&i| first + i).collect::<Vec<_>>()
        })
        .collect()
}

/// What a selection summed is what transformers has: the full image's content, and the ranking of all partitions.
fn check_scores(ties: &mut Ties, case: &Case, golden: &Golden, stages: &Stages) {
    let (init, last) = (&stages.cls_attention_init, &stages.cls_attention_final);
    let (init, last) = (init.as_ref().unwrap(), last.as_ref().unwrap());
    let patches = if case.grid.is_some() { case.tokens_per_partition } else { 0 };
    let (full_image, others) = init.split_at(patches);
    assert!(others.iter().all(|x| x.is_nan()), "{}: layer 0 of sub-images", golden.name);
    let (all, ranking) = (golden.f32("cls_attention.init"), golden.f32("cls_attention.final"));
    assert_eq!((init.len(), last.len()), (all.len(), ranking.len()), "{}", golden.name);
    let pairs = full_image.iter().zip(&all).chain(last.iter().zip(&ranking));
    for (got, wanted) in pairs {
        assert!((got - wanted).abs() <= SCORES, "{}: score {got} for {wanted}", golden.name);
    }
    ties.scores_were(last, &ranking);
}

fn of_model(model: &str) -> Vec<Case> {
    let cases: Vec<Case> = cases().into_iter().filter(|c| c.model == model).collect();
    assert!(!cases.is_empty(), "no fixture of {model}");
    cases
}

/// The child `name` on the emulator, under these variables; prints how long it took.
fn on_emulator(build: Build, name: &str, environment: &[(&str, &str)]) {
    let emulator = Emulator::build(build, &[]);
    let start = Instant::now();
    let output = emulator.child(name, environment);
    assert!(
        output.status.success(),
        "{name} {environment:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{build:?} {name} {environment:?}: {:.1} s", start.elapsed().as_secs_f32());
}

const TINY: [&str; 18] = [
    "next-hub",
    "next-memory",
    "next-v5",
    "next-mistral",
    "next-odd",
    "llava15",
    "next-llama3",
    "next-qwen2",
    "llava-qwen2",
    "next-qwen3",
    "internvl-qwen2",
    "internvl-qwen3",
    "llava-phi3",
    "llava-phi",
    "mobilevlm",
    "next-siglip",
    "llava-siglip",
    "onevision",
];

/// Every tiny fixture at full and 20%, one request at a time, decode as a graph.
fn every_fixture(ties: &mut Ties) {
    for model in TINY {
        let mut engine = load(model, Dtype::F32, false);
        for case in of_model(model) {
            for budget in ["full", "20%"] {
                let request = request(&case, Rule::Exact, budget, 32);
                let answer = engine.generate(&request, |_| ControlFlow::Continue(())).unwrap();
                check(ties, &case, (Rule::Exact, budget), 32, &answer);
            }
        }
    }
}

/// One fixture in a batch of three, without a graph, by every rule.
fn a_batch_without_graph(ties: &mut Ties) {
    let mut engine = load("next-mistral", Dtype::F32, true);
    for rule in [Rule::Exact, Rule::Paper, Rule::Repo] {
        let cases: Vec<Case> = of_model("next-mistral").into_iter().take(3).collect();
        let requests: Vec<Request> = cases.iter().map(|c| request(c, rule, "20%", 8)).collect();
        let answers = engine.generate_batch(&requests, |_| ControlFlow::Continue(())).unwrap();
        for (case, answer) in cases.iter().zip(&answers) {
            check(ties, case, (rule, "20%"), 8, answer);
        }
    }
}

/// One image of one fixture, few tokens: for schedules and sanitizers.
fn one_request() -> Answer {
    let mut engine = load("next-odd", Dtype::F32, false);
    let case = of_model("next-odd").remove(0);
    let request = request(&case, Rule::Exact, "20%", 4);
    let answer = engine.generate(&request, |_| ControlFlow::Continue(())).unwrap();
    check(&mut Ties::default(), &case, (Rule::Exact, "20%"), 4, &answer);
    answer
}

/// The true geometry of a LLaVA-NeXT: 336 pixels, patches of 14.
fn true_geometry(ties: &mut Ties) {
    let mut engine = load("next-336", Dtype::F32, false);
    let case = of_model("next-336").remove(5);
    let request = request(&case, Rule::Exact, "10%", 4);
    let answer = engine.generate(&request, |_| ControlFlow::Continue(())).unwrap();
    check(ties, &case, (Rule::Exact, "10%"), 4, &answer);
}

macro_rules! children {
    ($($child:ident = $run:ident),+ $(,)?) => {
        $(#[test]
        #[ignore = "child"]
        fn $child() {
            let mut ties = Ties::default();
            $run(&mut ties);
            ties.report();
        })+
    };
}

children! {
    child_every_fixture = every_fixture,
    child_batch = a_batch_without_graph,
    child_true_geometry = true_geometry,
}

#[test]
#[ignore = "child"]
fn child_separate() {
    one_request();
}

/// What the answer says of memory is what the driver gave.
#[test]
#[ignore = "child"]
fn child_one() {
    let memory = one_request().memory;
    assert_eq!(emulator::stats().device_peak, memory.peak as u64, "{memory:?}");
    assert_eq!(memory.weights + memory.kv + memory.workspace, memory.peak);
    assert_eq!(emulator::stats().device_bytes, 0, "a dropped engine leaves memory");
}

/// What `tools/test quick` has of the emulator.
#[test]
fn one_request_gives_the_tokens_of_transformers() {
    on_emulator(Build::Plain, "child_one", &[("HIRED_EMULATOR_SM", "80")]);
}

#[test]
fn every_fixture_gives_the_tokens_of_transformers() {
    on_emulator(Build::Plain, "child_every_fixture", &[("HIRED_EMULATOR_SM", "61")]);
}

#[test]
fn batches_and_rules_give_the_tokens_of_transformers() {
    on_emulator(Build::Plain, "child_batch", &[("HIRED_EMULATOR_SM", "80")]);
}

#[test]
fn every_path_and_schedule_gives_the_same() {
    for schedule in ["ahead", "reversed", "1"] {
        let environment = [("HIRED_EMULATOR_SM", "75"), ("HIRED_EMULATOR_SCHEDULE", schedule)];
        on_emulator(Build::Plain, "child_one", &environment);
    }
    for poison in ["00", "7f"] {
        let environment = [("HIRED_EMULATOR_SM", "61"), ("HIRED_EMULATOR_POISON", poison)];
        on_emulator(Build::Plain, "child_one", &environment);
    }
    let lazy = [("HIRED_EMULATOR_SM", "80"), ("HIRED_EMULATOR_LAZY", "1")];
    on_emulator(Build::Plain, "child_one", &lazy);
    // Nothing that a copy reads may have gone before the device reads it.
    let late = [&lazy[..], &[("HIRED_EMULATOR_PAGEABLE", "late")]].concat();
    on_emulator(Build::Plain, "child_one", &late);
}

#[test]
fn the_address_sanitizer_finds_nothing() {
    // Each buffer by itself, so that none can hide behind its neighbour.
    for sm in ["61", "75", "80"] {
        let environment = [("HIRED_EMULATOR_SM", sm), ("HIRED_SEPARATE_BUFFERS", "1")];
        on_emulator(Build::Asan, "child_separate", &environment);
    }
    on_emulator(Build::Asan, "child_one", &[("HIRED_EMULATOR_SM", "80")]);
}

#[test]
fn the_race_detector_finds_nothing() {
    on_emulator(Build::Races, "child_one", &[("HIRED_EMULATOR_SM", "80")]);
}

#[test]
fn the_true_geometry_gives_the_tokens_of_transformers() {
    on_emulator(Build::Plain, "child_true_geometry", &[("HIRED_EMULATOR_SM", "80")]);
}

#[test]
fn a_card_gives_the_tokens_of_transformers() {
    let device = Driver::open().and_then(|driver| driver.device(None));
    match device.and_then(|device| device.code) {
        Ok(_) => {
            let mut ties = Ties { accepted: true, ..Ties::default() };
            every_fixture(&mut ties);
            a_batch_without_graph(&mut ties);
            true_geometry(&mut ties);
            ties.report();
        }
        Err(error) => {
            assert!(std::env::var("HIRED_REQUIRE_GPU").as_deref() != Ok("1"), "{error}");
            eprintln!("skipped: no CUDA device ({error})");
        }
    }
}
