//! Operations of LLaVA-v1.6-vicuna-7b on a 672×672 image, counted by the model code itself, against counts by hand.

use hired::checkpoint::layout;
use hired::checkpoint::synth::Preset;
use hired::config::ModelConfig;
use hired::format::{Dtype, Format};
use hired::image::{Layout, Normalization, Resample, Tiles};
use hired::kv::{Pools, Room};
use hired::model::decoder::Thinning;
use hired::model::llava::Llava;
use hired::model::vit::Layers;
use hired::model::{Imagined, Source, Wanted};
use hired::ops::clock::Stage;
use hired::ops::cost::Kind;
use hired::ops::count::Counter;
use hired::ops::footprint::Footprint;
use hired::ops::memory::Purpose;
use hired::ops::{BatchOps, Executor, MemoryOps, Span, Storage};
use hired::quant::{Quantization, Scheme, Scope};
use hired::select::{Geometry, Method, Rule, Selection, Tuning, plan};
use std::cell::RefCell;
use std::collections::BTreeMap;

const TEXT: usize = 60;

/// Counts one request up to its first logits, and one step after it.
fn count(config: &ModelConfig, selection: &Selection) -> (Counter, usize, usize) {
    count_on(Footprint::Cpu { cache: Dtype::F16 }, config, selection, usize::MAX)
}

/// The same for an executor, with at most `most` patches kept of those that the plan has.
fn count_on(
    footprint: Footprint,
    config: &ModelConfig,
    selection: &Selection,
    most: usize,
) -> (Counter, usize, usize) {
    let dense = Imagined { format: Format::F16, quantization: None };
    count_of(footprint, config, selection, most, &dense)
}

/// The same of these weights.
fn count_of(
    footprint: Footprint,
    config: &ModelConfig,
    selection: &Selection,
    most: usize,
    source: &Imagined,
) -> (Counter, usize, usize) {
    let mut ops = Counter::new(footprint);
    let mut model = Llava::load(config, &mut ops, source).unwrap();
    let layout = Layout::new(672, 672, &config.image).unwrap();
    let geometry = Geometry::new(&layout, config.vision.patch_size).unwrap();
    let mut plan = plan(&geometry, selection).unwrap();
    plan.rows = plan.rows.min(most);
    let tiles = Tiles { layout, pixels: Vec::new() };
    let norm = Normalization::new(&config.image, Resample::Pillow);
    let layers = Layers::of(&plan.needs, config).unwrap();
    model.require(layers, &mut ops, source).unwrap();
    let mut quiet = hired::model::quiet::<Counter>;
    let encoded = model.encode(&mut ops, &tiles, &norm, &plan, layers, &mut quiet).unwrap();
    let texts = [vec![0; TEXT], Vec::new()];
    let rows = model.embed(&mut ops, &texts, std::slice::from_ref(&encoded)).unwrap();

    let visual = plan.rows + plan.newlines;
    let tokens = TEXT + visual;
    // Of the prompt as each group of layers has it.
    let left = [tokens, TEXT + plan.late.map_or(0, |late| late.rows)];
    let firsts = [0].into_iter().chain(plan.late.map(|late| late.layer));
    let room = Room::new(firsts, |_| 1000);
    let (mut pools, shapes) = (Pools::new(&room), room.shapes(&config.text));
    let mut tables = pools.tables();
    pools.append(&mut tables, |group| left[group] + 1).unwrap();
    let mut caches: Vec<_> = shapes.into_iter().map(|s| ops.cache(s).unwrap()).collect();
    let pages: Vec<Vec<u32>> = tables.iter().map(|t| t.pages().to_vec()).collect();
    let thinning = plan.late.map(|late| Thinning {
        among: TEXT..tokens - 1,
        keep: late.rows - 1,
        pages: pages[1..].to_vec(),
    });
    let span = Span { row: 0, rows: tokens, slot: 0, position: 0, pages: pages[0].clone() };
    let batch = [ops.batch(&caches[0], Vec::new(), vec![span]).unwrap()];
    model.prefill(&mut ops, rows, &mut caches, &batch, thinning.as_ref(), &mut quiet).unwrap();
    let mut batches = Vec::new();
    for ((cache, slot), pages) in caches.iter().zip(left).zip(pages) {
        let span = Span { row: 0, rows: 1, slot, position: tokens, pages };
        batches.push(ops.batch(cache, vec![0], vec![span]).unwrap());
    }
    model.decode(&mut ops, &mut caches, &batches).unwrap();
    (ops, plan.rows, tokens)
}

