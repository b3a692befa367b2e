//! Selection on the device, on the emulator: the same patches in the same order as the CPU's, whatever the schedule.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/card.rs"]
mod card;
#[path = "support/emulator.rs"]
mod emulator;
mod support;

use card::{Card, ORDERS};
use emulator::{Build, Emulator};
use hired::ops::cuda::select::{ClsHeads, Seen, Selecting};
use hired::select::*;
use serde::Deserialize;
use support::{GRIDS, Picture, Scores, layout, one_crop, pinpoints};

const WRONG_INIT: u32 = 1;
const WRONG_FINAL: u32 = 2;
const LARGE_INIT: u32 = 4;

const UNWRITTEN: u32 = 0xDEAD_BEEF;

/// CLS attention of some partitions, head by head.
struct Heads {
    count: usize,
    patches: usize,
    /// `[partitions, heads, T + 1]`; the class token's own are NaN, so that no score can hide one.
    weights: Vec<f32>,
    /// `[partitions, heads]`.
    sums: Vec<f32>,
}

impl Heads {
    /// Heads of these weights `[partitions, heads, T]`.
    fn new(count: usize, patches: usize, weights: &[f32], sums: Vec<f32>) -> Self {
        let rows = weights.chunks_exact(patches);
        assert_eq!(rows.len(), sums.len());
        let weights = rows.flat_map(|row| [&[f32::NAN], row].concat()).collect();
        Self { count, patches, weights, sums }
    }

    /// A single head that has these scores `[partitions, T]`.
    fn single(patches: usize, scores: &[f32]) -> Self {
        Self::new(1, patches, scores, vec![1.0; scores.len() / patches])
    }

    /// `[partitions, T]`, as the CPU has them.
    fn scores(&self, how: hired::select::Heads) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.patches + 1).zip(&self.sums);
        let shares = rows.flat_map(|(row, sum)| row[1..].iter().map(move |weight| weight / sum));
        how.scores(&shares.collect::<Vec<_>>(), self.count, self.patches)
    }

    fn upload(&self, card: &Card) -> ClsHeads {
        let (weights, sums) = (card.upload(&self.weights), card.upload(&self.sums));
        ClsHeads { weights, sums, heads: self.count }
    }
}

/// The words of the device's block.
fn on_device(
    selecting: &Selecting,
    plan: &Plan,
    init: &Heads,
    last: &Heads,
    order: (i32, u64, u8),
    threads: u32,
) -> Vec<u32> {
    let card = Card::new(order);
    let init = if plan.needs.init.is_some() { init.upload(&card) } else { ClsHeads::default() };
    let last = last.upload(&card);
    let layout = selecting.layout();
    let mut words = vec![UNWRITTEN; layout.words()];
    words[layout.flags.start] = 0;
    if let Some(allocation) = selecting.allocation() {
        words[layout.allocation.clone()].copy_from_slice(&allocation);
    }
    let block = card.upload(&words);
    let seen = Seen { init, last, ..Seen::default() };
    for (mut launch, params) in selecting.launches(block, 0, &seen, 1) {
        launch.block = threads;
        card.run(&launch, params.pointer());
    }
    card.download(block, words.len())
}

/// An image, a request and CLS attention.
struct Case {
    name: String,
    layout: hired::image::Layout,
    patch_size: usize,
    selection: Selection,
    init: Heads,
    last: Heads,
}

