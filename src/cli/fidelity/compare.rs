//! Compares the two models, and prints the table.

use super::args::{FidelityArgs, Numbers};
use super::collect::{Compared, Said};
use crate::cli::table::{Columns, Format};
use serde::Serialize;

/// The distance between two distributions of the next token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Kullback-Leibler divergence KL(reference ‖ other) in nats.
    pub kl: f64,
    /// True if both have the same most likely token.
    pub agree: bool,
}

/// The distance between the softmax of `reference` and that of `other`, computed in f64.
pub fn divergence(reference: &[f32], other: &[f32]) -> Distance {
    let [p, q] = [reference, other].map(log_softmax);
    let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
    // Rounding can make the divergence of equal distributions negative.
    Distance { kl: kl.max(0.0), agree: best(reference) == best(other) }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |l, &x| l.max(x.into()));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    logits.iter().map(|&x| f64::from(x) - largest - sum.ln()).collect()
}

/// Index of the first maximum.
fn best(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

/// The Jaccard index over all partitions; 1 if both keep nothing.
pub fn jaccard(one: &[Vec<u32>], other: &[Vec<u32>]) -> f64 {
    let common: usize = one
        .iter()
        .zip(other)
        .map(|(one, other)| one.iter().filter(|&patch| other.contains(patch)).count())
        .sum();
    let count = |sets: &[Vec<u32>]| sets.iter().map(Vec::len).sum::<usize>();
    match count(one) + count(other) - common {
        0 => 1.0,
        all => common as f64 / all as f64,
    }
}

/// The comparison under one budget.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    schema: u32,
    dtype: String,
    group: Option<usize>,
    quantize: Option<&'static str>,
    method: String,
    budget: String,
    questions: usize,
    tokens: usize,
    kl_mean: f64,
    kl_p99: f64,
    kl_max: f64,
    top1_agreement: f64,
    kept_jaccard: f64,
    metric: String,
    accuracy: f64,
    reference_accuracy: f64,
    /// Number of questions that the reference answers better.
    lost: usize,
    /// Number of questions that the reference answers worse.
    gained: usize,
}

impl Row {
    pub fn new(
        args: &FidelityArgs,
        numbers: &Numbers,
        budget: &str,
        expected: &[Said],
        found: &[Compared],
    ) -> Self {
        let distances: Vec<Distance> = found.iter().flat_map(|f| f.distances.clone()).collect();
        let mut kl: Vec<f64> = distances.iter().map(|d| d.kl).collect();
        kl.sort_by(f64::total_cmp);
        let mean = |sum: f64, count: usize| sum / count.max(1) as f64;
        let agree = distances.iter().filter(|d| d.agree).count();
        let scores = || expected.iter().zip(found).map(|(e, f)| (e.score, f.score));
        Self {
            schema: 1,
            dtype: numbers.dtype.clone(),
            group: numbers.group,
            quantize: numbers.quantize,
            method: args.selections()[0].method.to_string(),
            budget: budget.into(),
            questions: found.len(),
            tokens: kl.len(),
            kl_mean: mean(kl.iter().sum(), kl.len()),
            kl_p99: percentile(&kl, 0.99),
            kl_max: kl.last().copied().unwrap_or(0.0),
            top1_agreement: mean(agree as f64, kl.len()),
            kept_jaccard: mean(found.iter().map(|f| f.jaccard).sum(), found.len()),
            metric: args.metric.name(),
            accuracy: mean(scores().map(|(_, found)| found).sum(), found.len()),
            reference_accuracy: mean(scores().map(|(expected, _)| expected).sum(), found.len()),
            lost: scores().filter(|(expected, found)| found < expected).count(),
            gained: scores().filter(|(expected, found)| found > expected).count(),
        }
    }
}

/// The smallest of ascending numbers that this share of them does not exceed.
fn percentile(ascending: &[f64], share: f64) -> f64 {
    let rank = (share * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The rows as a readable table.
pub fn table(format: Format, rows: &[Row]) -> String {
    let heads = [
        "weights",
        "budget",
        "questions",
        "tokens",
        "KL mean",
        "KL p99",
        "KL max",
        "same token %",
        "same patches %",
        "accuracy %",
        "f32 %",
        "lost",
        "gained",
    ];
    let cells = |row: &Row| -> Vec<String> {
        let mut weights = row.dtype.clone();
        if let Some(group) = row.group {
            weights += &format!(", groups of {group}");
        }
        if let Some(scope) = row.quantize {
            weights += &format!(", {scope}");
        }
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        vec![
            weights,
            row.budget.clone(),
            row.questions.to_string(),
            row.tokens.to_string(),
            format!("{:.1e}", row.kl_mean),
            format!("{:.1e}", row.kl_p99),
            format!("{:.1e}", row.kl_max),
            percent(row.top1_agreement),
            percent(row.kept_jaccard),
            percent(row.accuracy),
            percent(row.reference_accuracy),
            row.lost.to_string(),
            row.gained.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    Columns::all(format, &heads, 2, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_definition() {
        // p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): ½·ln 2 − ¼·ln 2.
        let [p, q] = [[2.0f32, 1.0, 1.0], [1.0, 2.0, 1.0]].map(|x| x.map(f32::ln));
        let distance = divergence(&p, &q);
        assert!((distance.kl - 0.25 * 2f64.ln()).abs() < 1e-6 && !distance.agree);
        // Adding a constant to all logits does not change the softmax.
        let moved = p.map(|x| x + 3.0);
        let distance = divergence(&p, &moved);
        assert!(distance.kl < 1e-7 && distance.agree);
    }

    #[test]
    fn sets_are_compared_partition_by_partition() {
        let one = [vec![1, 2, 3], vec![5]];
        assert_eq!(jaccard(&one, &one), 1.0);
        assert_eq!(jaccard(&one, &[vec![1, 2, 9], vec![5]]), 3.0 / 5.0);
        assert_eq!(jaccard(&one, &[vec![5], vec![1, 2, 3]]), 0.0);
        assert_eq!(jaccard(&[vec![]], &[vec![]]), 1.0);
    }

    #[test]
    fn percentiles_are_of_the_sorted_numbers() {
        let numbers: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&numbers, 0.99), 198.0);
        assert_eq!((percentile(&numbers[..1], 0.99), percentile(&[], 0.99)), (1.0, 0.0));
    }
}
