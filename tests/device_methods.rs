//! The methods that compare rows, on the device, on the emulator: the same patches, and rows made of the same sources, as
//! the CPU has them, whatever the schedule.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/card.rs"]
mod card;
#[path = "support/emulator.rs"]
mod emulator;
mod support;

use card::{Card, ORDERS};
use emulator::{Build, Emulator};
use half::f16;
use hired::format::Dtype;
use hired::ops::cuda::select::{ClsHeads, Rows, Scratch, Seen, Selecting};
use hired::select::*;
use serde::Deserialize;
use support::{GRIDS, Scores, layout, one_crop, pinpoints};

const UNWRITTEN: u32 = 0xDEAD_BEEF;

const WRONG_FINAL: u32 = 2;
const WRONG_ROWS: u32 = 16;

/// What the methods look at, from a seed; the numbers have few bits, so that fp16 holds them.
struct Looks {
    heads: usize,
    patches: usize,
    /// `[heads, T]` and `[P, heads, T]`.
    init: Vec<f32>,
    last: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    features: Vec<f32>,
    projected: Vec<f32>,
    /// Numbers in a row of keys and features; projected ones have twice as many.
    width: usize,
}

impl Looks {
    fn new(geometry: &Geometry, heads: usize, width: usize, seed: u64) -> Self {
        let (partitions, patches) = (geometry.partitions(), geometry.patches());
        let mut draws = Scores(seed);
        let init = draws.take(heads * patches);
        let last = draws.take(partitions * heads * patches);
        let mut centred = |count, scale: f32| -> Vec<f32> {
            let units = draws.units(count).into_iter();
            units.map(|unit| f16::from_f32(scale * (unit - 0.5)).to_f32()).collect()
        };
        let rows = partitions * (patches + 1);
        Self {
            heads,
            patches,
            init,
            last,
            queries: centred(partitions * width, 8.0),
            keys: centred(rows * width, 1.0),
            features: centred(rows * width, 1.0),
            projected: centred(geometry.valid() * 2 * width, 1.0),
            width,
        }
    }

    /// What the CPU chooses.
    fn choose(&self, plan: &Plan) -> hired::Result<(Kept, hired::select::Scores)> {
        let how = plan.needs.heads;
        let scores = |needed: Option<Layer>, heads: &[f32]| {
            needed.map_or(Vec::new(), |_| how.scores(heads, self.heads, self.patches))
        };
        let scores = hired::select::Scores {
            init: scores(plan.needs.init, &self.init),
            last: scores(plan.needs.last, &self.last),
        };
        let matrix = |numbers, cols| Matrix { numbers, cols };
        let evidence = Evidence {
            init: &scores.init,
            last: &scores.last,
            queries: matrix(&self.queries, self.width),
            keys: matrix(&self.keys, self.width),
            heads: self.heads,
            features: matrix(&self.features, self.width),
            projected: matrix(&self.projected, 2 * self.width),
        };
        choose(plan, &evidence).map(|kept| (kept, scores))
    }

    /// The same on a card, its rows in this format and a few numbers apart.
    fn upload(&self, card: &Card, dtype: Dtype) -> Seen {
        let rows = |numbers: &[f32], cols: usize| {
            let stride = cols + 3;
            let mut apart = vec![f32::NAN; numbers.len() / cols * stride];
            for (to, from) in apart.chunks_exact_mut(stride).zip(numbers.chunks_exact(cols)) {
                to[..cols].copy_from_slice(from);
            }
            let address = match dtype {
                Dtype::F32 => card.upload(&apart),
                _ => {
                    let bits = apart.iter().map(|&x| f16::from_f32(x).to_bits());
                    card.upload(&bits.collect::<Vec<_>>())
                }
            };
            Rows { address, cols, stride, dtype }
        };
        let heads = |attention: &[f32]| {
            let rows = attention.chunks_exact(self.patches);
            let sums = vec![1.0f32; rows.len()];
            let weights: Vec<f32> = rows.flat_map(|row| [&[f32::NAN], row].concat()).collect();
            ClsHeads { weights: card.upload(&weights), sums: card.upload(&sums), heads: self.heads }
        };
        Seen {
            init: heads(&self.init),
            last: heads(&self.last),
            queries: rows(&self.queries, self.width),
            keys: rows(&self.keys, self.width),
            heads: self.heads,
            features: rows(&self.features, self.width),
            projected: rows(&self.projected, 2 * self.width),
        }
    }
}

