//! One row of the table: what was requested, the measurements, and the comparison with the full budget.

use super::BEFORE_FIRST;
use super::args::BenchArgs;
use crate::cli::values::TypedBudget;
use hired::engine::{Answer, Ceiling, Entry, Stage};
use hired::select::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The measured quantities, by the keys under which they are printed. Times are those of the whole batch: `ttft`
/// until every request has its first token; `throughput_with_prefill` is the number of all tokens divided by the time
/// from the call to the last of them.
pub const KEYS: [&str; 11] = [
    "ttft",
    "preprocess",
    "upload",
    "vision",
    "select",
    "project",
    "prefill",
    "decode_tokens_per_second",
    "throughput_with_prefill",
    "peak_memory",
    "predicted_peak",
];

/// Index of a key.
pub fn key(name: &str) -> usize {
    KEYS.iter().position(|key| *key == name).expect("one of the keys")
}

/// One measurement: a value for each key, or `None` if there was nothing to measure.
#[derive(Debug, Clone, Copy)]
pub struct Sample([Option<f64>; KEYS.len()]);

impl Sample {
    pub fn of(answers: &[Answer]) -> Self {
        let most = |of: &dyn Fn(&Answer) -> f64| answers.iter().map(of).fold(0.0, f64::max);
        let sum = |of: &dyn Fn(&Answer) -> f64| answers.iter().map(of).sum::<f64>();
        let ttft = most(&|a| a.timings.ttft);
        let end = most(&|a| a.timings.ttft + a.timings.decode);
        let tokens: usize = answers.iter().map(|a| a.token_ids.len()).sum();
        let later = (tokens - answers.len()) as f64;
        let memory = answers[0].memory;
        Self([
            Some(ttft),
            Some(sum(&|a| a.timings.preprocess)),
            Some(sum(&|a| a.timings.upload)),
            Some(sum(&|a| a.timings.vision)),
            Some(sum(&|a| a.timings.select)),
            Some(sum(&|a| a.timings.project)),
            Some(sum(&|a| a.timings.prefill)),
            (later > 0.0 && end > ttft).then(|| later / (end - ttft)),
            (end > 0.0).then(|| tokens as f64 / end),
            Some(memory.peak as f64),
            Some(memory.predicted_peak as f64),
        ])
    }
}

/// Minimum, median and maximum of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let (&least, &most) = (numbers.first()?, numbers.last()?);
        let middle = numbers.len() / 2;
        let median = match numbers.len() % 2 {
            0 => (numbers[middle - 1] + numbers[middle]) / 2.0,
            _ => numbers[middle],
        };
        Some(Self { least, median, most })
    }
}

/// The row of one method, budget and batch size.
#[derive(Debug, Clone)]
pub struct Row {
    pub method: String,
    /// The budget, with the method if there are several: distinguishes the row from others of the same batch size.
    pub name: String,
    /// The budget as given on the command line.
    pub budget: String,
    pub batch: usize,
    reps: usize,
    prompt_tokens: usize,
    new_tokens: usize,
    /// The requested number of patches.
    pub asked: usize,
    pub kept: usize,
    /// Further tokens that count towards the budget, in addition to kept patches.
    pub merged: usize,
    pub newlines: usize,
    /// True if the device waited for the host to select the tokens.
    pub host_round_trip: bool,
    values: [Option<Spread>; KEYS.len()],
    /// Ratios to the row of the full budget.
    ratios: [Option<f64>; KEYS.len()],
    /// Lower bounds in seconds from the device's peak rates: to the first tokens, and for one decode step.
    pub ttft_floor: Option<f64>,
    pub decode_floor: Option<f64>,
    /// The reason why there are no measurements.
    pub failure: Option<String>,
}