impl Case {
    /// The device's answer under an order; the CPU's, or none when it refuses the scores.
    fn check(&self, order: (i32, u64, u8), threads: u32) {
        let geometry = Geometry::new(&self.layout, self.patch_size).unwrap();
        // A share can come to no token.
        let Ok(plan) = plan(&geometry, &self.selection) else { return };
        let selecting = Selecting::new(&plan).unwrap();
        if selecting.program().is_none() {
            return;
        }
        let block = on_device(&selecting, &plan, &self.init, &self.last, order, threads);
        let layout = selecting.layout();
        let delivered = selecting.delivered(&block[layout.head()]);
        let how = plan.needs.heads;
        let (init, last) = (self.init.scores(how), self.last.scores(how));
        let kept = match choose(&plan, &Evidence::scores(&init, &last)) {
            Ok(kept) => kept,
            Err(error) => {
                assert!(delivered.is_err(), "{}: {error}", self.name);
                return;
            }
        };
        let delivered = delivered.unwrap();
        assert_eq!(delivered, kept.count(), "{} under {order:?}", self.name);
        assert_eq!(selecting.kept(&block[layout.outcome()]).unwrap(), kept);
        // Beyond what is delivered nothing is written, and scores that are not looked at are not summed.
        let needed = |scores: Vec<f32>, count: usize| scores[..count].to_vec();
        let [inits, lasts] = plan.scores();
        let scores = hired::select::Scores { init: needed(init, inits), last: needed(last, lasts) };
        let expected = selecting.block(&kept, &scores);
        let lost = plan.rows - delivered;
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
    #[serde(flatten)]
    picture: Picture,
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
    let case = |(dtype, g): (usize, &Golden)| {
        let geometry = g.picture.geometry();
        let (partitions, patches) = (geometry.partitions(), geometry.patches());
        let mut scores = Scores(g.seed);
        Case {
            name: format!("golden case {dtype}"),
            layout: g.picture.layout(),
            patch_size: g.picture.patch_size,
            selection: Selection::default()
                .with_budget(g.budget.parse().unwrap())
                .with_alpha(g.alpha.parse().unwrap())
                .with_rule(g.rule.parse().unwrap()),
            init: Heads::single(patches, &scores.take(patches)),
            last: Heads::single(patches, &scores.take(partitions * patches)),
        }
    };
    golden.iter().enumerate().map(case).collect()
}

/// Small pictures of any shape, some or many heads, weights all different, with many ties, sparse, or none at all.
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
    let selection = Selection::default()
        .with_budget(match below(3) {
            0 => Budget::Count(1 + below(30)),
            1 => Budget::Count(1 + below(2000)),
            _ => Budget::Percent(1_000_000 * (1 + below(100)) as u32),
        })
        .with_alpha(["0", "1", "0.5", "0.123457", "0.9"][below(5)].parse().unwrap())
        .with_rule([Rule::Exact, Rule::Paper, Rule::Repo, Rule::Equal][below(4)])
        .with_newlines([None, Some(Newlines::All)][below(2)]);
    let (kind, count) = (below(4), [1, 2, 3, 16][below(4)]);
    use hired::select::Heads as How;
    let heads = [How::Sum, How::Mean, How::Max, How::One(below(count))][below(4)];
    let selection = selection.with_heads(heads);
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
    let mut heads = |partitions: usize| {
        let sums = (0..partitions * count).map(|row| [1.0, 0.75, 3.0][row % 3]).collect();
        Heads::new(count, patches, &take(partitions * count * patches), sums)
    };
    let (init, last) = (heads(1), heads(partitions));
    let name = format!("random case {seed}: {count} heads, {selection:?} of {layout:?}");
    Case { name, layout, patch_size, selection, init, last }
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
fn device_adds_heads_in_their_order() {
    on_emulator("heads_are_added_in_their_order", &["61"]);
}

#[test]
fn device_flags_what_the_cpu_refuses() {
    on_emulator("wrong_scores_are_flagged", &["61"]);
}

#[test]
#[ignore = "runs on the emulator, started by device_selects_what_the_cpu_selects"]
fn selections_equal() {
    for (dtype, case) in golden_cases().iter().enumerate() {
        case.check(ORDERS[dtype % ORDERS.len()], 256);
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
#[ignore = "runs on the emulator, started by device_adds_heads_in_their_order"]
fn heads_are_added_in_their_order() {
    // One patch of four is kept, by scores that any other order of the heads or any wider sum would change.
    let half = f32::EPSILON / 2.0;
    let cases = [
        // 1 + half + half is 1, half + half + 1 is more.
        ([[0.0, 1.0, 0.0, half], [0.0, half, 0.0, half], [0.0, half, 0.0, 1.0]], 3),
        // The same sum, so the lower patch.
        ([[0.0, 0.25, 0.0, 0.5], [0.0, 0.5, 0.0, 0.25], [0.0, half, 0.0, half]], 1),
        // Lost in the sum: a tie of all.
        ([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, half, half], [0.0, 0.0, 0.0, half]], 0),
    ];
    let layout = one_crop(14, 14, 14);
    let selection = Selection::default().with_budget(Budget::Count(1));
    let plan = plan(&Geometry::new(&layout, 7).unwrap(), &selection).unwrap();
    let selecting = Selecting::new(&plan).unwrap();
    for (weights, kept) in cases {
        let heads = || Heads::new(3, 4, weights.as_flattened(), vec![1.0; 3]);
        let block = on_device(&selecting, &plan, &heads(), &heads(), ORDERS[0], 32);
        let outcome = selecting.kept(&block[selecting.layout().outcome()]).unwrap();
        assert_eq!(outcome.indices, [[kept]], "{weights:?}");
        assert_eq!(
            outcome,
            choose(&plan, &Evidence::scores(&[], &heads().scores(plan.needs.heads))).unwrap()
        );
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
                let selection = Selection::default().with_rule(rule);
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
                    let heads = |scores| Heads::single(25, scores);
                    let (order, threads) = (ORDERS[3], 64);
                    let block =
                        on_device(&selecting, &plan, &heads(init), &heads(last), order, threads);
                    let layout = selecting.layout();
                    let refused = choose(&plan, &Evidence::scores(init, last)).is_err();
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
                        kept == plan.rows || kept < plan.rows && !plan.is_exact(),
                        "{rule} {wrong}"
                    );
                    let rows = &block[layout.rows.clone()][..kept];
                    assert!(rows.iter().all(|&row| row < partitions as u32 * 26), "{rows:?}");
                    block[layout.flags.start]
                };
                let first = match (large, rule, plan.needs.init.is_some()) {
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