/// The words of the device's block.
fn on_device(
    selecting: &Selecting,
    looks: &Looks,
    dtype: Dtype,
    order: (i32, u64, u8),
    threads: u32,
) -> Vec<u32> {
    let card = Card::new(order);
    let seen = looks.upload(&card, dtype);
    let layout = selecting.layout();
    let mut words = vec![UNWRITTEN; layout.words()];
    words[layout.flags.start] = 0;
    if let Some(allocation) = selecting.allocation() {
        words[layout.allocation.clone()].copy_from_slice(&allocation);
    }
    let block = card.upload(&words);
    let room = Scratch::of(selecting, seen.widths()).map(|scratch| {
        let tables = scratch.tables(selecting.plan());
        let mut room = vec![UNWRITTEN; scratch.bytes() / 4];
        room[..tables.len()].copy_from_slice(&tables);
        card.upload(&room)
    });
    for (mut launch, params) in selecting.launches(block, room.unwrap_or(0), &seen, 4) {
        if launch.file != "gemm_fma" {
            launch.block = threads;
        }
        card.run(&launch, params.pointer());
    }
    card.download(block, words.len())
}

/// A selection on an image.
struct Case {
    name: String,
    layout: hired::image::Layout,
    selection: Selection,
    looks: [usize; 2],
    seed: u64,
}

impl Case {
    /// Whether the device was asked.
    fn check(&self, dtype: Dtype, order: (i32, u64, u8), threads: u32) -> bool {
        let geometry = Geometry::new(&self.layout, 14).unwrap();
        let Ok(plan) = plan(&geometry, &self.selection) else { return false };
        let selecting = Selecting::new(&plan).unwrap();
        if selecting.program().is_none() {
            return false;
        }
        let [heads, width] = self.looks;
        let looks = Looks::new(&geometry, heads, width, self.seed);
        let (wanted, scores) = looks.choose(&plan).unwrap();
        let block = on_device(&selecting, &looks, dtype, order, threads);
        let layout = selecting.layout();
        let name = format!("{} in {dtype:?} under {order:?}", self.name);
        let mut kept = selecting.kept(&block[layout.outcome()]).unwrap();
        assert_eq!(kept.indices, wanted.indices, "{name}");
        assert_eq!(kept.allocation, wanted.allocation, "{name}");
        if selecting.mix_at(4).is_some() {
            kept.mix = Some(selecting.mix(kept.count(), plan.rows, &block[layout.mix()]));
        }
        let told = |kept: &Kept| {
            kept.mix.as_ref().map(|mix| {
                let sources = |row| mix.row(row).map(|(source, _)| source).collect::<Vec<_>>();
                let sources: Vec<_> = (0..mix.rows()).map(sources).collect();
                (sources, mix.added().to_vec())
            })
        };
        assert_eq!(told(&kept), told(&wanted), "{name}");
        for row in 0..kept.mix.as_ref().map_or(0, Mix::rows) {
            let weights = |kept: &Kept| -> Vec<f32> {
                kept.mix.iter().flat_map(|mix| mix.row(row)).map(|(_, weight)| weight).collect()
            };
            for (got, wanted) in weights(&kept).iter().zip(weights(&wanted)) {
                assert!((got - wanted).abs() <= 1e-6 * wanted, "{name}: {got}, {wanted}");
            }
        }
        let expected = selecting.block(&wanted, &scores);
        let rows = layout.rows.start..layout.rows.start + wanted.count();
        for array in [rows, layout.slots.clone(), layout.offsets.clone(), layout.last.clone()] {
            assert_eq!(block[array.clone()], expected[array], "{name}");
        }
        true
    }
}