impl Row {
    pub fn new(args: &BenchArgs, method: Method, budget: &TypedBudget, batch: usize) -> Self {
        Self {
            method: method.to_string(),
            name: match args.compares_methods() {
                true => format!("{method} {}", budget.typed),
                false => budget.typed.clone(),
            },
            budget: budget.typed.clone(),
            batch,
            reps: args.reps,
            prompt_tokens: args.prompt_tokens,
            new_tokens: args.new_tokens,
            asked: 0,
            kept: 0,
            merged: 0,
            newlines: 0,
            host_round_trip: false,
            values: [None; KEYS.len()],
            ratios: [None; KEYS.len()],
            ttft_floor: None,
            decode_floor: None,
            failure: None,
        }
    }

    /// A row restored from an earlier run; `None` if it could not be measured then.
    pub fn restore(mut self, columns: &Value) -> Option<Self> {
        let count = |key: &str| columns.get(key)?.as_u64().map(|count| count as usize);
        if !columns["failure"].is_null() {
            return None;
        }
        (self.asked, self.kept) = (count("asked")?, count("kept")?);
        (self.merged, self.newlines) = (count("merged")?, count("newlines")?);
        self.host_round_trip = columns["host_round_trip"].as_bool()?;
        for (value, name) in self.values.iter_mut().zip(KEYS) {
            let number = |end: &str| columns.get(format!("{name}{end}"))?.as_f64();
            let spread =
                |median| Some(Spread { least: number("_min")?, median, most: number("_max")? });
            *value = number("").and_then(spread);
        }
        self.ttft_floor = columns["ttft_floor"].as_f64();
        self.decode_floor = columns["decode_floor"].as_f64();
        Some(self)
    }

    /// Returns true if the JSON object belongs to this row.
    pub fn is_in(&self, columns: &Value) -> bool {
        columns.get("ttft").is_some()
            && columns["method"] == self.method[..]
            && columns["budget"] == self.budget[..]
            && columns["batch"] == self.batch
    }

    /// Records the image's selection.
    pub fn describe(&mut self, answer: &Answer) {
        self.host_round_trip = answer.host_round_trip;
        if let Some(visual) = &answer.visual {
            (self.asked, self.kept, self.newlines) = (visual.budget, visual.kept, visual.newlines);
            self.merged = visual.merged;
        }
    }

    /// Rows that the image takes in the prompt.
    pub fn visual_tokens(&self) -> usize {
        self.kept + self.merged + self.newlines
    }

    pub fn fill(&mut self, samples: &[Sample]) {
        for (index, value) in self.values.iter_mut().enumerate() {
            *value = Spread::of(samples.iter().filter_map(|s| s.0[index]).collect());
        }
    }

    /// Computes the lower bounds from the peak rates, summed over the kernels.
    pub fn set_floors(&mut self, ceiling: Ceiling, entries: &[Entry]) {
        let before = entries.iter().filter(|e| BEFORE_FIRST.contains(&e.stage) && !e.is_copy());
        let first: Duration = before.map(|e| ceiling.time(e.cost)).sum();
        self.ttft_floor = Some(first.as_secs_f64());
        let steps = self.new_tokens.min(4).saturating_sub(1);
        let decode = entries.iter().filter(|e| e.stage == Stage::Decode && !e.is_copy());
        let decode: Duration = decode.map(|e| ceiling.time(e.cost)).sum();
        self.decode_floor = (steps > 0).then(|| decode.as_secs_f64() / steps as f64);
    }

    pub fn spread(&self, name: &str) -> Option<Spread> {
        self.values[key(name)]
    }

    pub fn median(&self, name: &str) -> Option<f64> {
        self.spread(name).map(|spread| spread.median)
    }

    /// Time of the selection divided by the encoder's.
    pub fn select_of_vision(&self) -> Option<f64> {
        let vision = self.median("vision").filter(|&vision| vision > 0.0)?;
        Some(self.median("select")? / vision)
    }

    pub fn ratio(&self, name: &str) -> Option<f64> {
        self.ratios[key(name)]
    }

