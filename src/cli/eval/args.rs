//! Options of `hired eval`.

use super::metric::Metric;
use crate::cli::args::{DeviceArgs, ModelArgs};
use crate::cli::selection::TuningArgs;
use crate::cli::table::Format;
use crate::cli::values::{self, TypedBudget};
use clap::Args;
use hired::select::{Alpha, Heads, Method, Newlines, Rule, Score, Selection};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// JSON lines: {"image": path relative to this file, "prompt": text, "answer": text or [texts]}
    #[arg(long, value_name = "FILE.jsonl")]
    pub questions: PathBuf,
    /// Metric for scoring predictions
    #[arg(long, value_enum, default_value_t = Metric::Exact)]
    pub metric: Metric,
    /// Ask only the first N questions
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = values::count)]
    pub limit: Option<usize>,
    /// Largest number of tokens per answer
    #[arg(long, value_name = "N", default_value = "32", allow_hyphen_values = true, value_parser = values::count)]
    pub max_new_tokens: usize,
    /// Write every prediction to FILE as one line of JSON as soon as its image is done. If the command is repeated
    /// after Ctrl-C or a crash, or with a larger --limit or more methods or budgets, only missing predictions are
    /// computed
    #[arg(long, visible_alias = "out", value_name = "FILE.jsonl")]
    pub predictions: Option<PathBuf>,
    /// Format of the table [default: table in a terminal, md elsewhere]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Same as --format json: an array with one object per row
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Plot accuracy over the number of image tokens: a line for each combination of options, a point for each budget
    #[arg(long, value_name = "OUT.svg")]
    pub plot: Option<PathBuf>,
    /// Plot the number of image tokens of each image: a line for each method and budget
    #[arg(long, value_name = "OUT.svg")]
    pub plot_tokens: Option<PathBuf>,
    #[command(flatten)]
    pub compared: ComparedArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl EvalArgs {
    /// The output format.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::or_default(self.format) }
    }
}

/// The options to compare: one row for each distinct combination.
#[derive(Debug, Args)]
#[command(next_help_heading = "Image tokens")]
pub struct ComparedArgs {
    /// Methods that choose the image tokens: hired, full (keep all), fastervlm, prumerge, prumerge+, visionzip,
    /// divprune, scope, globalcom2, fastv (inside the language model, depending on the question), and the baselines
    /// spatial and random
    #[arg(
        long,
        visible_alias = "method",
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "hired"
    )]
    methods: Vec<Method>,
    /// Budgets, each a count (576), a share of all patches (20%) or full
    #[arg(
        long,
        visible_alias = "budget",
        value_name = "B,…",
        value_delimiter = ',',
        default_value = "full,20%",
        allow_hyphen_values = true
    )]
    budgets: Vec<TypedBudget>,
    /// How hired allots tokens to partitions: exact, paper, repo, equal
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "exact")]
    rule: Vec<Rule>,
    /// The full image's share of the budget, 0 to 1
    #[arg(
        long,
        value_name = "A,…",
        value_delimiter = ',',
        default_value = "0.5",
        allow_hyphen_values = true
    )]
    alpha: Vec<Alpha>,
    /// Vision layers whose CLS attention splits the budget among the sub-images; negative counts from the end
    #[arg(long, value_name = "L,…", value_delimiter = ',', default_value = "0", allow_hyphen_values = true, value_parser = values::layer)]
    init_layer: Vec<i32>,
    /// Vision layers whose CLS attention ranks the patches; negative counts from the end
    /// [default: the last layer that the model's image features need]
    #[arg(long, value_name = "L,…", value_delimiter = ',', allow_hyphen_values = true, value_parser = values::layer)]
    final_layer: Vec<i32>,
    /// How the attention heads of these layers are combined: sum, mean, max or the number of one head
    #[arg(long, value_name = "HOW,…", value_delimiter = ',', default_value = "sum")]
    heads: Vec<Heads>,
    /// What a patch's score is made of: cls (the class token's attention), received (the attention that the patch
    /// receives, as the mean over all patches), head (the attention of SigLIP's pooling head to the patch, behind the last
    /// layer; for folders that hold it) [default: cls where the vision tower has a class token, else received]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    score: Vec<Score>,
    /// Row separators (image_newline tokens): all, none [default: all with the budget full and with fastv, otherwise
    /// none]
    #[arg(long, value_name = "W,…", value_delimiter = ',')]
    newlines: Vec<Newlines>,
    /// Seed of the method random
    #[arg(long, value_name = "S", default_value = "0", allow_hyphen_values = true)]
    drop_seed: u64,
    #[command(flatten)]
    tuning: TuningArgs,
}

/// One combination of options.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The budget as given on the command line.
    pub budget: String,
    pub selection: Selection,
}

impl ComparedArgs {
    /// Returns true if row separators were requested explicitly.
    pub fn has_newlines(&self) -> bool {
        !self.newlines.is_empty()
    }

    /// All combinations; the last option varies fastest.
    pub fn all(&self) -> Vec<Compared> {
        let mut all = vec![Compared {
            budget: String::new(),
            selection: Selection::default()
                .with_seed(self.drop_seed)
                .with_tuning(self.tuning.tuning()),
        }];
        spread(&mut all, &self.methods, |c, &method| c.selection.method = method);
        spread(&mut all, &self.budgets, |c, budget| {
            (c.budget, c.selection.budget) = (budget.typed.clone(), budget.budget);
        });
        spread(&mut all, &self.rule, |c, &rule| c.selection.rule = rule);
        spread(&mut all, &self.alpha, |c, &alpha| c.selection.alpha = alpha);
        spread(&mut all, &self.init_layer, |c, &layer| c.selection.init_layer = layer);
        spread(&mut all, &self.final_layer, |c, &layer| c.selection.final_layer = Some(layer));
        spread(&mut all, &self.heads, |c, &heads| c.selection.heads = heads);
        spread(&mut all, &self.score, |c, &score| c.selection.score = Some(score));
        spread(&mut all, &self.newlines, |c, &newlines| c.selection.newlines = Some(newlines));
        all
    }
}

/// Combines each entry with every value; an option without values changes nothing.
fn spread<T>(all: &mut Vec<Compared>, values: &[T], set: impl Fn(&mut Compared, &T)) {
    if values.is_empty() {
        return;
    }
    let with = |compared: Compared| {
        let set = &set;
        values.iter().map(move |value| {
            let mut compared = compared.clone();
            set(&mut compared, value);
            compared
        })
    };
    *all = std::mem::take(all).into_iter().flat_map(with).collect();
}
