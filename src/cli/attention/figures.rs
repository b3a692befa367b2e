//! Sums of attention by kind of token, layer and step, over the image's patches, and by partition.

use crate::cli::table::{Columns, Format};
use hired::engine::{Attention, PromptRow};
use serde::Serialize;

/// Points of the cumulative distribution, in percent of the patches.
const PERCENT: [usize; 12] = [1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90];
/// The most attended patches whose partitions are counted, in percent of all patches.
const TOP: [usize; 2] = [10, 20];

/// Shares of attention by kind of token; they add up to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Tokens before the image.
    pub system: f64,
    /// Patches of the image.
    pub visual: f64,
    /// Row separators of the image.
    pub newline: f64,
    /// Tokens after the image.
    pub text: f64,
    /// Tokens of the answer.
    pub answer: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct OfLayer {
    pub layer: usize,
    pub shares: Shares,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct OfStep {
    token_id: u32,
    shares: Shares,
}

/// The number of tokens of each kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Counts {
    system: usize,
    visual: usize,
    newline: usize,
    text: usize,
    answer: usize,
}

/// The share of all attention to patches that the most attended patches receive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cumulative {
    pub percent: usize,
    pub share: f64,
}

/// The partitions of the most attended patches.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Origin {
    percent: usize,
    count: usize,
    /// The number of these patches in each partition, the full image first.
    partitions: Vec<usize>,
}

/// The complete report.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    schema: u32,
    text: String,
    token_ids: Vec<u32>,
    prompt_tokens: usize,
    tokens: Counts,
    /// Mean over all layers and steps.
    pub mean: Shares,
    /// Mean over steps.
    pub layers: Vec<OfLayer>,
    /// Mean over layers.
    steps: Vec<OfStep>,
    pub cumulative: Vec<Cumulative>,
    top: Vec<Origin>,
}

impl Figures {
    /// Computes the figures for the given decoder layers.
    pub fn of(attention: &Attention, layers: &[usize]) -> Self {
        let Attention { answer, rows, weights } = attention;
        let steps = weights.len().max(1) as f64;
        let shares = |layer: usize, step: usize| Shares::of(&weights[step][layer], rows);
        let mean_of = |all: &[Shares]| Shares::mean(all);
        let by_layer = layers.iter().map(|&layer| {
            let all: Vec<Shares> = (0..weights.len()).map(|step| shares(layer, step)).collect();
            OfLayer { layer, shares: mean_of(&all) }
        });
        let by_layer: Vec<OfLayer> = by_layer.collect();
        let by_step = answer.token_ids.iter().enumerate().map(|(step, &token_id)| {
            let all: Vec<Shares> = layers.iter().map(|&layer| shares(layer, step)).collect();
            OfStep { token_id, shares: mean_of(&all) }
        });
        // Attention to each row of the prompt, summed over layers and steps.
        let mut sums = vec![0f64; rows.len()];
        for step in weights {
            for &layer in layers {
                sums.iter_mut().zip(&step[layer]).for_each(|(sum, &w)| *sum += f64::from(w));
            }
        }
        let scale = 1.0 / (steps * layers.len() as f64);
        let mut patches: Vec<(f64, usize)> = rows
            .iter()
            .zip(&sums)
            .filter_map(|(row, sum)| match row {
                PromptRow::Patch { partition, .. } => Some((sum * scale, *partition)),
                _ => None,
            })
            .collect();
        // The sort is stable: among equal patches the first one wins.
        patches.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all: Vec<Shares> = by_layer.iter().map(|of| of.shares).collect();
        let visual = answer.visual.as_ref();
        let of_partitions = visual.map_or(0, |v| v.partitions * v.tokens_per_partition);
        let partitions = visual.map_or(0, |v| v.partitions);
        Self {
            schema: 1,
            text: answer.text.clone(),
            token_ids: answer.token_ids.clone(),
            prompt_tokens: answer.prompt_tokens,
            tokens: Counts::of(rows, answer.token_ids.len()),
            mean: mean_of(&all),
            layers: by_layer.clone(),
            steps: by_step.collect(),
            cumulative: cumulative(&patches),
            top: TOP
                .iter()
                .map(|&percent| Origin::of(&patches, percent, of_partitions, partitions))
                .collect(),
        }
    }