/// Multiply-adds count as two.
fn linear(rows: usize, out: usize, into: usize) -> u64 {
    2 * (rows * out) as u64 * into as u64
}

fn check(budget: &str, kept: usize, newlines: usize, scored: bool) {
    let config = Preset::Next7b.config().unwrap();
    let selection = Selection::default().with_budget(budget.parse().unwrap());
    let (counter, got_kept, tokens) = count(&config, &selection);
    assert_eq!((got_kept, tokens), (kept, TEXT + kept + newlines));
    let flops = |stage, kind| counter.cost(stage, kind).flops;

    // Vision: 5 tiles of 576 patches and a class token; 22 whole blocks, the 23rd for kept rows only.
    let (d, inner, rows) = (1024, 4096, 5 * 577);
    let whole = 4 * linear(rows, d, d) + 2 * linear(rows, inner, d);
    let last = 2 * linear(rows, d, d) + 2 * linear(kept, d, d) + 2 * linear(kept, inner, d);
    // Layer 0 is scored for the full image only, layer 22 for all five.
    let class_queries = if scored { linear(1, d, d) + linear(5, d, d) } else { 0 };
    assert_eq!(
        flops(Stage::Vision, Kind::Linear),
        linear(5 * 576, d, 3 * 14 * 14) + 22 * whole + last + class_queries
    );
    let attention = |queries: usize| 4 * (queries * 577 * d) as u64;
    assert_eq!(flops(Stage::Vision, Kind::Attention), 22 * attention(rows) + attention(kept));
    let scores = if scored { 2 * (6 * 577 * d) as u64 } else { 0 };
    assert_eq!(flops(Stage::Vision, Kind::Scores), scores);

    // Projector: kept rows only.
    let h = 4096;
    assert_eq!(flops(Stage::Project, Kind::Linear), linear(kept, h, d) + linear(kept, h, h));

    // Decoder: after the last attention and in the head the last row only.
    let (n, mlp) = (tokens, 11008);
    let qkv = |n| 3 * linear(n, h, h);
    let rest = |n| linear(n, h, h) + 3 * linear(n, mlp, h);
    assert_eq!(
        flops(Stage::Prefill, Kind::Linear),
        31 * (qkv(n) + rest(n)) + qkv(n) + rest(1) + linear(1, 32064, h)
    );
    assert_eq!(flops(Stage::Prefill, Kind::Attention), 32 * 4 * (n * (n + 1) / 2 * h) as u64);
    assert_eq!(flops(Stage::Decode, Kind::Linear), 32 * (qkv(1) + rest(1)) + linear(1, 32064, h));
    assert_eq!(flops(Stage::Decode, Kind::Attention), 32 * 4 * ((n + 1) * h) as u64);
}

#[test]
fn full_budget() {
    check("full", 2880, 48, false);
}

#[test]
fn twenty_percent() {
    check("20%", 576, 0, true);
}

