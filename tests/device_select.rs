//! Selection on the device, on the emulator: the same patches in the same order as the CPU's, whatever the schedule.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/card.rs"]
mod card;
#[path = "support/emulator.rs"]
mod emulator;
mod support;

use card::{Card, ORDERS};
use emulator::{Build, Emulator};
use hired::ops::cuda::select::Selecting;
use hired::select::*;
use serde::Deserialize;
use support::{GRIDS, Scores, layout, one_crop, pinpoints};

const WRONG_INIT: u32 = 1;
const WRONG_FINAL: u32 = 2;
const LARGE_INIT: u32 = 4;

const UNWRITTEN: u32 = 0xDEAD_BEEF;

/// The words of the device's block.
fn on_device(
    selecting: &Selecting,
    plan: &Plan,
    init: &[f32],
    scores: &[f32],
    order: (i32, u64, u8),
    threads: u32,
) -> Vec<u32> {
    let card = Card::new(order);
    let init = if plan.needs_init() { card.upload(init) } else { 0 };
    let scores = card.upload(scores);
    let layout = selecting.layout();
    let mut words = vec![UNWRITTEN; layout.words()];
    words[layout.flags.start] = 0;
    let block = card.upload(&words);
    for (mut launch, params) in selecting.launches(block, init, scores) {
        launch.block = threads;
        card.run(&launch, params.pointer());
    }
    card.download(block, words.len())
}

/// An image, a request and scores.
struct Case {
    name: String,
    layout: hired::image::Layout,
    patch_size: usize,
    selection: Selection,
    init: Vec<f32>,
    scores: Vec<f32>,
}

impl Case {
    /// The device's answer under an order; the CPU's, or none when it refuses the scores.
    fn check(&self, order: (i32, u64, u8), threads: u32) {
        let geometry = Geometry::new(&self.layout, self.patch_size).unwrap();
        // A share can come to no token.
        let Ok(plan) = plan(&geometry, &self.selection) else { return };
        if plan.rule.is_none() {
            return;
        }
        let selecting = Selecting::new(&plan).unwrap();
        let block = on_device(&selecting, &plan, &self.init, &self.scores, order, threads);
        let layout = selecting.layout();
        let delivered = selecting.delivered(&block[layout.head()]);
        let kept = match choose(&plan, &self.init, &self.scores) {
            Ok(kept) => kept,
            Err(error) => {
                assert!(delivered.is_err(), "{}: {error}", self.name);
                return;
            }
        };
        let delivered = delivered.unwrap();
        assert_eq!(delivered, kept.count(), "{} under {order:?}", self.name);
        assert_eq!(selecting.kept(&block[layout.outcome()]).unwrap(), kept);
        // Beyond what is delivered nothing is written.
        let expected = selecting.block(&kept);
        let lost = plan.kept - delivered;
        let arrays = [&layout.patches, &layout.rows, &layout.slots];
        let unwritten = |i: usize| arrays.iter().any(|a| (a.end - lost..a.end).contains(&i));
        for (i, (device, cpu)) in block.iter().zip(&expected).enumerate() {
            let right = if unwritten(i) { UNWRITTEN } else { *cpu };
            assert_eq!(*device, right, "{} under {order:?}: word {i} of {layout:?}", self.name);
        }
    }
}

#[derive(Deserialize)]
struct Golden {
    width: usize,
    height: usize,
    image_size: usize,
    patch_size: usize,
    pinpoints: Option<Vec<(usize, usize)>>,
    budget: String,
    alpha: String,
    rule: String,
    seed: u64,
}

fn golden_cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden/select.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let golden: Vec<Golden> = serde_json::from_str(&text).unwrap();
    assert!(golden.len() >= 50, "only {} cases", golden.len());
    let case = |(number, g): (usize, &Golden)| {
        let layout = match &g.pinpoints {
            Some(pinpoints) => layout(g.width, g.height, g.image_size, pinpoints),
            None => one_crop(g.width, g.height, g.image_size),
        };
        let patches = (g.image_size / g.patch_size).pow(2);
        let partitions = 1 + layout.grid.map_or(0, |(gh, gw)| gh * gw);
        let mut scores = Scores(g.seed);
        Case {
            name: format!("golden case {number}"),
            layout,
            patch_size: g.patch_size,
            selection: Selection {
                budget: g.budget.parse().unwrap(),
                alpha: g.alpha.parse().unwrap(),
                rule: g.rule.parse().unwrap(),
                ..Selection::default()
            },
            init: scores.take(patches),
            scores: scores.take(partitions * patches),
        }
    };
    golden.iter().enumerate().map(case).collect()
}

