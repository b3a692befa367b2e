//! The result of each combination, and the table of all.

use super::args::{Compared, EvalArgs};
use super::questions::Item;
use crate::cli::table::{Columns, Format, shortened};
use hired::config::ModelConfig;
use hired::select::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The options that distinguish rows; `None` if an option has no effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub method: String,
    /// The budget as given on the command line. The method `full` has only this option.
    pub budget: String,
    rule: Option<String>,
    alpha: Option<f64>,
    init_layer: Option<i32>,
    final_layer: Option<i32>,
    heads: Option<String>,
    /// The requested score; also `None` if none was requested. Named differently because rows have a `score` of their
    /// own.
    #[serde(default)]
    scored_by: Option<String>,
    newlines: String,
}

/// Number of options that distinguish rows, without the budget.
const COLUMNS: usize = 8;

impl Key {
    pub fn new(compared: &Compared, config: &ModelConfig) -> Self {
        let selection = &compared.selection;
        let parts = selection.parts();
        let last = config.feature_blocks.saturating_sub(1) as i32;
        let budget = match selection.method {
            Method::Full => "full",
            _ => &compared.budget,
        };
        Self {
            method: selection.method.to_string(),
            budget: budget.into(),
            rule: parts.rule.then(|| selection.rule.to_string()),
            alpha: parts.shares.then(|| selection.alpha.value()),
            init_layer: parts.shares.then_some(selection.init_layer),
            final_layer: parts.ranks.then_some(selection.final_layer.unwrap_or(last)),
            heads: parts.heads.then(|| selection.heads.to_string()),
            scored_by: selection.score.filter(|_| parts.heads).map(|score| score.to_string()),
            newlines: selection.newlines().to_string(),
        }
    }

    /// Returns true if no token is dropped.
    pub fn keeps_everything(&self) -> bool {
        self.budget == "full"
    }

    /// Titles and values of the options.
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
            ("scored by", told(self.scored_by.as_ref())),
            ("newlines", self.newlines.clone()),
        ]
    }
}

/// The distinct combinations, counting only options that have an effect, with their keys.
pub fn distinct(all: Vec<Compared>, config: &ModelConfig) -> Vec<(Compared, Key)> {
    let mut distinct: Vec<(Compared, Key)> = Vec::new();
    for compared in all {
        let key = Key::new(&compared, config);
        if distinct.iter().all(|(_, other)| *other != key) {
            distinct.push((compared, key));
        }
    }
    distinct
}

/// A row of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub key: Key,
    /// Mean score, 0 to 1.
    pub accuracy: f64,
    /// 95% confidence interval of the mean score.
    pub interval: [f64; 2],
    pub questions: usize,
    /// Questions about images that could not be read; they count in no other column.
    pub left_out: usize,
    /// Mean number of image tokens that the decoder sees: kept patches, merged tokens and row separators.
    pub visual_tokens: f64,
}

/// An answer with its score and cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    pub prediction: String,
    pub score: f64,
    pub visual_tokens: usize,
    /// Number of tokens of the answer.
    pub tokens: usize,
}

impl Row {
    /// Summarises `outcomes`, one for each question.
    pub fn new(key: &Key, args: &EvalArgs, outcomes: &[Outcome], left_out: usize) -> Self {
        let scores: Vec<f64> = outcomes.iter().map(|o| o.score).collect();
        let (accuracy, interval) = args.metric.summary(&scores);
        let tokens: usize = outcomes.iter().map(|o| o.visual_tokens).sum();
        Self {
            key: key.clone(),
            accuracy,
            interval,
            questions: outcomes.len(),
            left_out,
            visual_tokens: tokens as f64 / outcomes.len().max(1) as f64,
        }
    }
}

impl Row {
    /// The row with one column for each end of the interval, for spreadsheets.
    pub fn flat(&self) -> Value {
        let mut row = json!(self);
        if let Some(columns) = row.as_object_mut() {
            columns.remove("interval");
            columns.insert("interval_low".into(), self.interval[0].into());
            columns.insert("interval_high".into(), self.interval[1].into());
        }
        row
    }
}

/// The columns of `names` in which rows differ; always includes the method.
fn telling(rows: &[Row]) -> Vec<usize> {
    let names: Vec<_> = rows.iter().map(|row| row.key.names()).collect();
    // An option that has no effect in a row makes no difference.
    let differ = |column: usize| {
        let mut told = names.iter().map(|names| &names[column].1).filter(|value| !value.is_empty());
        let first = told.next();
        told.any(|value| Some(value) != first)
    };
    (0..COLUMNS).filter(|&column| column == 0 || differ(column)).collect()
}