/// FastV at half the visual tokens behind each possible layer of a small model.
#[test]
fn dropping_on_the_way() {
    let config = Preset::Tiny.config().unwrap();
    let text = &config.text;
    let (h, mlp, layers) = (text.hidden, text.intermediate, text.layers);
    let kv = text.kv_heads * text.head_dim;
    for layer in 1..layers {
        let (method, budget) = (Method::FastV, "50%".parse().unwrap());
        let tuning = Tuning::default().with_fastv_layer(layer);
        let selection =
            Selection::default().with_method(method).with_budget(budget).with_tuning(tuning);
        let (counter, kept, n) = count(&config, &selection);
        // 5 tiles of 64 patches, of which half may stay, newlines among them.
        assert_eq!((kept, n), (320, TEXT + 320 + 16));
        let m = TEXT + 160;
        let flops = |stage, kind| counter.cost(stage, kind).flops;
        let qkv = |n| linear(n, h, h) + 2 * linear(n, kv, h);
        let rest = |n| linear(n, h, h) + 3 * linear(n, mlp, h);
        // Layers of all rows; the one that decides; those of the rows left, of which the last ends with one row.
        let (whole, thin) = (layer as u64 - 1, (layers - layer) as u64 - 1);
        let linears = whole * (qkv(n) + rest(n))
            + (qkv(n) + rest(m))
            + thin * (qkv(m) + rest(m))
            + (qkv(m) + rest(1));
        assert_eq!(flops(Stage::Prefill, Kind::Linear), linears + linear(1, text.vocab, h));
        let pairs = layer * n * (n + 1) / 2 + (layers - layer) * m * (m + 1) / 2;
        assert_eq!(flops(Stage::Prefill, Kind::Attention), 4 * (pairs * h) as u64);
        assert_eq!(flops(Stage::Prefill, Kind::Scores), 2 * (n * h) as u64);
        let seen = layer * (n + 1) + (layers - layer) * (m + 1);
        assert_eq!(flops(Stage::Decode, Kind::Attention), 4 * (seen * h) as u64);
        // The tower scores nothing and the projector takes every patch.
        assert_eq!(flops(Stage::Vision, Kind::Scores), 0);
        let d = config.vision.hidden;
        assert_eq!(flops(Stage::Project, Kind::Linear), linear(320, h, d) + linear(320, h, h));
    }
}

/// Products with integers are counted by what they are multiplied as, and read with the bytes of their format.
#[test]
fn integers_are_counted_apart() {
    let config = Preset::Next7b.config().unwrap();
    let selection = Selection::default().with_budget("20%".parse().unwrap());
    let cuda = Footprint::Cuda { formats: Dtype::F16.into(), library: false };
    // Bytes of a row of 4096 and of 11008 codes with their scales.
    let q4 = Scheme::Q4 { group: 128 };
    for (scheme, kind, [narrow, wide]) in [
        (Scheme::Q8, Kind::Integers, [4096 + 4, 11008 + 4]),
        (q4, Kind::Widened, [2048 + 32 * 2, 5504 + 86 * 2]),
    ] {
        let quantization = Some(Quantization { scheme, scope: Scope::Llm });
        let source = Imagined { format: Format::F16, quantization };
        let (counter, _, n) = count_of(cuda, &config, &selection, usize::MAX, &source);
        let (h, mlp) = (4096, 11008);
        let block = |n, last| 3 * linear(n, h, h) + linear(last, h, h) + 3 * linear(last, mlp, h);
        let prefill = counter.cost(Stage::Prefill, kind);
        assert_eq!(prefill.flops, 31 * block(n, n) + block(n, 1), "{scheme}");
        // The head stays as it is, and so do tower and projector.
        assert_eq!(counter.cost(Stage::Prefill, Kind::Linear).flops, linear(1, 32064, h));
        assert_eq!(counter.cost(Stage::Vision, kind).flops, 0);
        let step = counter.cost(Stage::Decode, kind);
        assert_eq!(step.flops, 32 * block(1, 1));
        let weights = 32 * ((4 * h + 2 * mlp) * narrow + h * wide) as u64;
        // Beside them the activations, in f16: of four products of 4096 from 4096 columns and three of the MLP.
        let activations = 32 * 2 * (4 * 2 * h + 3 * (h + mlp) + 2 * h) as u64;
        assert_eq!(step.bytes, weights + activations, "{scheme}");
    }
}