    /// Compares the row with the full budget's row of the same batch size, if that was measured.
    pub fn compare(&mut self, rows: &[Row]) {
        let full: Option<Row> = match self.budget == "full" {
            true => Some(self.clone()),
            false => rows.iter().find(|r| r.budget == "full" && r.batch == self.batch).cloned(),
        };
        let Some(full) = full else { return };
        for (index, ratio) in self.ratios.iter_mut().enumerate() {
            *ratio = match (self.values[index], full.values[index]) {
                (Some(this), Some(full)) if full.median > 0.0 => Some(this.median / full.median),
                _ => None,
            };
        }
    }

    /// All columns by name.
    pub fn columns(&self) -> Map<String, Value> {
        let mut all = Map::new();
        let mut put = |name: &str, value: Value| {
            all.insert(name.to_owned(), value);
        };
        put("method", json!(self.method));
        put("budget", json!(self.budget));
        put("visual_tokens", json!(self.visual_tokens()));
        put("asked", json!(self.asked));
        put("kept", json!(self.kept));
        put("merged", json!(self.merged));
        put("newlines", json!(self.newlines));
        put("batch", json!(self.batch));
        put("prompt_tokens", json!(self.prompt_tokens));
        put("new_tokens", json!(self.new_tokens));
        put("reps", json!(self.reps));
        for (name, value) in KEYS.iter().zip(&self.values) {
            put(name, value.map_or(Value::Null, |v| number(name, v.median)));
        }
        for (name, value) in KEYS.iter().zip(&self.values) {
            put(&format!("{name}_min"), value.map_or(Value::Null, |v| number(name, v.least)));
            put(&format!("{name}_max"), value.map_or(Value::Null, |v| number(name, v.most)));
        }
        for (name, ratio) in KEYS.iter().zip(&self.ratios) {
            put(&format!("{name}_vs_full"), json!(ratio));
        }
        put("select_of_vision", json!(self.select_of_vision()));
        put("host_round_trip", json!(self.host_round_trip));
        put("ttft_floor", json!(self.ttft_floor));
        put("decode_floor", json!(self.decode_floor));
        put("failure", json!(self.failure));
        all
    }
}

/// Byte counts are printed as integers.
fn number(name: &str, value: f64) -> Value {
    if name.contains("peak") { json!(value.round() as u64) } else { json!(value) }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A row with the same number for each key.
    pub fn row(budget: &str, batch: usize, value: f64) -> Row {
        let spread = Spread { least: value, median: value, most: value };
        Row {
            method: "hired".into(),
            name: budget.into(),
            budget: budget.into(),
            batch,
            reps: 1,
            prompt_tokens: 60,
            new_tokens: 100,
            asked: 10,
            kept: 9,
            merged: 0,
            newlines: 1,
            host_round_trip: false,
            values: [Some(spread); KEYS.len()],
            ratios: [None; KEYS.len()],
            ttft_floor: None,
            decode_floor: None,
            failure: None,
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        let median = |numbers: &[f64]| Spread::of(numbers.into()).map(|s| s.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn rows_are_compared_with_the_full_one_of_their_batch() {
        let mut full = row("full", 1, 4.0);
        full.compare(&[]);
        assert_eq!(full.ratio("ttft"), Some(1.0));
        let (mut this, mut other) = (row("20%", 1, 1.0), row("20%", 2, 1.0));
        this.compare(std::slice::from_ref(&full));
        other.compare(&[full]);
        assert_eq!((this.ratio("ttft"), other.ratio("ttft")), (Some(0.25), None));
    }

    #[test]
    fn a_row_is_restored_from_its_columns() {
        let mut written = row("20%", 2, 1.5);
        (written.ttft_floor, written.merged) = (Some(0.5), 3);
        let columns = Value::Object(written.columns());
        let blank = Row { values: [None; KEYS.len()], kept: 0, ..row("20%", 2, 0.0) };
        assert!(blank.is_in(&columns) && !row("20%", 1, 0.0).is_in(&columns));
        let restored = blank.restore(&columns).unwrap();
        assert_eq!(Value::Object(restored.columns()), columns);
        written.failure = Some("no memory".into());
        assert!(row("20%", 2, 0.0).restore(&Value::Object(written.columns())).is_none());
    }
}
