//! The definition of the command line: every option with its default and unit.

use super::attention::AttentionArgs;
use super::bench::BenchArgs;
use super::chat::ChatArgs;
pub use super::device::DeviceArgs;
use super::devices::DevicesArgs;
use super::eval::EvalArgs;
use super::fidelity::FidelityArgs;
use super::images::STDIN;
use super::log::LogArgs;
use super::manual::{CompletionsArgs, ManArgs};
use super::quantize::QuantizeArgs;
use super::selection::SelectionArgs;
#[cfg(feature = "serve")]
use super::serve::ServeArgs;
use super::synth::SynthArgs;
use super::values::{self, BudgetArg, GpuArg, NumberFormat, PresetArg, PromptArg, TypedBudget};
use super::version;
use clap::{Args, Parser, Subcommand};
use hired::ops::sample::Sampling;
use hired::select::Budget;
use std::path::PathBuf;

/// Answer questions about images with LLaVA models on small GPUs, keeping only the image tokens that matter
#[derive(Debug, Parser)]
#[command(
    name = "hired",
    version,
    long_version = version::long(),
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub log: LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  hired run -m llava-hf/llava-v1.6-vicuna-7b-hf -i photo.jpg -p \"What is on the sign?\"
  hired run -m MODEL -i photo.jpg -p \"What is on the sign?\" -b 10%
  hired plan --gpu t4 --preset llava-v1.6-vicuna-7b

`hired COMMAND -h` shows the common options of a command, `hired COMMAND --help` all of them.";

const RUN_EXAMPLES: &str = "\
Examples:
  hired run -m MODEL -i photo.jpg -p \"What is on the sign?\"
  hired run -m MODEL -i photos/ -p @question.txt --json
  curl -s https://example.org/photo.jpg | hired run -m MODEL -i - -p \"What is this?\" -b 10%

`-h` shows the common options, `--help` all of them.";

/// Headings of the groups of options in the help.
pub mod heading {
    pub const INPUT: &str = "Input";
    pub const TOKENS: &str = "Image tokens";
    pub const METHODS: &str = "Parameters of individual methods";
    pub const ANSWER: &str = "Answer";
    pub const OUTPUT: &str = "Output";
    pub const DEVICE: &str = "Device";
    pub const MESSAGES: &str = "Messages";
    #[cfg(feature = "serve")]
    pub const SERVER: &str = "Server";
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a question about an image
    Run(Box<RunArgs>),
    /// Ask question after question in a terminal
    Chat(Box<ChatArgs>),
    /// Answer many clients over HTTP, with an OpenAI-compatible API and a web page
    #[cfg(feature = "serve")]
    Serve(Box<ServeArgs>),
    /// Show which image tokens would be kept, optionally as a picture
    Select(SelectArgs),
    /// Show what a model is and how much memory it needs
    Inspect(InspectArgs),
    /// Predict memory and speed of a model on a GPU, without the GPU
    Plan(PlanArgs),
    /// Write a model folder of a real architecture with random weights
    Synth(SynthArgs),
    /// Write a copy of a model folder with int8 or int4 weights
    Quantize(QuantizeArgs),
    /// Measure what a request costs at each budget
    Bench(Box<BenchArgs>),
    /// Measure how often the answers to a file of questions are right
    Eval(Box<EvalArgs>),
    /// Show what the language model and the vision tower attend to
    Attention(Box<AttentionArgs>),
    /// Measure how far a number format moves a model's answers and kept tokens from f32
    Fidelity(Box<FidelityArgs>),
    /// Show the devices of this machine that hired can use
    Devices(DevicesArgs),
    /// Print a script that completes commands and options in a shell
    Completions(CompletionsArgs),
    /// Print a manual page in roff format, for `man -l`
    Man(ManArgs),
}

