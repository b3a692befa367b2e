//! What a combination came to, and the table of all.

use super::args::{Compared, EvalArgs};
use super::questions::Item;
use crate::cli::table::markdown;
use hired::config::ModelConfig;
use serde::Serialize;

/// A line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub method: String,
    /// As typed.
    pub budget: String,
    /// `None`, as the next four: it plays no part.
    pub rule: Option<String>,
    pub alpha: Option<f64>,
    pub init_layer: Option<i32>,
    pub final_layer: Option<i32>,
    pub heads: Option<String>,
    pub newlines: String,
    /// Mean score, 0 to 1.
    pub accuracy: f64,
    /// Where it lies with 95% certainty.
    pub interval: [f64; 2],
    pub questions: usize,
    /// Questions about images that could not be read, which count nowhere else.
    pub left_out: usize,
    /// Mean of what the decoder sees of an image: patches kept, rows beside them, newlines.
    pub visual_tokens: f64,
}

/// Columns that tell rows apart, beside the budget.
const COLUMNS: usize = 7;

/// What an answer was worth, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub score: f64,
    pub visual_tokens: usize,
}

impl Row {
    /// `outcomes`: one for each question.
    pub fn new(
        compared: &Compared,
        config: &ModelConfig,
        args: &EvalArgs,
        outcomes: &[Outcome],
        left_out: usize,
    ) -> Self {
        let selection = &compared.selection;
        let parts = selection.parts();
        let scores: Vec<f64> = outcomes.iter().map(|o| o.score).collect();
        let (accuracy, interval) = args.metric.summary(&scores);
        let tokens: usize = outcomes.iter().map(|o| o.visual_tokens).sum();
        let last = config.feature_blocks.saturating_sub(1) as i32;
        Self {
            method: selection.method.to_string(),
            budget: compared.budget.clone(),
            rule: parts.rule.then(|| selection.rule.to_string()),
            alpha: parts.shares.then(|| selection.alpha.value()),
            init_layer: parts.shares.then_some(selection.init_layer),
            final_layer: parts.ranks.then_some(selection.final_layer.unwrap_or(last)),
            heads: parts.heads.then(|| selection.heads.to_string()),
            newlines: selection.newlines().to_string(),
            accuracy,
            interval,
            questions: outcomes.len(),
            left_out,
            visual_tokens: tokens as f64 / outcomes.len().max(1) as f64,
        }
    }

    /// What tells rows apart: titles and values.
    fn names(&self) -> [(&'static str, String); COLUMNS] {
        fn told(value: Option<impl ToString>) -> String {
            value.map_or(String::new(), |value| value.to_string())
        }
        [
            ("method", self.method.clone()),
            ("rule", told(self.rule.as_ref())),
            ("alpha", told(self.alpha)),
            ("init layer", told(self.init_layer)),
            ("final layer", told(self.final_layer)),
            ("heads", told(self.heads.as_ref())),
            ("newlines", self.newlines.clone()),
        ]
    }
}

/// The columns of `names` in which rows differ; the method always.
fn telling(rows: &[Row]) -> Vec<usize> {
    let names: Vec<_> = rows.iter().map(Row::names).collect();
    // What plays no part in a row makes no difference.
    let differ = |column: usize| {
        let mut told = names.iter().map(|names| &names[column].1).filter(|value| !value.is_empty());
        let first = told.next();
        told.any(|value| Some(value) != first)
    };
    (0..COLUMNS).filter(|&column| column == 0 || differ(column)).collect()
}

/// A name for each row, the same for those that differ in their budget only. Newlines that follow from the budget tell
/// nothing.
pub fn series(rows: &[Row], args: &EvalArgs) -> Vec<String> {
    let columns = telling(rows);
    let name = |row: &Row| {
        let names = row.names();
        let told = columns
            .iter()
            .filter(|&&column| names[column].0 != "newlines" || args.compared.has_newlines());
        let parts = told.filter_map(|&column| match &names[column] {
            ("method", value) => Some(value.clone()),
            (_, value) if value.is_empty() => None,
            (key, value) => Some(format!("{key} {value}")),
        });
        parts.collect::<Vec<_>>().join(", ")
    };
    rows.iter().map(name).collect()
}

/// Everything as Markdown.
pub fn report(rows: &[Row], args: &EvalArgs, items: &[Item], machine: &str) -> String {
    let columns = telling(rows);
    let names = |row: &Row| columns.iter().map(|&c| row.names()[c].1.clone()).collect::<Vec<_>>();
    let mut head: Vec<String> = rows
        .first()
        .map_or(Vec::new(), |r| columns.iter().map(|&c| r.names()[c].0.into()).collect());
    head.extend(["budget", "visual tokens", "accuracy %", "95% interval"].map(String::from));
    let mut table = vec![head];
    for row in rows {
        let mut cells = names(row);
        let [low, high] = row.interval;
        cells.push(row.budget.clone());
        cells.push(format!("{:.1}", row.visual_tokens));
        cells.push(format!("{:.1}", 100.0 * row.accuracy));
        cells.push(format!("{:.1}–{:.1}", 100.0 * low, 100.0 * high));
        table.push(cells);
    }
    let left_out = match rows.first().map_or(0, |row| row.left_out) {
        0 => String::new(),
        n => format!(" ({n} more questions are about images that could not be read)"),
    };
    format!(
        "{} on {machine}: {} questions about {} images of {}{left_out}, metric: {}.\n\n{}",
        args.model.model.display(),
        items.iter().map(|item| item.questions.len()).sum::<usize>(),
        items.len(),
        args.questions.display(),
        args.metric.name(),
        markdown(&table)
    )
}
