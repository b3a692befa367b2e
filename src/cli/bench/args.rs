//! Options of `hired bench`.

use crate::cli::args::DeviceArgs;
use crate::cli::selection::SelectionArgs;
use crate::cli::table::Format;
use crate::cli::values::{self, TypedBudget};
use clap::Args;
use hired::checkpoint::synth::Preset;
use hired::select::{Budget, Method};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Model: a Hugging Face folder with config.json, preprocessor_config.json, tokenizer.json and *.safetensors
    #[arg(long, value_name = "DIR", required_unless_present = "synthetic")]
    pub model: Option<PathBuf>,
    /// Architecture with random weights, generated on the device: tiny, llava-v1.6-vicuna-7b, llava-v1.6-vicuna-13b,
    /// llava-v1.6-mistral-7b, llama3-llava-next-8b, pangea-7b, llava-v1.6-34b, onevision-0.5b, onevision-7b,
    /// llava-interleave-qwen-0.5b, joycaption, tiny-llava-v1, llava-1.5-7b, llava-1.5-13b,
    /// llava-phi-2.7b or mobilevlm-v2-1.7b
    #[arg(long, value_name = "PRESET", conflicts_with = "model")]
    pub synthetic: Option<Preset>,
    /// Image: PNG, JPEG, WebP, BMP or first frame of a GIF [default: a fixed image of 672×672 pixels]
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Methods to compare, instead of --method: hired, full, spatial, random, fastervlm, prumerge, prumerge+,
    /// visionzip, divprune, scope, globalcom2 or fastv. The budget full, which is the same for all methods, is
    /// measured once
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
    /// Batch sizes: numbers of requests answered together
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4", allow_hyphen_values = true, value_parser = values::count)]
    pub batch: Vec<usize>,
    /// Text tokens in each prompt
    #[arg(long, value_name = "N", default_value = "60", allow_hyphen_values = true, value_parser = values::count)]
    pub prompt_tokens: usize,
    /// Tokens of each answer; the end-of-sequence token is ignored
    #[arg(long, value_name = "N", default_value = "100", allow_hyphen_values = true, value_parser = values::count)]
    pub new_tokens: usize,
    /// Measurements per row, after a warm-up that is not counted
    #[arg(long, value_name = "N", default_value = "5", allow_hyphen_values = true, value_parser = values::count)]
    pub reps: usize,
    /// Measure many clients of one engine, as with `hired serve`: throughput, time to the first token and time
    /// between tokens
    #[arg(long, conflicts_with_all = ["batch", "reps", "out", "kernels", "plot", "timeline", "peers"])]
    pub serve: bool,
    /// With --serve: numbers of concurrent clients
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,4,16,64", allow_hyphen_values = true, value_parser = values::count, requires = "serve")]
    pub clients: Vec<usize>,
    /// With --serve: shares of requests about an image that was asked about before
    #[arg(long, value_name = "P,…", value_delimiter = ',', default_value = "0%,50%", allow_hyphen_values = true, value_parser = values::share, requires = "serve")]
    pub repeated: Vec<f64>,
    /// With --serve: requests per row, at least one per client
    #[arg(long, value_name = "N", default_value = "64", allow_hyphen_values = true, value_parser = values::count, requires = "serve")]
    pub requests: usize,
    /// With --serve: cache size, as in `hired serve --cache-memory`
    #[arg(long, value_name = "SIZE", default_value = crate::cli::values::CACHE, value_parser = values::size_or_none, requires = "serve")]
    pub cache_memory: usize,
    /// Output format; json prints one object per line, the first of which describes build and device [default: table
    /// in a terminal, md elsewhere]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Also write each row to FILE as one line of JSON as soon as it is measured. If the command is repeated after
    /// Ctrl-C or a crash, only the missing rows are measured
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: Option<PathBuf>,
    /// Also list every kernel (on the CPU every operation) with its calls, time, traffic, arithmetic and share of the
    /// device's limits
    #[arg(long)]
    pub kernels: bool,
    /// Plot time to the first token and throughput over the number of image tokens, with lower bounds and the rows of
    /// --peers
    #[arg(long, value_name = "OUT.svg")]
    pub plot: Option<PathBuf>,
    /// Draw a timeline of the kernels of one request of the first row
    #[arg(long, value_name = "OUT.svg")]
    pub timeline: Option<PathBuf>,
    /// Rows of other engines to compare with, in the format of tools/compare_transformers.py
    #[arg(long, value_name = "FILE.jsonl")]
    pub peers: Option<PathBuf>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl BenchArgs {
    /// Returns true if rows of more than one method are measured.
    pub fn compares_methods(&self) -> bool {
        self.methods.len() > 1
    }

    /// The methods and budgets to measure for each batch size. Full budgets come first, because the others are
    /// compared with them.
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
        asked.sort_by_key(|(_, budget)| budget.budget != Budget::Full);
        asked
    }
}
