//! Sampling: from logits to a token, as a pure function whose choices a device can reproduce exactly.

use crate::setters::setters;
use crate::{Error, Result};

/// How the next token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// Divisor of the logits; 0 takes the most likely token and ignores the other settings except the penalty.
    pub temperature: f32,
    /// Only the `top_k` most likely tokens may be drawn; 0 disables the filter.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability may be drawn; 1 disables the filter.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the most likely one may be drawn; 0 disables the filter.
    pub min_p: f32,
    /// Applied before everything else, to the logits of tokens that occur in the prompt or the answer: positive ones
    /// are divided by it, negative ones multiplied. 1 changes nothing. It also applies where the most likely token is
    /// taken.
    pub repetition_penalty: f32,
    /// The same seed gives the same draws.
    pub seed: u64,
}

setters! {
    Sampling {
        with_temperature(temperature: f32);
        with_top_k(top_k: usize);
        with_top_p(top_p: f32);
        with_min_p(min_p: f32);
        with_repetition_penalty(repetition_penalty: f32);
        with_seed(seed: u64);
    }
}

impl Sampling {
    /// Checks that the values are in range.
    ///
    /// # Errors
    /// [`Error::Request`] that names the value.
    pub fn check(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            let t = self.temperature;
            return Err(Error::Request(format!("temperature {t}: give a number of at least 0")));
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return Err(Error::Request(format!("top_p {}: give a number from 0 to 1", self.top_p)));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(Error::Request(format!("min_p {}: give a number from 0 to 1", self.min_p)));
        }
        let penalty = self.repetition_penalty;
        if !(penalty.is_finite() && penalty > 0.0) {
            let what = format!("repetition_penalty {penalty}: give a number above 0, such as 1.1");
            return Err(Error::Request(what));
        }
        Ok(())
    }

    /// Whether the repetition penalty changes anything.
    pub fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    /// Whether the device kernels implement all of it; otherwise the host samples from the same logits.
    pub fn is_on_devices(&self) -> bool {
        !self.penalizes() && (self.min_p == 0.0 || self.temperature == 0.0)
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// Index of the largest logit, the lowest index among equals; `None` when a logit is not finite.
pub fn greedy(logits: &[f32]) -> Option<u32> {
    let mut best = 0;
    for (i, &x) in logits.iter().enumerate() {
        if !x.is_finite() {
            return None;
        }
        if x > logits[best] {
            best = i;
        }
    }
    (!logits.is_empty()).then_some(best as u32)
}

/// Applies the repetition penalty to the logits of tokens that occurred `before`, which must be distinct.
pub fn penalize(logits: &mut [f32], penalty: f32, before: impl IntoIterator<Item = u32>) {
    for token in before {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// Draws token number `step` of an answer; `None` when a logit is not finite. [`penalize`] is to be applied before.
///
/// Order of the filters as in transformers: temperature, top-k, top-p, min-p. The draw walks the
/// remaining tokens from the most likely one (the lower index first among equals).
pub fn draw(logits: &[f32], sampling: &Sampling, step: usize) -> Option<u32> {
    let best = greedy(logits)?;
    if sampling.temperature == 0.0 {
        return Some(best);
    }
    let (order, weights) = candidates(logits, best, sampling);
    let total: f64 = weights.iter().sum();
    let mut left = uniform(sampling.seed, step as u64) * total;
    for (weight, &index) in weights.iter().zip(&order) {
        left -= weight;
        if left < 0.0 {
            return Some(index);
        }
    }
    // Rounding can leave a remainder of 0 or more after the last token.
    Some(order[weights.len() - 1])
}

/// The tokens that may be drawn, the most likely first, and their weights relative to the first one's. There may be
/// more tokens than weights. All logits must be finite; `best` is the index of the largest.
fn candidates(logits: &[f32], best: u32, sampling: &Sampling) -> (Vec<u32>, Vec<f64>) {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let rank =
        |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
    if sampling.top_k > 0 && sampling.top_k < order.len() {
        order.select_nth_unstable_by(sampling.top_k - 1, rank);
        order.truncate(sampling.top_k);
    }
    // In f64 and after subtracting the maximum, so that a tiny temperature cannot overflow.
    let top = f64::from(logits[best as usize]);
    let weigh =
        |&i: &u32| ((f64::from(logits[i as usize]) - top) / f64::from(sampling.temperature)).exp();
    let least = f64::from(sampling.min_p);
    // Without top-p, tokens below the min-p limit need not be sorted.
    if least > 0.0 && sampling.top_p >= 1.0 {
        order.retain(|i| weigh(i) >= least);
    }
    order.sort_unstable_by(rank);

    let mut weights: Vec<f64> = order.iter().map(weigh).collect();
    if sampling.top_p < 1.0 {
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let enough = weights.iter().position(|w| {
            sum += w;
            sum >= f64::from(sampling.top_p) * total
        });
        weights.truncate(enough.map_or(weights.len(), |i| i + 1));
    }
    let likely = weights.iter().take_while(|weight| **weight >= least).count();
    weights.truncate(likely);
    (order, weights)
}

/// A number in [0, 1) with 53 random bits that depends on `seed` and `counter` alone.
fn uniform(seed: u64, counter: u64) -> f64 {
    let [low, high, ..] = philox([counter as u32, (counter >> 32) as u32, 0, 0], seed);
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

/// Philox 4×32 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011):
/// a generator without state, so that a device draws the same numbers in any order.
fn philox(mut counter: [u32; 4], seed: u64) -> [u32; 4] {
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the Random123 library.
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let all = u32::MAX;
        assert_eq!(
            philox([all; 4], u64::MAX),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals_and_refuses_nan() {
        assert_eq!(greedy(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(greedy(&[1.0, f32::NAN]), None);
        assert_eq!(greedy(&[]), None);
    }

    fn histogram(sampling: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for step in 0..draws {
            counts[draw(logits, &sampling, step).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.0, 2.0f32.ln(), 5.0f32.ln()];
        let sampling = Sampling { temperature: 1.0, seed: 7, ..Sampling::default() };
        let counts = histogram(sampling, &logits, 80_000);
        for (count, share) in counts.iter().zip([1.0 / 8.0, 2.0 / 8.0, 5.0 / 8.0]) {
            assert!((*count as f64 / 80_000.0 - share).abs() < 0.01, "{counts:?}");
        }
    }

    #[test]
    fn filters_exclude_the_tail() {
        let logits = [0.0, 3.0, 2.0, 3.0, -1.0];
        let base = Sampling { temperature: 1.0, seed: 1, ..Sampling::default() };
        let top_k = histogram(Sampling { top_k: 2, ..base }, &logits, 2000);
        assert!(top_k[1] > 800 && top_k[3] > 800 && top_k[1] + top_k[3] == 2000, "{top_k:?}");
        let top_p = histogram(Sampling { top_p: 0.3, ..base }, &logits, 500);
        assert_eq!(top_p[1], 500);
        let cold = Sampling { temperature: 1e-30, ..base };
        assert_eq!(draw(&[1.0, 2.0], &cold, 3), Some(1));
    }

    /// Which tokens transformers' logits processors leave, and their probabilities (tools/fixtures/sampling.py).
    #[test]
    fn what_may_be_drawn_is_what_transformers_draws_from() {
        let text = include_str!("../../tests/fixtures/sampling/processors.json");
        let golden: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() >= 8);
        for case in cases {
            let number = |key: &str| case[key].as_f64().unwrap() as f32;
            let list = |key: &str| case[key].as_array().unwrap().clone();
            let ids = |key: &str| -> Vec<u32> {
                list(key).iter().map(|id| id.as_u64().unwrap() as u32).collect()
            };
            let mut logits: Vec<f32> =
                list("logits").iter().map(|x| x.as_f64().unwrap() as f32).collect();
            let sampling = Sampling {
                temperature: number("temperature"),
                top_k: case["top_k"].as_u64().unwrap() as usize,
                top_p: number("top_p"),
                min_p: number("min_p"),
                repetition_penalty: number("repetition_penalty"),
                seed: 0,
            };
            sampling.check().unwrap();
            let before: std::collections::BTreeSet<u32> = ids("ids").into_iter().collect();
            penalize(&mut logits, sampling.repetition_penalty, before);
            let (order, weights) = candidates(&logits, greedy(&logits).unwrap(), &sampling);
            let total: f64 = weights.iter().sum();
            let mut drawn: Vec<(u32, f64)> =
                order.into_iter().zip(weights.iter().map(|weight| weight / total)).collect();
            drawn.sort_by_key(|(token, _)| *token);
            let kept: Vec<u32> = drawn.iter().map(|(token, _)| *token).collect();
            assert_eq!(kept, ids("kept"), "{sampling:?}");
            for ((token, probability), wanted) in drawn.iter().zip(list("probabilities")) {
                let wanted = wanted.as_f64().unwrap();
                assert!((probability - wanted).abs() < 1e-6, "{sampling:?}: {token}: {wanted}");
            }
        }
    }

    #[test]
    fn what_is_no_sampling_is_refused() {
        let wrong = [
            Sampling { min_p: -0.1, ..Sampling::default() },
            Sampling { min_p: f32::NAN, ..Sampling::default() },
            Sampling { repetition_penalty: 0.0, ..Sampling::default() },
            Sampling { repetition_penalty: f32::INFINITY, ..Sampling::default() },
        ];
        assert!(wrong.iter().all(|sampling| sampling.check().is_err()));
    }

    #[test]
    fn a_seed_fixes_the_draws() {
        let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32 * 0.1).collect();
        let draws = |seed| -> Vec<_> {
            let sampling = Sampling { temperature: 0.8, seed, ..Sampling::default() };
            (0..20).map(|step| draw(&logits, &sampling, step)).collect()
        };
        assert_eq!(draws(3), draws(3));
        assert_ne!(draws(3), draws(4));
    }
}
