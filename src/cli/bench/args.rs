//! Options of `hired bench`.

use crate::cli::args::DeviceArgs;
use crate::cli::selection::SelectionArgs;
use crate::cli::values::{self, TypedBudget};
use clap::{Args, ValueEnum};
use hired::checkpoint::synth::Preset;
use hired::select::{Budget, Method};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people
    Md,
    /// One table for spreadsheets
    Csv,
    /// One object a line, the first describes build and device
    Json,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Hugging Face folder: config.json, preprocessor_config.json, tokenizer.json, *.safetensors
    #[arg(long, value_name = "DIR", required_unless_present = "synthetic")]
    pub model: Option<PathBuf>,
    /// Random weights of an architecture, made on the device: tiny, llava-v1.6-vicuna-7b, llava-v1.6-vicuna-13b,
    /// llava-v1.6-mistral-7b, llava-1.5-7b or llava-1.5-13b
    #[arg(long, value_name = "PRESET", conflicts_with = "model")]
    pub synthetic: Option<Preset>,
    /// PNG, JPEG, WebP, BMP or GIF (first frame) [default: a fixed picture of 672×672 pixels]
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Token-dropping methods to measure beside each other, in place of --method: hired, full, spatial, random, fastervlm,
    /// prumerge, prumerge+, visionzip, divprune, scope. The full budget, the same with all of them, is measured once
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "method")]
    methods: Vec<Method>,
    /// Budgets to measure, each a count (576), a share of all patches (20%) or full
    #[arg(
        long,
        value_name = "B,…",
        value_delimiter = ',',
        default_value = "full,40%,30%,20%,10%",
        allow_hyphen_values = true
    )]
    pub budgets: Vec<TypedBudget>,
    /// Requests answered together
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4", allow_hyphen_values = true, value_parser = values::count)]
    pub batch: Vec<usize>,
    /// Tokens of text in each prompt
    #[arg(long, value_name = "N", default_value = "60", allow_hyphen_values = true, value_parser = values::count)]
    pub prompt_tokens: usize,
    /// Tokens of each answer, whatever the model would say
    #[arg(long, value_name = "N", default_value = "100", allow_hyphen_values = true, value_parser = values::count)]
    pub new_tokens: usize,
    /// Measurements of each row, after one that is not counted
    #[arg(long, value_name = "N", default_value = "5", allow_hyphen_values = true, value_parser = values::count)]
    pub reps: usize,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Md)]
    pub format: Format,
    /// Also every kernel (on the CPU every operation): calls, time, bytes, FLOP and the share of the device's ceiling
    #[arg(long)]
    pub kernels: bool,
    /// Draw first-token time and throughput over the budget, with floors and peers
    #[arg(long, value_name = "OUT.svg")]
    pub plot: Option<PathBuf>,
    /// Draw one request of the first row as a timeline of its kernels
    #[arg(long, value_name = "OUT.svg")]
    pub timeline: Option<PathBuf>,
    /// Rows of other engines to show beside ours, as tools/compare_transformers.py writes them
    #[arg(long, value_name = "FILE.jsonl")]
    pub peers: Option<PathBuf>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl BenchArgs {
    /// Whether rows of more than one method are measured.
    pub fn compares_methods(&self) -> bool {
        self.methods.len() > 1
    }

    /// What is measured at each batch: each method with each budget.
    pub fn asked(&self) -> Vec<(Method, &TypedBudget)> {
        let methods = match &self.methods[..] {
            [] => std::slice::from_ref(&self.selection.method),
            methods => methods,
        };
        let mut asked: Vec<(Method, &TypedBudget)> = Vec::new();
        for &method in methods {
            for budget in &self.budgets {
                let is_full = |budget: &TypedBudget| budget.budget == Budget::Full;
                let once = is_full(budget)
                    && asked.iter().any(|&(other, b)| other != method && is_full(b));
                if !once {
                    asked.push((method, budget));
                }
            }
        }
        asked
    }
}