/// A name for each row, which is the same for rows that differ only in the budget. Row separators that follow from
/// the budget are not part of it.
pub fn series(rows: &[Row], args: &EvalArgs) -> Vec<String> {
    let columns = telling(rows);
    let name = |row: &Row| {
        let names = row.key.names();
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

/// The readable report: the table of rows, and some of the wrong answers.
pub struct Report<'a> {
    pub rows: &'a [Row],
    /// Outcomes by row, then by question in the order of `items`.
    pub outcomes: &'a [Vec<Outcome>],
    pub items: &'a [Item],
    /// Number of all images, if the work was stopped before the last one.
    pub ended_before: Option<usize>,
    pub machine: &'a str,
}

/// Maximum number of wrong answers shown: per row, and in total.
const WRONG: [usize; 2] = [3, 12];

impl Report<'_> {
    pub fn text(&self, format: Format, args: &EvalArgs) -> String {
        let Self { rows, items, machine, .. } = self;
        let columns = telling(rows);
        let names = |row: &Row| -> Vec<(&'static str, String)> {
            let names = row.key.names();
            columns.iter().map(|&column| names[column].clone()).collect()
        };
        let mut heads: Vec<&str> =
            rows.first().map_or(Vec::new(), names).iter().map(|n| n.0).collect();
        let texts = heads.len();
        heads.extend(["budget", "image tokens", "accuracy %", "95% interval"]);
        let cells = |row: &Row| {
            let mut cells: Vec<String> = names(row).into_iter().map(|(_, value)| value).collect();
            let [low, high] = row.interval;
            cells.push(row.key.budget.clone());
            cells.push(format!("{:.1}", row.visual_tokens));
            cells.push(format!("{:.1}", 100.0 * row.accuracy));
            cells.push(format!("{:.1}–{:.1}", 100.0 * low, 100.0 * high));
            cells
        };
        let table: Vec<Vec<String>> = rows.iter().map(cells).collect();
        let table = Columns::all(format, &heads, texts, &table);
        let left_out = match rows.first().map_or(0, |row| row.left_out) {
            0 => String::new(),
            n => format!(", {n} more questions left out: their images cannot be read"),
        };
        let ended = self.ended_before.map_or(String::new(), |all| {
            format!("\nInterrupted: only {} of {all} images are counted.", items.len())
        });
        let questions = items.iter().map(|item| item.questions.len()).sum();
        format!(
            "{} on {machine}\n{}: {}, {}, metric: {}{left_out}{ended}\n\n{table}{}",
            args.model.model.display(),
            args.questions.display(),
            counted(questions, "question"),
            counted(items.len(), "image"),
            args.metric.title(),
            self.wrong(format, args)
        )
    }

    /// The first wrong answers of each row.
    fn wrong(&self, format: Format, args: &EvalArgs) -> String {
        let questions: Vec<_> =
            self.items.iter().flat_map(|i| i.questions.iter().map(move |q| (i, q))).collect();
        let (mut shown, mut count) = (Vec::new(), 0);
        for (name, (row, outcomes)) in
            series(self.rows, args).into_iter().zip(self.rows.iter().zip(self.outcomes))
        {
            let wrong = questions.iter().zip(outcomes).filter(|(_, o)| o.score < 1.0);
            for (index, ((item, question), outcome)) in wrong.enumerate() {
                count += 1;
                if index < WRONG[0] && shown.len() < WRONG[1] {
                    shown.push(vec![
                        shortened(&name, 24),
                        row.key.budget.clone(),
                        question.line.to_string(),
                        shortened(&item.name, 24),
                        shortened(&question.prompt, 28),
                        shortened(&question.right.join(" / "), 16),
                        shortened(&outcome.prediction, 16),
                    ]);
                }
            }
        }
        if shown.is_empty() {
            return String::new();
        }
        let heads = ["method", "budget", "line", "image", "prompt", "answer", "prediction"];
        let where_all = match &args.predictions {
            Some(path) => format!("{} has all", path.display()),
            None => "--predictions FILE.jsonl writes all".into(),
        };
        let some = match count > shown.len() {
            true => format!("the first {} of {count}; {where_all}", shown.len()),
            false => where_all,
        };
        let table = Columns::all(format, &heads, heads.len(), &shown);
        format!("\nAnswers below full score ({some}):\n\n{table}")
    }
}

/// A number with its noun, in the plural unless it is 1.
pub fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
