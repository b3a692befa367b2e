//! Time of sampling from LLaVA's vocabulary of 32064: `cargo bench --bench sample`.

use divan::{Bencher, black_box};
use hired::ops::sample::{Sampling, draw, greedy};

fn main() {
    divan::main();
}

/// Logits with the distribution of real models: most are close together, and a short tail is likely.
fn logits() -> Vec<f32> {
    let unit = |i: usize| (i * 7919 % 32_063) as f32 / 32_063.0;
    (0..32_064).map(|i| 12.0 * unit(i).powi(8) - 6.0 * unit(i + 1)).collect()
}

/// Draws consecutive tokens of an answer.
fn measure(bencher: Bencher, sampling: Sampling) {
    let logits = logits();
    let mut step = 0;
    bencher.bench_local(|| {
        step += 1;
        draw(black_box(&logits), &sampling, step)
    });
}

#[divan::bench]
fn take_the_likeliest(bencher: Bencher) {
    let logits = logits();
    bencher.bench(|| greedy(black_box(&logits)));
}

#[divan::bench]
fn temperature(bencher: Bencher) {
    measure(bencher, Sampling::default().with_temperature(0.7));
}

#[divan::bench]
fn top_k_40(bencher: Bencher) {
    measure(bencher, Sampling::default().with_temperature(0.7).with_top_k(40));
}

#[divan::bench]
fn top_p_90(bencher: Bencher) {
    measure(bencher, Sampling::default().with_temperature(0.7).with_top_p(0.9));
}