    /// A readable report.
    pub fn text(&self) -> String {
        let format = Format::or_default(None);
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let cells = |name: String, s: &Shares| {
            let shares = [s.system, s.visual, s.newline, s.text, s.answer];
            std::iter::once(name).chain(shares.map(percent)).collect::<Vec<_>>()
        };
        let mut rows: Vec<Vec<String>> =
            self.layers.iter().map(|of| cells(of.layer.to_string(), &of.shares)).collect();
        rows.push(cells("mean".into(), &self.mean));
        let c = &self.tokens;
        let counts = [c.system, c.visual, c.newline, c.text, c.answer].map(|n| n.to_string());
        rows.push(std::iter::once("tokens".to_owned()).chain(counts).collect());
        let heads = ["layer", "system", "visual", "newline", "text", "answer"];
        let shares = Columns::all(format, &heads, 1, &rows);
        let told: Vec<String> = self
            .cumulative
            .iter()
            .map(|c| format!("{}%: {}%", c.percent, percent(c.share)))
            .collect();
        let top = self.top.iter().map(|origin| {
            let counts: Vec<String> = origin.partitions.iter().map(usize::to_string).collect();
            format!(
                "The {} most attended ({}% of all patches), by partition, the full image first: {}\n",
                origin.count,
                origin.percent,
                counts.join(" ")
            )
        });
        let top: String = top.collect();
        format!(
            "Answer: {}\n\nAttention in percent, mean over heads and the answer's {} tokens\n\n{shares}\n\
             The most attended patches get, of the attention to patches: {}\n{top}",
            self.text.trim(),
            self.token_ids.len(),
            told.join(", ")
        )
    }
}

impl Shares {
    fn of(weights: &[f32], rows: &[PromptRow]) -> Self {
        let mut shares = Self::default();
        for (index, &weight) in weights.iter().enumerate() {
            let kind = match rows.get(index) {
                Some(PromptRow::System) => &mut shares.system,
                Some(PromptRow::Patch { .. }) => &mut shares.visual,
                Some(PromptRow::Newline) => &mut shares.newline,
                Some(PromptRow::Text) => &mut shares.text,
                None => &mut shares.answer,
            };
            *kind += f64::from(weight);
        }
        shares
    }

    fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Self {
            system: mean(|s| s.system),
            visual: mean(|s| s.visual),
            newline: mean(|s| s.newline),
            text: mean(|s| s.text),
            answer: mean(|s| s.answer),
        }
    }
}

impl Counts {
    fn of(rows: &[PromptRow], answer: usize) -> Self {
        let count = |is: fn(&PromptRow) -> bool| rows.iter().filter(|row| is(row)).count();
        Self {
            system: count(|row| matches!(row, PromptRow::System)),
            visual: count(|row| matches!(row, PromptRow::Patch { .. })),
            newline: count(|row| matches!(row, PromptRow::Newline)),
            text: count(|row| matches!(row, PromptRow::Text)),
            answer,
        }
    }
}

/// The cumulative distribution of `patches` (weight and partition), sorted by descending weight.
fn cumulative(patches: &[(f64, usize)]) -> Vec<Cumulative> {
    let all: f64 = patches.iter().map(|(weight, _)| weight).sum();
    if all == 0.0 {
        return Vec::new();
    }
    let of = |percent: usize| {
        let count = (patches.len() * percent).div_ceil(100);
        let share = patches[..count].iter().map(|(weight, _)| weight).sum::<f64>() / all;
        Cumulative { percent, share }
    };
    PERCENT.into_iter().map(of).collect()
}

impl Origin {
    fn of(patches: &[(f64, usize)], percent: usize, all: usize, partitions: usize) -> Self {
        let count = (all * percent / 100).min(patches.len());
        let mut of = vec![0; partitions];
        patches[..count].iter().for_each(|(_, partition)| of[*partition] += 1);
        Self { percent, count, partitions: of }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_sums_by_kind() {
        let patch = PromptRow::Patch { partition: 0, patch: 0 };
        let rows = [PromptRow::System, patch, patch, PromptRow::Newline, PromptRow::Text];
        let shares = Shares::of(&[0.5, 0.125, 0.0625, 0.0625, 0.125, 0.125], &rows);
        let expected =
            Shares { system: 0.5, visual: 0.1875, newline: 0.0625, text: 0.125, answer: 0.125 };
        assert_eq!(shares, expected);
        assert_eq!(Shares::mean(&[expected, expected]), expected);
    }

    #[test]
    fn the_most_attended_come_first() {
        let patches: Vec<(f64, usize)> =
            (0..10).map(|i| (f64::from(10 - i), i as usize % 2)).collect();
        let found = cumulative(&patches);
        let at = |percent| found.iter().find(|c| c.percent == percent).unwrap().share;
        assert_eq!((at(1), at(10), at(20)), (10.0 / 55.0, 10.0 / 55.0, 19.0 / 55.0));
        let origin = Origin::of(&patches, 20, 15, 2);
        assert_eq!(origin, Origin { percent: 20, count: 3, partitions: vec![2, 1] });
    }
}
