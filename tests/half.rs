//! fp16 on the device against f32 on the CPU, step by step with the CPU's tokens: how far the logits are off, and that
//! the tokens are the same as long as the CPU's best two are further apart than that.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

mod common;
#[path = "support/emulator.rs"]
mod emulator;

use common::golden::{Case, cases, fixture};
use emulator::{Build, Emulator};
use hired::checkpoint::Checkpoint;
use hired::config::ModelFolder;
use hired::engine::{Device, Dtype, Engine, EngineOptions, Gemm, Image, Request};
use hired::image::{Normalization, Resample, decode, tiles};
use hired::kv::{BlockTable, Pool, Shape, pages_for};
use hired::model::llava::Llava;
use hired::model::vit::Layers;
use hired::ops::count::Counter;
use hired::ops::cpu::Cpu;
use hired::ops::cuda::{Cuda, Driver, Options};
use hired::ops::memory::Purpose;
use hired::ops::{Chosen, MemoryOps, Ops, Span};
use hired::select::{Geometry, Selection, plan};
use std::ops::ControlFlow;

const STEPS: usize = 12;

/// A question, and what the CPU answers.
struct Asked {
    case: Case,
    selection: Selection,
    before: Vec<u32>,
    after: Vec<u32>,
    tokens: Vec<u32>,
}

fn engine(case: &Case, device: Device, dtype: Dtype, gemm: Gemm) -> Engine {
    let options = EngineOptions::default()
        .with_device(device)
        .with_dtype(dtype)
        .with_resample(Resample::Pillow)
        .with_gemm(gemm);
    Engine::load(fixture("models").join(&case.model), options).unwrap()
}

fn request(case: &Case, selection: &Selection) -> Request {
    let bytes = std::fs::read(fixture("images").join(&case.image)).unwrap();
    Request::new(case.prompt.clone())
        .with_image(Image::encoded(case.image.clone(), bytes))
        .with_selection(selection.clone())
        .with_max_new_tokens(STEPS)
        .with_keep_stages(true)
}

/// Kept patches of each partition, and logits step by step.
type Walked = (Vec<Vec<u32>>, Vec<Vec<f32>>);

impl Asked {
    fn new(case: Case, budget: &str) -> Self {
        let selection = Selection::default().with_budget(budget.parse().unwrap());
        let mut cpu = engine(&case, Device::Cpu, Dtype::F32, Gemm::Own);
        let answer =
            cpu.generate(&request(&case, &selection), |_| ControlFlow::Continue(())).unwrap();
        let ids = answer.stages.unwrap().input_ids;
        let image = cpu.config().image_token;
        let first = ids.iter().position(|&id| id == image).unwrap();
        let behind = ids.iter().rposition(|&id| id == image).unwrap() + 1;
        let (before, after) = (ids[..first].to_vec(), ids[behind..].to_vec());
        Self { case, selection, before, after, tokens: answer.token_ids }
    }

    /// Kept patches, and the logits before each of the CPU's tokens.
    fn walk<O: Ops>(&self, ops: &mut O) -> hired::Result<Walked> {
        let folder = ModelFolder::open(&fixture("models").join(&self.case.model))?;
        let (config, checkpoint) = (folder.config, Checkpoint::open(&folder.dir)?);
        let model = Llava::load(&config, ops, &checkpoint)?;
        let bytes = std::fs::read(fixture("images").join(&self.case.image)).unwrap();
        let tiles = tiles(&decode(&bytes, "")?, &config.image, Resample::Pillow)?;
        let geometry = Geometry::of(&tiles.layout, &config)?;
        let plan = plan(&geometry, &self.selection)?;
        let norm = Normalization::new(&config.image, Resample::Pillow);
        let layers = Layers::of(&plan.needs, &config)?;
        let mut quiet = hired::model::quiet::<O>;
        let encoded = model.encode(ops, &tiles, &norm, &plan, layers, &mut quiet)?;
        let tokens = self.before.len() + encoded.kept.slots() + self.after.len();
        let pages = pages_for(tokens + STEPS);
        let mut pool = Pool::new(pages);
        let mut table = BlockTable::default();
        pool.append(&mut table, tokens + STEPS)?;
        let mut caches = [ops.cache(Shape::new(&config.text, pages))?];
        let span = |slot, rows| {
            vec![Span { row: 0, rows, slot, position: slot, pages: table.pages().to_vec() }]
        };
        let texts = [self.before.clone(), self.after.clone()];
        let rows = model.embed(ops, &texts, std::slice::from_ref(&encoded))?;
        let kept = ops.kept(&encoded.kept)?.indices;
        drop(encoded);
        let batch = [ops.batch(&caches[0], Vec::new(), span(0, tokens))?];
        let first = model.prefill(ops, rows, &mut caches, &batch, None, &mut quiet)?.logits;
        drop(batch);
        let mut logits = vec![ops.download(&first)?];
        drop(first);
        for (i, &token) in self.tokens[..self.tokens.len() - 1].iter().enumerate() {
            let batch = ops.batch(&caches[0], vec![token], span(tokens + i, 1))?;
            let next = model.decode(ops, &mut caches, &[batch])?;
            logits.push(ops.download(&next)?);
        }
        Ok((kept, logits))
    }