impl Command {
    /// The requested number of threads.
    pub fn threads(&self) -> Option<usize> {
        match self {
            Self::Run(args) => args.device.threads,
            Self::Chat(args) => args.device.threads,
            #[cfg(feature = "serve")]
            Self::Serve(args) => args.device.threads,
            Self::Select(args) => args.device.threads,
            Self::Inspect(args) => args.device.threads,
            Self::Bench(args) => args.device.threads,
            Self::Attention(args) => args.device.threads,
            Self::Eval(args) => args.device.threads,
            Self::Fidelity(args) => args.device.threads,
            Self::Plan(args) => args.device.threads,
            Self::Synth(_)
            | Self::Quantize(_)
            | Self::Devices(_)
            | Self::Completions(_)
            | Self::Man(_) => None,
        }
    }
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model: a Hugging Face folder (config.json, preprocessor_config.json, tokenizer.json, *.safetensors), or the name
    /// of a model in the local Hugging Face cache, such as llava-hf/llava-v1.6-vicuna-7b-hf
    #[arg(short, long, value_name = "MODEL", env = "HIRED_MODEL", hide_env_values = true, help_heading = heading::INPUT)]
    pub model: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Image: a file (PNG, JPEG, WebP, BMP, first frame of a GIF), a folder (its images, sorted by name), - (standard
    /// input) or a data: URL. With several images the prompt is answered once for each, or once for all of them with
    /// --together [default: none, text only]
    #[arg(short, long, value_name = "IMAGE", help_heading = heading::INPUT)]
    pub image: Vec<PathBuf>,
    /// The question, inserted into the model's chat template. @FILE reads it from a file, @- from standard input; a
    /// leading @@ stands for a plain @
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, value_parser = values::prompt, required_unless_present = "messages", help_heading = heading::INPUT)]
    pub prompt: Option<PromptArg>,
    /// Ask one question about all images together, in the given order
    #[arg(long, conflicts_with = "raw_prompt", help_heading = heading::INPUT)]
    pub together: bool,
    /// System prompt, placed before the question
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "raw_prompt", help_heading = heading::INPUT)]
    pub system: Option<String>,
    /// Conversation to continue, instead of --prompt: a JSON list of messages as in chat APIs and transformers; - is
    /// standard input. Image paths in it are relative to its folder; images without a path are taken from --image in
    /// order
    #[arg(hide_short_help = true, long, value_name = "FILE", conflicts_with_all = ["prompt", "raw_prompt", "system", "together"], help_heading = heading::INPUT)]
    pub messages: Option<PathBuf>,
    /// The prompt is complete: no chat template is applied; <image> marks where the image goes
    #[arg(hide_short_help = true, long, help_heading = heading::INPUT)]
    pub raw_prompt: bool,
    /// Treat TEXT as plain text even where it contains special tokens (</s>, <image>)
    #[arg(hide_short_help = true, long, conflicts_with = "raw_prompt", help_heading = heading::INPUT)]
    pub literal: bool,
    /// Number of image tokens to keep, over the full image and its sub-images: a count (576), a share of all patches
    /// (20%), full, or auto (the largest number within --max-memory or --max-ttft)
    #[arg(short, long, value_name = "B", default_value = "20%", allow_hyphen_values = true, help_heading = heading::TOKENS)]
    pub budget: BudgetArg,
    /// Number of image tokens to keep over all images of a prompt together, instead of --budget: split in proportion
    /// to their patches without padding; a count, a share or full
    #[arg(hide_short_help = true, long, value_name = "B", allow_hyphen_values = true, conflicts_with = "budget", help_heading = heading::TOKENS)]
    pub budget_total: Option<Budget>,
    /// With --budget auto: limit the peak memory to SIZE (15GiB, 15GB, bytes)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = values::size, help_heading = heading::TOKENS)]
    pub max_memory: Option<usize>,
    /// With --budget auto: limit the time to the first token to S seconds
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_parser = values::seconds, help_heading = heading::TOKENS)]
    pub max_ttft: Option<f64>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Print a JSON object instead of the text; an array for several images
    #[arg(long, help_heading = heading::OUTPUT)]
    pub json: bool,
    /// Write pixels, prompt ids, scores, image tokens and logits to a safetensors file; for one prompt only
    #[arg(hide_short_help = true, long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub dump: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl RunArgs {
    /// The number of inputs that are read from standard input.
    fn stdin(&self) -> usize {
        let images = self.image.iter().filter(|path| path.as_os_str() == STDIN).count();
        let messages = self.messages.as_ref().is_some_and(|path| path.as_os_str() == STDIN);
        images + usize::from(self.prompt == Some(PromptArg::Stdin)) + usize::from(messages)
    }

    /// Returns true if all images belong to one prompt.
    pub fn is_one_prompt(&self) -> bool {
        self.together || self.messages.is_some() || self.image.len() <= 1
    }

    /// The conflict between the given options, if there is one.
    pub fn conflict(&self) -> Option<&'static str> {
        let auto = self.budget == BudgetArg::Auto;
        let limited = self.max_memory.is_some() || self.max_ttft.is_some();
        if auto && !limited {
            Some("--budget auto needs a limit: give --max-memory SIZE or --max-ttft S")
        } else if limited && !auto {
            Some("--max-memory and --max-ttft choose the budget: give --budget auto with them")
        } else if self.dump.is_some() && !self.is_one_prompt() {
            Some("--dump is for one prompt: give --image once, or add --together")
        } else if self.stdin() > 1 {
            Some("standard input can only be read once: give - or @- once")
        } else if self.together && self.image.is_empty() {
            Some("--together asks about all images, and there are none: give --image")
        } else {
            None
        }
    }
}

