//! Choosing tokens on the device, on the emulator: the CPU's tokens for the same logits, whatever the schedule.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/card.rs"]
mod card;
#[path = "support/emulator.rs"]
mod emulator;

use card::{Card, ORDERS};
use emulator::{Build, Emulator};
use hired::ops::cuda::sample::choose::Choosing;
use hired::ops::sample::{self, Sampling};

const WRONG_LOGITS: u32 = 8;

/// Tokens and flags for logits of f32, the most likely or drawn.
fn choose(
    logits: &[f32],
    rows: usize,
    how: Option<&[(Sampling, usize)]>,
    order: (i32, u64, u8),
    threads: u32,
) -> (Vec<u32>, Vec<u32>) {
    let card = Card::new(order);
    let choosing = Choosing::new(rows, logits.len() / rows, how.is_none());
    let layout = choosing.layout();
    let mut bytes = vec![0xEE; layout.bytes()];
    bytes[layout.flags.clone()].fill(0);
    if let Some(how) = how {
        bytes[layout.how.clone()].copy_from_slice(&choosing.how(how));
    }
    let (block, logits) = (card.upload(&bytes), card.upload(logits));
    let (mut launch, params) = choosing.launch(block, logits);
    launch.block = threads;
    card.run(&launch, params.pointer());
    let words: Vec<u32> = card.download(block, 2 * rows);
    assert_eq!(choosing.tokens(&words).is_ok(), words[rows..].iter().all(|&flags| flags == 0));
    (words[..rows].to_vec(), words[rows..].to_vec())
}

/// Numbers in [0, 1) from a seed.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| next()).collect()
}

/// Logits all different, or with many equals; some of them −0.
fn logits(seed: u64, count: usize) -> Vec<f32> {
    let shape = |(i, x): (usize, f32)| match seed % 3 {
        0 => (x - 0.5) * 30.0,
        1 => ((x - 0.5) * 8.0).round(),
        _ if i % 2 == 0 => -0.0,
        _ => 0.0,
    };
    numbers(seed, count).into_iter().enumerate().map(shape).collect()
}

const COLS: [usize; 7] = [1, 2, 31, 32, 33, 257, 1025];

fn on_emulator(test: &str, build: Build, cards: &[&str]) {
    let emulator = Emulator::build(build, &[]);
    for sm in cards {
        let output = emulator.child(test, &[("HIRED_EMULATOR_SM", *sm)]);
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "sm_{sm}: {}", String::from_utf8_lossy(&words));
    }
}

#[test]
fn device_takes_the_cpus_tokens() {
    on_emulator("tokens_equal", Build::Plain, &["61", "80"]);
}

#[test]
fn device_draws_without_races() {
    on_emulator("few_tokens_equal", Build::Races, &["61"]);
}

#[test]
#[ignore = "runs on the emulator, started by device_takes_the_cpus_tokens"]
fn tokens_equal() {
    for (dtype, cols) in COLS.into_iter().enumerate() {
        for (turn, order) in ORDERS.into_iter().enumerate() {
            let block = if turn == dtype % ORDERS.len() { 1024 } else { 64 };
            tokens_of(cols, (dtype + turn) as u64, order, block);
        }
    }
    // A real vocabulary.
    tokens_of(32064, 0, ORDERS[0], 128);
}

#[test]
#[ignore = "runs on the emulator, started by device_draws_without_races"]
fn few_tokens_equal() {
    for cols in [1, 33, 257] {
        tokens_of(cols, 1, ORDERS[0], 96);
        tokens_of(cols, 0, ORDERS[0], 64);
    }
}

fn tokens_of(cols: usize, seed: u64, order: (i32, u64, u8), block: u32) {
    // Limits of all kinds, then plain draws; one row decides without a draw.
    let mut how = Vec::new();
    for (i, (temperature, top_k, top_p)) in [
        (1.0, 0, 1.0),
        (0.0, 3, 0.5),
        (0.7, 5, 1.0),
        (1.3, 0, 0.9),
        (0.9, 40, 0.95),
        (1.0, 1, 1.0),
        (2.0, cols, 0.31),
        (1.0, 0, 0.0),
        (1e-30, 0, 1.0),
        (100.0, 0, 0.999),
    ]
    .into_iter()
    .enumerate()
    {
        how.push((
            Sampling::default()
                .with_temperature(temperature)
                .with_top_k(top_k)
                .with_top_p(top_p)
                .with_seed(seed << 33 | i as u64),
            i * 7,
        ));
    }
    let x = logits(seed, cols * how.len());
    let rows = || x.chunks_exact(cols);
    let greedy: Vec<u32> = rows().map(|row| sample::greedy(row).unwrap()).collect();
    let taken = choose(&x, how.len(), None, order, block);
    assert_eq!(taken, (greedy, vec![0; how.len()]), "{cols} {order:?}");
    let drawn = rows().zip(&how).map(|(row, (how, step))| sample::draw(row, how, *step));
    let drawn: Vec<u32> = drawn.map(Option::unwrap).collect();
    let taken = choose(&x, how.len(), Some(&how), order, block);
    assert_eq!(taken, (drawn, vec![0; how.len()]), "{cols} {order:?}");
}

#[test]
fn device_flags_logits_that_are_not_finite() {
    on_emulator("wrong_logits_are_flagged", Build::Plain, &["61"]);
}

#[test]
#[ignore = "runs on the emulator, started by device_flags_logits_that_are_not_finite"]
fn wrong_logits_are_flagged() {
    let cols = 70;
    let mut values = logits(0, 5 * cols);
    for (row, wrong) in [(1, f32::NAN), (2, f32::INFINITY), (3, f32::NEG_INFINITY)] {
        values[row * cols + 40] = wrong;
    }
    values[4 * cols..].fill(f32::NAN);
    let flags = [0, 1, 1, 1, 1].map(|wrong| wrong * WRONG_LOGITS);
    for temperature in [0.0, 1.0] {
        let how = Sampling::default()
            .with_temperature(temperature)
            .with_top_k(9)
            .with_top_p(0.9)
            .with_seed(1);
        let how = [(how, 2); 5];
        let taken = choose(&values, 5, None, ORDERS[0], 64);
        for (tokens, raised) in [taken, choose(&values, 5, Some(&how), ORDERS[1], 64)] {
            assert_eq!(raised, flags);
            assert!(tokens.iter().all(|&token| token < cols as u32), "{tokens:?}");
        }
        // One sequence's logits are no other's business.
        let alone = sample::draw(&values[..cols], &how[0].0, 2);
        assert_eq!(Some(choose(&values, 5, Some(&how), ORDERS[2], 64).0[0]), alone);
    }
}
