//! Scores of answers, as the benchmarks define them.

use super::vqa;
use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// Equal to one of the answers, ignoring case and surrounding white space
    Exact,
    /// VQA and TextVQA: min(annotators who agree / 3, 1)
    Vqa,
    /// DocVQA: 1 − edit distance / longer length, for the nearest answer; below 0.5 counts as 0
    Anls,
    /// ChartQA: numbers within 5% of the answer, words equal
    Relaxed,
}

impl Metric {
    /// The score of a given answer against the right ones, 0 to 1.
    pub fn score(self, given: &str, right: &[String]) -> f64 {
        match self {
            Self::Exact => {
                let plain = |text: &str| text.trim().to_lowercase();
                f64::from(u8::from(right.iter().any(|r| plain(r) == plain(given))))
            }
            Self::Vqa => vqa::accuracy(given, right),
            Self::Anls => right.iter().map(|r| similarity(given, r)).fold(0.0, f64::max),
            Self::Relaxed => f64::from(u8::from(right.iter().any(|r| is_close(given, r)))),
        }
    }

    /// The name used in papers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Exact => "exact match",
            Self::Vqa => "VQA accuracy",
            Self::Anls => "ANLS",
            Self::Relaxed => "relaxed accuracy",
        }
    }

    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().into())
    }

    /// Returns true if all scores are 0 or 1.
    fn is_binary(self) -> bool {
        matches!(self, Self::Exact | Self::Relaxed)
    }

    /// The mean of the scores and its 95% confidence interval: Wilson's interval for binary scores (JASA 1927),
    /// otherwise the normal one.
    pub fn summary(self, scores: &[f64]) -> (f64, [f64; 2]) {
        const Z: f64 = 1.959_963_984_540_054;
        let n = scores.len() as f64;
        if scores.is_empty() {
            return (0.0, [0.0, 1.0]);
        }
        let mean = scores.iter().sum::<f64>() / n;
        let (middle, reach) = if self.is_binary() {
            let scale = 1.0 + Z * Z / n;
            let spread = (mean * (1.0 - mean) / n + Z * Z / (4.0 * n * n)).sqrt();
            ((mean + Z * Z / (2.0 * n)) / scale, Z * spread / scale)
        } else {
            let squares = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>();
            (mean, Z * (squares / (n - 1.0).max(1.0) / n).sqrt())
        };
        // Rounding must not move an end of the interval past the mean.
        (mean, [(middle - reach).clamp(0.0, mean), (middle + reach).clamp(mean, 1.0)])
    }
}

/// The normalised Levenshtein similarity (Biten et al., "Scene Text Visual Question Answering", ICCV 2019): 1 −
/// distance, or 0 if the distance is more than one half. At exactly one half the paper gives 0, but DocVQA's own
/// script, and lmms-eval with it, 0.5.
fn similarity(given: &str, right: &str) -> f64 {
    let plain = |text: &str| {
        let lower = text.trim().to_lowercase();
        lower.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect::<Vec<char>>()
    };
    let (given, right) = (plain(given), plain(right));
    let longer = given.len().max(right.len());
    if longer == 0 {
        return 1.0;
    }
    let distance = levenshtein(&given, &right) as f64 / longer as f64;
    if distance <= 0.5 { 1.0 - distance } else { 0.0 }
}

fn levenshtein(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

/// Relaxed equality (Masry et al., "ChartQA", ACL Findings 2022): numbers may differ by 5%; percent signs divide by
/// 100.
fn is_close(given: &str, right: &str) -> bool {
    match (number(given), number(right)) {
        (Some(given), Some(right)) if right != 0.0 => ((given - right) / right).abs() <= 0.05,
        _ => given.trim().to_lowercase() == right.trim().to_lowercase(),
    }
}

fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    match text.strip_suffix('%') {
        Some(share) => share.trim().parse::<f64>().ok().map(|n| n / 100.0),
        None => text.parse().ok(),
    }
    .filter(|n| n.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(metric: Metric, given: &str, right: &[&str]) -> f64 {
        metric.score(given, &right.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn exact_ignores_case_and_outer_blanks_only() {
        assert_eq!(score(Metric::Exact, " Red\n", &["blue", "red"]), 1.0);
        assert_eq!(score(Metric::Exact, "red.", &["red"]), 0.0);
    }

    #[test]
    fn edit_distances() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, expected) in [("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)] {
            assert_eq!(levenshtein(&chars(a), &chars(b)), expected);
        }
        assert_eq!(score(Metric::Anls, "Hello  World", &["hello world"]), 1.0);
        assert_eq!(score(Metric::Anls, "helo", &["hello"]), 0.8);
        assert_eq!(score(Metric::Anls, "abcd", &["abxy", "zzzz"]), 0.5);
        assert_eq!(score(Metric::Anls, "abcd", &["axyz"]), 0.0);
    }

    #[test]
    fn numbers_may_be_off_by_a_twentieth() {
        assert_eq!(score(Metric::Relaxed, "104.9", &["100"]), 1.0);
        assert_eq!(score(Metric::Relaxed, "105.1", &["100"]), 0.0);
        assert_eq!(score(Metric::Relaxed, "50%", &["0.5"]), 1.0);
        assert_eq!(score(Metric::Relaxed, "0", &["0"]), 1.0);
        assert_eq!(score(Metric::Relaxed, "Yes", &["yes"]), 1.0);
    }

    #[test]
    fn intervals_hold_what_is_known_of_them() {
        let scores =
            |right: usize| (0..100).map(|i| f64::from(u8::from(i < right))).collect::<Vec<_>>();
        let (mean, [low, high]) = Metric::Exact.summary(&scores(95));
        // Wilson's interval for 95 of 100.
        assert!(
            (mean - 0.95).abs() < 1e-9
                && (low - 0.8882).abs() < 1e-4
                && (high - 0.9785).abs() < 1e-4
        );
        assert_eq!(Metric::Exact.summary(&scores(0)).1[0], 0.0);
        let (_, [low, high]) = Metric::Anls.summary(&[0.5; 10]);
        assert_eq!((low, high), (0.5, 0.5));
    }
}
