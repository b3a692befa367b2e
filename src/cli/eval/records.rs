//! The file of predictions, written as the work proceeds and read again by a later run.

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

/// The outcomes of an image that are known so far: by selection, then by question.
pub type Grid = Vec<Vec<Option<Outcome>>>;

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Record {
    /// Line number in the file of questions, from 1.
    line: usize,
    /// The question's id in the file of questions, or null.
    id: Value,
    image: String,
    prompt: String,
    answer: Vec<String>,
    prediction: String,
    score: f64,
    #[serde(flatten)]
    key: Key,
    visual_tokens: usize,
    /// Number of tokens of the prediction.
    tokens: usize,
}

/// The open file, if one was requested.
pub struct Records<'a> {
    journal: Option<Mutex<Journal>>,
    keys: &'a [Key],
}

impl<'a> Records<'a> {
    /// Opens the requested file, if any, and returns the outcomes in it for each image.
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
                // The first line holds the settings.
                Stop::Failed(format!("{}: line {}: {what}", path.display(), index + 2))
            };
            let record: Record = serde_json::from_value(line)
                .map_err(|e| failed(format!("this is no prediction ({e}): delete the line")))?;
            // A smaller --limit or fewer methods leave records unused.
            let Some(&(item, question)) = places.get(&record.line) else { continue };
            let asked = &items[item].questions[question];
            if (&items[item].name, &asked.prompt, &asked.right)
                != (&record.image, &record.prompt, &record.answer)
            {
                return Err(failed(format!(
                    "line {} of {} has a different question now: name another file for the predictions",
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

    /// Appends new outcomes of an image; the numbers are those of selection and question.
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

    /// Scores the prediction again, because the score in the file may be rounded.
    fn outcome(self, metric: Metric, question: &Question) -> Outcome {
        let score = metric.score(&self.prediction, &question.right);
        let Self { prediction, visual_tokens, tokens, .. } = self;
        Outcome { prediction, score, visual_tokens, tokens }
    }
}

/// The settings that the predictions depend on, apart from the columns that each of them has.
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
    // Parameters of individual methods are the same in all combinations.
    all.extend(args.compared.all().first().map_or(Settings::new(), |c| of_tuning(&c.selection)));
    all
}