/// Options for how tokens are sampled.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::ANSWER)]
pub struct SamplingArgs {
    /// Largest number of tokens to generate
    #[arg(short = 'n', long, value_name = "N", default_value = "128", allow_hyphen_values = true, value_parser = values::count)]
    pub max_new_tokens: usize,
    /// End the answer before TEXT; can be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = values::stop)]
    pub stop: Vec<String>,
    /// Continue after the model's end-of-sequence token up to N tokens, for measurements
    #[arg(hide_short_help = true, long)]
    pub ignore_eos: bool,
    /// Sampling temperature; 0 is greedy decoding
    #[arg(long, value_name = "T", default_value = "0", allow_hyphen_values = true, value_parser = values::temperature)]
    pub temperature: f32,
    /// Sample from the K most likely tokens; 0: from all tokens
    #[arg(hide_short_help = true, long, value_name = "K", default_value = "0", allow_hyphen_values = true, value_parser = values::whole::<usize>)]
    top_k: usize,
    /// Sample from the smallest set of tokens with total probability P, 0 to 1; 1: from all tokens
    #[arg(hide_short_help = true, long, value_name = "P", default_value = "1", allow_hyphen_values = true, value_parser = values::probability)]
    top_p: f32,
    /// Sample from tokens at least P times as likely as the most likely one, 0 to 1; 0: from all tokens
    #[arg(hide_short_help = true, long, value_name = "P", default_value = "0", allow_hyphen_values = true, value_parser = values::probability)]
    min_p: f32,
    /// Divide positive logits (multiply negative ones) of tokens that occur in the prompt or the answer by F; values
    /// above 1 reduce repetition, also at temperature 0
    #[arg(hide_short_help = true, long, value_name = "F", default_value = "1", allow_hyphen_values = true, value_parser = values::penalty)]
    repetition_penalty: f32,
    /// Seed of the sampling; the same seed gives the same answer
    #[arg(long, value_name = "S", default_value = "0", allow_hyphen_values = true, value_parser = values::whole::<u64>)]
    seed: u64,
}

impl SamplingArgs {
    /// The sampling parameters for the engine.
    pub fn sampling(&self) -> Sampling {
        let &Self { temperature, top_k, top_p, min_p, repetition_penalty, seed, .. } = self;
        Sampling::default()
            .with_temperature(temperature)
            .with_top_k(top_k)
            .with_top_p(top_p)
            .with_min_p(min_p)
            .with_repetition_penalty(repetition_penalty)
            .with_seed(seed)
    }
}