#[derive(Deserialize)]
struct Golden {
    method: String,
    rule: String,
    heads: String,
    count: String,
    width: usize,
    height: usize,
    image_size: usize,
    pinpoints: Option<Vec<(usize, usize)>>,
    budget: String,
    seed: u64,
}

/// The requests of `golden/methods.json`, on evidence of their seeds.
fn golden_cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden/methods.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let golden: Vec<Golden> = serde_json::from_str(&text).unwrap();
    let case = |(dtype, g): (usize, &Golden)| Case {
        name: format!("golden case {dtype}: {} at {}", g.method, g.budget),
        layout: match &g.pinpoints {
            Some(pinpoints) => layout(g.width, g.height, g.image_size, pinpoints),
            None => one_crop(g.width, g.height, g.image_size),
        },
        selection: Selection::default()
            .with_method(g.method.parse().unwrap())
            .with_budget(g.budget.parse().unwrap())
            .with_rule(g.rule.parse().unwrap())
            .with_heads(g.heads.parse().unwrap())
            .with_tuning(Tuning::default().with_prumerge(g.count.parse().unwrap())),
        looks: [4, 8],
        seed: g.seed,
    };
    golden.iter().enumerate().map(case).collect()
}

/// Any parameters, widths that no vector reaches, padding of any kind.
fn random_case(seed: u64) -> Case {
    let mut numbers = Scores(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 5);
    let mut below = |n: usize| (numbers.units(1)[0] * n as f32) as usize % n;
    let side = [14, 28, 56, 84][below(4)];
    let (width, height) = (1 + below(400), 1 + below(400));
    let layout = match below(4) {
        0 => one_crop(width, height, side),
        _ => layout(width, height, side, &pinpoints(side)),
    };
    let methods = ["visionzip", "divprune", "scope", "prumerge", "prumerge+"];
    let selection = Selection::default()
        .with_method(methods[below(5)].parse().unwrap())
        .with_budget(match below(2) {
            0 => Budget::Count(1 + below(60)),
            _ => Budget::Percent(1_000_000 * (1 + below(99)) as u32),
        })
        .with_heads([Heads::Sum, Heads::Max, Heads::One(1)][below(3)])
        .with_newlines([None, Some(Newlines::All)][below(2)])
        .with_tuning(
            Tuning::default()
                .with_prumerge(Counting::Budget)
                .with_neighbours([0, 1, 5, 32][below(4)])
                .with_contextual(["0", "0.15625", "0.5", "1"][below(4)].parse().unwrap())
                .with_saliency(["0", "1", "0.5", "2"][below(4)].parse().unwrap()),
        );
    let looks = [[2, 6], [3, 39], [4, 64], [2, 10]][below(4)];
    let name = format!("random case {seed}: {selection:?} of {layout:?}");
    Case { name, layout, selection, looks, seed }
}

fn on_emulator(build: Build, test: &str, cards: &[&str]) {
    let emulator = Emulator::build(build, &[]);
    for sm in cards {
        let output = emulator.child(test, &[("HIRED_EMULATOR_SM", *sm)]);
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "sm_{sm}: {}", String::from_utf8_lossy(&words));
    }
}

#[test]
fn device_chooses_what_the_cpu_chooses() {
    on_emulator(Build::Plain, "choices_equal", &["61", "80"]);
}

#[test]
fn device_chooses_inside_its_arrays() {
    on_emulator(Build::Asan, "few_choices_equal", &["61"]);
}

#[test]
fn device_chooses_without_races() {
    on_emulator(Build::Races, "few_choices_equal", &["61"]);
}

