//! Attention kernels on the emulator against plain sums in f64, over shapes, formats, code paths and schedules.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "../support/card.rs"]
mod card;
#[path = "../support/emulator.rs"]
mod emulator;

mod cls;
mod decoder;
mod vision;

use card::Card;
use emulator::{Build, Emulator};
use half::f16;
use hired::ops::cuda::launch::{Launch, Number};

/// Numbers from a seed.
struct Random(u64);

impl Random {
    /// In -1..1, with larger ones now and then so that one key can outweigh the rest.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0;
        if self.0 >> 32 & 31 == 0 { 3.0 * x } else { x }
    }
}

/// Rows of numbers `stride` apart, NaN between them.
struct Rows {
    data: Vec<f32>,
    stride: usize,
}

impl Rows {
    fn new(random: &mut Random, number: Number, rows: usize, cols: usize, stride: usize) -> Self {
        let mut data = vec![f32::NAN; rows * stride];
        for row in data.chunks_exact_mut(stride) {
            row[..cols].fill_with(|| rounded(number, random.next()));
        }
        Self { data, stride }
    }

    fn at(&self, row: usize, column: usize, width: usize) -> &[f32] {
        &self.data[row * self.stride + column..][..width]
    }
}

fn rounded(number: Number, x: f32) -> f32 {
    match number {
        Number::F16 => f16::from_f32(x).to_f32(),
        Number::F32 => x,
    }
}

/// With one number before it if it is not to be aligned.
fn upload(card: &Card, number: Number, values: &[f32], aligned: bool) -> u64 {
    let shift = usize::from(!aligned);
    let with = [&[0.0][..shift], values].concat();
    let at = match number {
        Number::F32 => card.upload(&with),
        Number::F16 => {
            card.upload(&with.iter().map(|&x| f16::from_f32(x).to_bits()).collect::<Vec<_>>())
        }
    };
    at + (shift * number.size()) as u64
}

fn blank(card: &Card, number: Number, count: usize, aligned: bool) -> u64 {
    let shift = usize::from(!aligned);
    card.blank::<u8>((count + shift) * number.size()) + (shift * number.size()) as u64
}

fn download(card: &Card, number: Number, at: u64, count: usize) -> Vec<f32> {
    match number {
        Number::F32 => card.download(at, count),
        Number::F16 => {
            let bits: Vec<u16> = card.download(at, count);
            bits.into_iter().map(|x| f16::from_bits(x).to_f32()).collect()
        }
    }
}

fn launch<P>(card: &Card, launch: &Launch, params: P) {
    card.run(launch, (&raw const params).cast());
}

/// Softmax of q·k over the keys.
fn softmax(q: &[f32], keys: &[&[f32]], scale: f32) -> Vec<f64> {
    let dot =
        |k: &&[f32]| q.iter().zip(*k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let scores: Vec<f64> = keys.iter().map(|k| dot(k) * f64::from(scale)).collect();
    let max = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

fn attend(q: &[f32], keys: &[&[f32]], values: &[&[f32]], scale: f32) -> Vec<f64> {
    let mut out = vec![0.0; q.len()];
    for (weight, v) in softmax(q, keys, scale).into_iter().zip(values) {
        for (out, v) in out.iter_mut().zip(*v) {
            *out += weight * f64::from(*v);
        }
    }
    out
}

/// The greatest difference, in units of what is allowed: the values are about 1.
fn hold(what: &str, number: Number, got: &[f32], expected: &[f64]) -> f64 {
    let allowed = match number {
        Number::F32 => 1e-6,
        Number::F16 => 1.0 / 1024.0,
    };
    assert_eq!(got.len(), expected.len());
    let difference = |(g, e): (&f32, &f64)| {
        assert!(!g.is_nan(), "{what}: not a number");
        (f64::from(*g) - e).abs() / e.abs().max(1.0) / allowed
    };
    let most = got.iter().zip(expected).map(difference).fold(0.0, f64::max);
    assert!(most <= 1.0, "{what}: {most} of what is allowed");
    most
}

fn path() -> u32 {
    std::env::var("HIRED_EMULATOR_SM").unwrap().parse().unwrap()
}

fn on_emulator(test: &str, build: Build, cards: &[&str]) {
    let emulator = Emulator::build(build, &[]);
    for sm in cards {
        let start = std::time::Instant::now();
        let output = emulator.child(test, &[("HIRED_EMULATOR_SM", *sm)]);
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        println!("{words}sm_{sm}: {:?}", start.elapsed());
        assert!(output.status.success(), "sm_{sm}: {words}");
    }
}

/// A case of each kind.
const FEW: [&str; 3] = ["vision::few", "cls::few", "decoder::few"];

#[test]
fn vision_attention_is_the_sum() {
    on_emulator("vision::cases", Build::Plain, &["61", "75", "80"]);
}

#[test]
fn class_scores_are_the_sum() {
    on_emulator("cls::cases", Build::Plain, &["80"]);
}

#[test]
fn decoder_attention_is_the_sum() {
    on_emulator("decoder::prefill_cases", Build::Plain, &["61", "75", "80"]);
    on_emulator("decoder::decode_cases", Build::Plain, &["61"]);
}

#[test]
fn attention_has_no_overruns() {
    for case in FEW {
        on_emulator(case, Build::Asan, &["61", "75", "80"]);
    }
}

#[test]
fn attention_has_no_races() {
    for case in FEW {
        on_emulator(case, Build::Races, &["61", "75", "80"]);
    }
}