#[derive(Debug, Args)]
pub struct SelectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Image: a file (PNG, JPEG, WebP, BMP, first frame of a GIF), - (standard input) or a data: URL
    #[arg(short, long, value_name = "IMAGE", help_heading = heading::INPUT)]
    pub image: PathBuf,
    /// The question, used only by the method fastv, which computes the first token of the answer to select the image
    /// tokens
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, value_parser = values::prompt, help_heading = heading::INPUT)]
    pub prompt: Option<PromptArg>,
    /// Number of image tokens to keep, over the full image and its sub-images: a count (576), a share of all patches
    /// (20%) or full
    #[arg(short, long, value_name = "B", default_value = "20%", allow_hyphen_values = true, help_heading = heading::TOKENS)]
    pub budget: Budget,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Print the selection as JSON
    #[arg(long, help_heading = heading::OUTPUT)]
    pub json: bool,
    /// Write a PNG that shows the full image and each sub-image, with dropped patches dimmed and merged ones blue
    #[arg(short, long, value_name = "OUT.png", help_heading = heading::OUTPUT)]
    pub overlay: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl SelectArgs {
    /// The conflict between the given options, if there is one.
    pub fn conflict(&self) -> Option<&'static str> {
        let twice = self.image.as_os_str() == STDIN && self.prompt == Some(PromptArg::Stdin);
        twice.then_some("standard input can only be read once: give - or @- once")
    }
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Print the description as JSON
    #[arg(long, help_heading = heading::OUTPUT)]
    pub json: bool,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Name of a GPU, such as t4 or "RTX 4090"; several names for a table (p40,t4), or all for every known GPU
    #[arg(short, long, value_name = "NAME", value_delimiter = ',', required = true, value_parser = values::GpuParser, help_heading = heading::INPUT)]
    pub gpu: Vec<GpuArg>,
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Number formats to compare in a table, with the values of --dtype
    #[arg(long, value_name = "T,…", value_delimiter = ',', value_parser = values::one_of(&values::FORMATS), conflicts_with_all = ["dtype", "max_memory", "max_ttft"], help_heading = heading::DEVICE)]
    pub formats: Vec<NumberFormat>,
    /// Budgets to plan for, with the values of `hired run --budget` except auto
    #[arg(short, long, visible_alias = "budget", value_name = "B,…", value_delimiter = ',', default_value = "full,40%,30%,20%,10%", help_heading = heading::TOKENS)]
    pub budgets: Vec<TypedBudget>,
    /// Show the largest budget with a peak memory of at most SIZE (15GiB, 15GB, bytes), instead of --budgets
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = values::size, help_heading = heading::TOKENS)]
    pub max_memory: Option<usize>,
    /// Show the largest budget with an expected time to the first token of at most S seconds, instead of --budgets
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_parser = values::seconds, help_heading = heading::TOKENS)]
    pub max_ttft: Option<f64>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Print a JSON array
    #[arg(long, help_heading = heading::OUTPUT)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl PlanArgs {
    /// Returns true if a limit determines the budget.
    pub fn is_limited(&self) -> bool {
        self.max_memory.is_some() || self.max_ttft.is_some()
    }
}

/// A model folder, or a known architecture without files.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
#[command(next_help_heading = heading::INPUT)]
pub struct SubjectArgs {
    /// Model: a Hugging Face folder, or the name of a model in the local Hugging Face cache
    #[arg(short, long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// A known architecture, without any files: tiny, llava-v1.6-vicuna-7b, llava-v1.6-vicuna-13b,
    /// llava-v1.6-mistral-7b, llama3-llava-next-8b, pangea-7b, llava-v1.6-34b, onevision-0.5b, onevision-7b,
    /// llava-interleave-qwen-0.5b, joycaption, tiny-llava-v1, llava-1.5-7b, llava-1.5-13b,
    /// llava-phi-2.7b or mobilevlm-v2-1.7b; or all for a table
    #[arg(long, value_name = "NAME")]
    pub preset: Option<PresetArg>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_librarys() {
        let parse = |words: &str| match Cli::try_parse_from(words.split(' ')).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        };
        let args = parse("hired run --model m --prompt p");
        let request = hired::engine::Request::new("p");
        let BudgetArg::Fixed(budget) = args.budget else { panic!("{:?}", args.budget) };
        assert_eq!(args.selection.with(budget), request.selection);
        assert_eq!(args.sampling.sampling(), request.sampling);
        assert_eq!(args.sampling.max_new_tokens, request.max_new_tokens);
        let (options, default) = (args.device.options(), hired::EngineOptions::default());
        assert_eq!((options.device, options.dtype), (default.device, default.dtype));
        assert_eq!(options.resample, default.resample);
    }
}