#[test]
fn device_flags_rows_that_are_none() {
    on_emulator(Build::Plain, "wrong_rows_are_flagged", &["61"]);
}

#[test]
#[ignore = "runs on the emulator, started by device_chooses_what_the_cpu_chooses"]
fn choices_equal() {
    let mut asked = 0;
    for (i, case) in golden_cases().iter().enumerate() {
        let dtype = [Dtype::F32, Dtype::F16][i / 7 % 2];
        asked += usize::from(case.check(dtype, ORDERS[i % ORDERS.len()], [256, 64][i % 2]));
    }
    assert_eq!(asked, 60, "all but those whose dtype of rows is the evidence's word");
    for seed in 0..80 {
        let i = seed as usize;
        random_case(seed).check(
            [Dtype::F32, Dtype::F16][i / 3 % 2],
            ORDERS[i % ORDERS.len()],
            [256, 32, 96][i % 3],
        );
    }
}

#[test]
#[ignore = "runs on the emulator, started by the tests of arrays and races"]
fn few_choices_equal() {
    for seed in 100..120 {
        random_case(seed).check(Dtype::F32, ORDERS[seed as usize % ORDERS.len()], 64);
    }
}

#[test]
#[ignore = "runs on the emulator, started by device_flags_rows_that_are_none"]
fn wrong_rows_are_flagged() {
    let layout = layout(100, 90, 70, &pinpoints(70));
    assert_eq!(layout.grid, Some(GRIDS[2]));
    let geometry = Geometry::new(&layout, 14).unwrap();
    for method in ["visionzip", "divprune", "scope", "prumerge", "prumerge+"] {
        let contextual = "0.5".parse().unwrap();
        let tuning = Tuning::default().with_prumerge(Counting::Budget).with_contextual(contextual);
        let selection =
            Selection::default().with_method(method.parse().unwrap()).with_tuning(tuning);
        let plan = plan(&geometry, &selection).unwrap();
        let selecting = Selecting::new(&plan).unwrap();
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut looks = Looks::new(&geometry, 2, 6, 3);
            // A patch of the full image, a row that every method looks at.
            for rows in [&mut looks.keys, &mut looks.features] {
                rows[9 * 6 + 1] = wrong;
            }
            looks.projected[8 * 12 + 1] = wrong;
            let last = looks.last.len() - 1;
            looks.last[last] = wrong;
            let layout = selecting.layout();
            let block = on_device(&selecting, &looks, Dtype::F32, ORDERS[3], 64);
            assert!(
                looks.choose(&plan).is_err() && selecting.kept(&block[layout.outcome()]).is_err()
            );
            let scored = if plan.needs.last.is_some() { WRONG_FINAL } else { 0 };
            assert_eq!(block[layout.flags.start], WRONG_ROWS | scored, "{method} {wrong}");
            // Whatever was wrong, what is written can be used, and there is as much of it as was planned.
            let offsets = &block[layout.offsets.clone()];
            assert!(offsets.is_sorted() && offsets[0] == 0, "{method} {wrong} {offsets:?}");
            let kept = offsets[offsets.len() - 1] as usize;
            let most = match plan.needs.projected {
                true => geometry.valid(),
                false => geometry.partitions() * 26,
            };
            let rows = &block[layout.rows.clone()][..kept];
            assert!(rows.iter().all(|&row| (row as usize) < most), "{rows:?}");
            let mut slots = block[layout.slots.clone()].to_vec();
            slots.sort_unstable();
            assert!(slots.iter().enumerate().all(|(i, &slot)| i == slot as usize), "{slots:?}");
            if selecting.mix_at(4).is_some() {
                let mix = selecting.mix(kept, plan.rows, &block[layout.mix()]);
                assert_eq!(mix.rows(), plan.rows);
                let sources = (0..mix.rows()).flat_map(|row| mix.row(row));
                assert!(sources.into_iter().all(|(source, _)| source < most));
            }
        }
    }
}