/// Small pictures of any shape, scores all different, with many ties, sparse, or none at all.
fn random_case(seed: u64) -> Case {
    let mut numbers = Scores(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    // Of the generator's squares: low numbers are more likely.
    let mut below = |n: usize| ((numbers.take(1)[0] * 64.0).sqrt() * n as f32) as usize % n;
    let (side, patch_size) = [(7, 7), (28, 7), (42, 14), (70, 14), (112, 14), (136, 8)][below(6)];
    let (width, height) = (1 + below(400), 1 + below(400));
    let layout = match below(5) {
        0 => one_crop(width, height, side),
        1 => {
            let grid = (1 + below(6), 1 + below(6));
            let canvas = (grid.0 * side, grid.1 * side);
            let single = layout(width, height, side, &[canvas]);
            // So thin that it has no pixel there.
            if single.grid == Some((0, 0)) { one_crop(width, height, side) } else { single }
        }
        _ => layout(width, height, side, &pinpoints(side)),
    };
    let selection = Selection {
        budget: match below(3) {
            0 => Budget::Count(1 + below(30)),
            1 => Budget::Count(1 + below(2000)),
            _ => Budget::Percent(1_000_000 * (1 + below(100)) as u32),
        },
        alpha: ["0", "1", "0.5", "0.123457", "0.9"][below(5)].parse().unwrap(),
        rule: [Rule::Exact, Rule::Paper, Rule::Repo][below(3)],
        newlines: [None, Some(Newlines::All)][below(2)],
        ..Selection::default()
    };
    let kind = below(4);
    let patches = (side / patch_size).pow(2);
    let partitions = 1 + layout.grid.map_or(0, |(gh, gw)| gh * gw);
    let mut take = |count| -> Vec<f32> {
        let shape = |(i, x): (usize, f32)| match kind {
            0 => x,
            1 => (x * 256.0).floor() / 256.0,
            2 => (x - 0.014).max(0.0),
            _ => [0.0, -0.0][i % 2],
        };
        numbers.take(count).into_iter().enumerate().map(shape).collect()
    };
    let (init, scores) = (take(patches), take(partitions * patches));
    let name = format!("random case {seed}: {selection:?} of {layout:?}");
    Case { name, layout, patch_size, selection, init, scores }
}

fn on_emulator(test: &str, cards: &[&str]) {
    let emulator = Emulator::build(Build::Plain, &[]);
    for sm in cards {
        let output = emulator.child(test, &[("HIRED_EMULATOR_SM", *sm)]);
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "sm_{sm}: {}", String::from_utf8_lossy(&words));
    }
}

#[test]
fn device_selects_what_the_cpu_selects() {
    on_emulator("selections_equal", &["61", "80"]);
}

#[test]
fn device_selects_in_blocks_of_three_warps() {
    on_emulator("few_selections_equal", &["61"]);
}

#[test]
fn device_flags_what_the_cpu_refuses() {
    on_emulator("wrong_scores_are_flagged", &["61"]);
}

#[test]
#[ignore = "runs on the emulator, started by device_selects_what_the_cpu_selects"]
fn selections_equal() {
    for (number, case) in golden_cases().iter().enumerate() {
        case.check(ORDERS[number % ORDERS.len()], 256);
    }
    for seed in 0..60 {
        let order = ORDERS[seed as usize % ORDERS.len()];
        random_case(seed).check(order, [256, 32, 64][seed as usize % 3]);
    }
}

#[test]
#[ignore = "runs on the emulator, started by device_selects_in_blocks_of_three_warps"]
fn few_selections_equal() {
    for seed in 0..30 {
        random_case(seed).check(ORDERS[0], 96);
    }
}

#[test]
#[ignore = "runs on the emulator, started by device_flags_what_the_cpu_refuses"]
fn wrong_scores_are_flagged() {
    let side = 70;
    for rule in [Rule::Exact, Rule::Paper, Rule::Repo] {
        for grid in [None, Some(GRIDS[2])] {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e-30, f32::MAX] {
                let layout = match grid {
                    Some(_) => layout(100, 90, side, &pinpoints(side)),
                    None => one_crop(100, 90, side),
                };
                let partitions = 1 + layout.grid.map_or(0, |(gh, gw)| gh * gw);
                let selection = Selection { rule, ..Selection::default() };
                let geometry = Geometry::new(&layout, 14).unwrap();
                let plan = plan(&geometry, &selection).unwrap();
                let selecting = Selecting::new(&plan).unwrap();
                let mut scores = Scores(3);
                let (init, last) = (scores.take(25), scores.take(partitions * 25));
                let mut bad_init = init.clone();
                bad_init[7] = wrong;
                let mut bad_last = last.clone();
                *bad_last.last_mut().unwrap() = wrong;

                let large = wrong == f32::MAX;
                let flags = |init: &[f32], last: &[f32]| {
                    let block = on_device(&selecting, &plan, init, last, ORDERS[3], 64);
                    let layout = selecting.layout();
                    let refused = choose(&plan, init, last).is_err();
                    assert_eq!(
                        selecting.kept(&block[layout.outcome()]).is_err(),
                        refused,
                        "{rule} {wrong}"
                    );
                    // Whatever was wrong, what is written can be used.
                    let offsets = &block[layout.offsets.clone()];
                    assert!(offsets.is_sorted() && offsets[0] == 0, "{rule} {wrong} {offsets:?}");
                    let kept = offsets[partitions] as usize;
                    assert!(
                        kept == plan.kept || kept < plan.kept && !plan.is_exact(),
                        "{rule} {wrong}"
                    );
                    let rows = &block[layout.rows.clone()][..kept];
                    assert!(rows.iter().all(|&row| row < partitions as u32 * 26), "{rows:?}");
                    block[layout.flags.start]
                };
                let first = match (large, rule, plan.needs_init()) {
                    (_, _, false) => 0,
                    (false, _, true) => WRONG_INIT,
                    (true, Rule::Exact, true) => LARGE_INIT,
                    (true, _, true) => 0,
                };
                assert_eq!(flags(&bad_init, &last), first, "{rule} {wrong}");
                assert_eq!(flags(&init, &bad_last), if large { 0 } else { WRONG_FINAL });
            }
        }
    }
}
