//! Every prediction in a file, written as the work goes on and read when it is taken up again.

use super::args::EvalArgs;
use super::metric::Metric;
use super::questions::{Item, Question};
use super::row::{Key, Outcome};
use crate::cli::Stop;
use crate::cli::journal::{Journal, Settings, of_tuning};
use hired::engine::CardInfo;
use hired::image::Resample;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What is known of an image: by selection, then by question.
pub type Grid = Vec<Vec<Option<Outcome>>>;

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Record {
    /// Of the file of questions, from 1.
    line: usize,
    /// What the file of questions calls it, or null.
    id: Value,
    image: String,
    prompt: String,
    answer: Vec<String>,
    prediction: String,
    score: f64,
    #[serde(flatten)]
    key: Key,
    visual_tokens: usize,
    /// Tokens of the prediction.
    tokens: usize,
}

/// The open file, or nothing where none was asked for.
pub struct Records<'a> {
    journal: Option<Mutex<Journal>>,
    keys: &'a [Key],
}

impl<'a> Records<'a> {
    /// Opens the file that was asked for, if any, and gives what it knows of each image.
    pub fn open(
        args: &EvalArgs,
        card: Option<&CardInfo>,
        resample: Resample,
        keys: &'a [Key],
        items: &[Item],
    ) -> Result<(Self, Vec<Grid>), Stop> {
        let mut grids: Vec<Grid> =
            items.iter().map(|item| vec![vec![None; item.questions.len()]; keys.len()]).collect();
        let Some(path) = &args.predictions else {
            return Ok((Self { journal: None, keys }, grids));
        };
        let (journal, lines) = Journal::open(path, "eval", &settings(args, card, resample))?;
        let places: BTreeMap<usize, (usize, usize)> = items
            .iter()
            .enumerate()
            .flat_map(|(i, item)| {
                item.questions.iter().enumerate().map(move |(q, of)| (of.line, (i, q)))
            })
            .collect();
        for (index, line) in lines.into_iter().enumerate() {
            let failed = |what: String| {
                // The settings are the first line.
                Stop::Failed(format!("{}: line {}: {what}", path.display(), index + 2))
            };
            let record: Record = serde_json::from_value(line)
                .map_err(|e| failed(format!("this is no prediction ({e}): delete the line")))?;
            // A smaller --limit, or fewer methods, leave some out.
            let Some(&(item, question)) = places.get(&record.line) else { continue };
            let asked = &items[item].questions[question];
            if (&items[item].name, &asked.prompt, &asked.right)
                != (&record.image, &record.prompt, &record.answer)
            {
                return Err(failed(format!(
                    "line {} of {} is another question now: name another file for the predictions",
                    record.line,
                    args.questions.display()
                )));
            }
            if let Some(row) = keys.iter().position(|key| *key == record.key) {
                grids[item][row][question] = Some(record.outcome(args.metric, asked));
            }
        }
        Ok((Self { journal: Some(Mutex::new(journal)), keys }, grids))
    }

    /// Adds what became known of an image; the numbers are of selection and question.
    pub fn add(&self, item: &Item, new: &[(usize, usize, &Outcome)]) -> Result<(), Stop> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let lines: Vec<Value> = new
            .iter()
            .map(|&(row, question, outcome)| {
                json!(Record::new(item, &item.questions[question], &self.keys[row], outcome))
            })
            .collect();
        journal.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).append(&lines)
    }
}

impl Record {
    fn new(item: &Item, question: &Question, key: &Key, outcome: &Outcome) -> Self {
        let Outcome { prediction, score, visual_tokens, tokens } = outcome.clone();
        let Question { line, id, prompt, right } = question.clone();
        let (image, key) = (item.name.clone(), key.clone());
        Self {
            line,
            id,
            image,
            prompt,
            answer: right,
            prediction,
            score,
            key,
            visual_tokens,
            tokens,
        }
    }

    /// Scored anew, as digits of the score in the file may be cut.
    fn outcome(self, metric: Metric, question: &Question) -> Outcome {
        let score = metric.score(&self.prediction, &question.right);
        let Self { prediction, visual_tokens, tokens, .. } = self;
        Outcome { prediction, score, visual_tokens, tokens }
    }
}

/// What the predictions depend on, beside the columns that each of them has.
fn settings(args: &EvalArgs, card: Option<&CardInfo>, resample: Resample) -> Settings {
    let mut all = Settings::new();
    all.insert("hired".into(), env!("CARGO_PKG_VERSION").into());
    all.insert("model".into(), args.model.model.display().to_string().into());
    all.insert("metric".into(), args.metric.name().into());
    all.insert("max_new_tokens".into(), args.max_new_tokens.into());
    all.insert("device".into(), card.map_or("cpu", |card| &card.name).into());
    all.insert("gemm".into(), card.map_or(Value::Null, |card| json!(card)["gemm"].clone()));
    all.insert("dtype".into(), args.device.dtype_name(card.is_some()).into());
    all.insert("resample".into(), format!("{resample:?}").to_lowercase().into());
    // Those of single methods are the same in all combinations.
    all.extend(args.compared.all().first().map_or(Settings::new(), |c| of_tuning(&c.selection)));
    all
}