    fn on_device(&self, gemm: Gemm) -> Walked {
        let mut cuda = Cuda::open(options(gemm)).unwrap();
        let mut counter = Counter::new(cuda.footprint());
        self.walk(&mut counter).unwrap();
        let meter = counter.meter();
        cuda.reserve(Purpose::Weights, meter.most(Purpose::Weights)).unwrap();
        cuda.reserve(Purpose::Workspace, meter.most(Purpose::Workspace)).unwrap();
        self.walk(&mut cuda).unwrap()
    }
}

fn options(gemm: Gemm) -> Options {
    Options { ordinal: None, formats: Dtype::F16.into(), graphs: true, gemm }
}

/// The best logit's lead over the second.
fn lead(logits: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; 2];
    for &x in logits {
        if x > best[0] {
            best = [x, best[0]];
        } else if x > best[1] {
            best[1] = x;
        }
    }
    best[0] - best[1]
}

/// fp16 keeps 11 bits, and every layer rounds: of the largest logit 5.5e-3 at most was measured on the
/// emulator, 6.1e-3 with its stand-in for the library.
const MOST: f32 = 1e-2;

/// What a card may differ by, whose library sums in its own order.
const MOST_ON_A_CARD: f32 = 3e-2;

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
    "llava-phi3",
    "llava-phi",
    "mobilevlm",
    "next-siglip",
    "llava-siglip",
    "onevision",
    "internvl-qwen2",
    "internvl-qwen3",
];

/// Requests of these models, whose logits may be off by so much of the largest.
fn requests(models: &[&str], gemm: Gemm, most: f32) {
    let name = if gemm == Gemm::Cublas { "cuBLAS" } else { "own" };
    let mut others = 0;
    for model in models {
        let case = cases().into_iter().find(|c| c.model == *model).unwrap();
        for budget in ["full", "20%"] {
            let what = format!("{name} {model} {budget}");
            let asked = Asked::new(case.clone(), budget);
            let (kept, wanted) = asked.walk(&mut Cpu::new(Dtype::F32)).unwrap();
            let (half_kept, got) = asked.on_device(gemm);
            if kept != half_kept {
                // Scores that fp16 cannot tell apart: another selection, not a wrong one.
                println!("f16 {what}: other patches kept");
                assert_ne!(budget, "full");
                others += 1;
                continue;
            }
            let largest = wanted.iter().flatten().fold(0.0f32, |m, x| m.max(x.abs()));
            let error = (wanted.iter().flatten().zip(got.iter().flatten()))
                .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            println!("f16 {what}: logits off by {:.1e} of the largest", error / largest);
            // A number that is none is not less than anything.
            assert!(got.iter().flatten().all(|x| x.is_finite()), "{what}: not finite");
            assert!(error <= most * largest, "{what}: {error} of {largest}");

            let mut device = engine(&asked.case, Device::Cuda(None), Dtype::F16, gemm);
            let request = request(&asked.case, &asked.selection);
            let answer = device.generate(&request, |_| ControlFlow::Continue(())).unwrap();
            let sure = wanted.iter().take_while(|logits| lead(logits) > 2.0 * error).count();
            assert!(answer.token_ids.len() >= sure);
            assert_eq!(answer.token_ids[..sure], asked.tokens[..sure], "{what}");
            println!("f16 {what}: the first {sure} of {STEPS} tokens must agree and do");
        }
    }
    assert!(others < models.len(), "f16 {name}: no request below the full budget was compared");
}

#[test]
#[ignore = "child"]
fn child_half() {
    requests(&TINY, Gemm::Own, MOST);
}

#[test]
#[ignore = "child"]
fn child_half_cublas() {
    requests(&TINY[3..4], Gemm::Cublas, MOST);
}

/// Also with the library's products, where it is installed and knows the card.
#[test]
fn a_card_in_half_is_near_the_cpu() {
    let device = Driver::open().and_then(|driver| driver.device(None));
    if let Err(error) = device.and_then(|device| device.code) {
        assert!(std::env::var("HIRED_REQUIRE_GPU").as_deref() != Ok("1"), "{error}");
        eprintln!("skipped: no CUDA device ({error})");
        return;
    }
    requests(&TINY, Gemm::Own, MOST_ON_A_CARD);
    match Cuda::open(options(Gemm::Cublas)) {
        Ok(_) => requests(&TINY, Gemm::Cublas, MOST_ON_A_CARD),
        Err(error) => println!("not checked: products by cuBLAS: {error}"),
    }
}

fn on_emulator(sm: &str) {
    child(&Emulator::build(Build::Plain, &[]), "child_half", sm);
}

fn child(emulator: &Emulator, name: &str, sm: &str) {
    let output = emulator.child(name, &[("HIRED_EMULATOR_SM", sm)]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    told.lines().filter(|line| line.contains("f16 ")).for_each(|line| println!("sm_{sm} {line}"));
}

#[test]
fn by_fma() {
    on_emulator("61");
}

#[test]
fn by_mma_k8() {
    on_emulator("75");
}

#[test]
fn by_mma_k16() {
    on_emulator("80");
}

#[test]
fn by_cublas() {
    child(&Emulator::build(Build::Plain, &[]).with_cublas(), "child_half_cublas", "75");
}