/// The figures of the README: operations to the first token in 10¹²; and 13.2 GB of weights a token.
#[test]
fn published_totals() {
    let config = Preset::Next7b.config().unwrap();
    let stages = [Stage::Vision, Stage::Project, Stage::Prefill];
    for (budget, teraflops) in [("full", 42.08), ("20%", 9.95)] {
        let selection = Selection::default().with_budget(budget.parse().unwrap());
        let (counter, ..) = count(&config, &selection);
        let counted = counter.costs().filter(|(stage, ..)| stages.contains(stage));
        let got = counted.map(|(.., cost)| cost.flops).sum::<u64>() as f64 / 1e12;
        // Less than the field's count of the same work: the last blocks of tower and decoder leave some out.
        assert!((got - teraflops).abs() < 0.005, "{budget}: {got}");
        let weights = counter.cost(Stage::Decode, Kind::Linear).bytes as f64;
        assert!((weights / 13.215e9 - 1.0).abs() < 1e-3, "{weights}");
    }
}

/// Asks for weights as the model does and notes them.
#[derive(Default)]
struct Notes(RefCell<BTreeMap<String, Vec<usize>>>);

impl Source<Counter> for Notes {
    fn take(
        &self,
        ops: &mut Counter,
        wanted: &Wanted<'_>,
        storage: Storage,
    ) -> hired::Result<<Counter as Executor>::Weight> {
        let mut notes = self.0.borrow_mut();
        let rows = notes.entry(wanted.name.into()).or_insert_with(|| {
            let mut shape = wanted.shape.to_vec();
            shape[0] = 0;
            shape
        });
        // Of what is stored together, each layer takes its rows, one after the other.
        assert_eq!(wanted.rows.clone().map_or(0, |rows| rows.start), rows[0], "{wanted:?}");
        rows[0] += wanted.taken()[0];
        Imagined { format: Format::F16, quantization: None }.take(ops, wanted, storage)
    }
}

/// The list of a checkpoint's tensors is what the model takes.
#[test]
fn the_layout_is_what_the_model_takes() {
    let variants: [fn(&mut ModelConfig); 4] = [
        |_| {},
        |config| config.text.fused = true,
        |config| (config.text.qkv_bias, config.text.tied) = (true, true),
        |config| config.text.head_norm = true,
    ];
    for (preset, variant) in Preset::ALL.into_iter().flat_map(|p| variants.map(|v| (p, v))) {
        let mut config = preset.config().unwrap();
        variant(&mut config);
        if config.text.parallel && config.text.head_norm {
            continue; // Refused when the folder is read.
        }
        let notes = Notes::default();
        Llava::load(&config, &mut Counter::new(Footprint::Cpu { cache: Dtype::F32 }), &notes)
            .unwrap();
        let listed: BTreeMap<String, Vec<usize>> = layout(&config)
            .into_iter()
            .filter(|weight| !weight.optional)
            .map(|weight| (weight.name, weight.shape))
            .collect();
        assert_eq!(notes.0.into_inner(), listed, "{preset}");
    }
}

/// The rules and methods that may keep fewer patches than planned fit into the workspace that was planned, wherever its parts then
/// lie.
#[test]
fn fewer_patches_need_no_more_workspace() {
    for preset in [Preset::Next7b, Preset::Tiny] {
        let config = preset.config().unwrap();
        for dtype in [Dtype::F16, Dtype::F32] {
            let footprint = Footprint::Cuda { formats: dtype.into(), library: false };
            let workspace = |method, budget: &str, most| {
                let selection = Selection::default()
                    .with_method(method)
                    .with_budget(budget.parse().unwrap())
                    .with_rule(Rule::Paper);
                let (counter, kept, _) = count_on(footprint, &config, &selection, most);
                (kept, counter.meter().most(Purpose::Workspace))
            };
            for (method, budget) in [Method::Hired, Method::PruMergePlus]
                .into_iter()
                .flat_map(|method| ["90%", "40%", "20%", "5%"].map(|budget| (method, budget)))
            {
                let (planned, enough) = workspace(method, budget, usize::MAX);
                for most in (0..planned).step_by(planned / 40 + 1) {
                    let (_, needed) = workspace(method, budget, most);
                    assert!(needed <= enough, "{preset} {budget}: {most} need {needed}, {enough}");
                }
            }
        }
    }
}
