//! The command line's definition: every option, its default and its unit, once.

use super::bench::BenchArgs;
use super::eval::EvalArgs;
use super::quantize::QuantizeArgs;
use super::selection::SelectionArgs;
use super::values::{self, BudgetArg, TypedBudget};
use clap::{Args, Parser, Subcommand};
use hired::checkpoint::synth::Preset;
use hired::engine::{Device, Dtype, EngineOptions, Gemm};
use hired::image::Resample;
use hired::ops::gpu::Gpu;
use hired::ops::sample::Sampling;
use hired::select::Budget;
use std::path::PathBuf;

/// Answers questions about images with LLaVA models, keeping only the visual tokens worth their cost.
#[derive(Debug, Parser)]
#[command(name = "hired", version, arg_required_else_help = false, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a question about an image
    Run(Box<RunArgs>),
    /// Show which visual tokens would be kept, and draw a picture of it
    Select(SelectArgs),
    /// Show what a checkpoint is and what it will need
    Inspect(InspectArgs),
    /// Show what a card can do with a model, without the card
    Plan(PlanArgs),
    /// Write a random-weight checkpoint of a real architecture
    Synth(SynthArgs),
    /// Write a copy of a model folder with int8 or int4 weights
    Quantize(QuantizeArgs),
    /// Measure what a request costs at each budget
    Bench(Box<BenchArgs>),
    /// Measure how often answers are right, over a file of questions
    Eval(Box<EvalArgs>),
    /// Show what this machine can run on
    Devices(DevicesArgs),
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Hugging Face folder: config.json, preprocessor_config.json, tokenizer.json, *.safetensors
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
}

/// Options that say where and in which formats to compute.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// auto (the first CUDA device that works, else the CPU), cpu, cuda or cuda:N
    #[arg(long, value_name = "D", default_value = "auto", value_parser = values::device)]
    device: Device,
    /// Number format: on CUDA of weights, keys, values and activations [default there: f16]; on the CPU
    /// of keys and values [default there: f32], its arithmetic is always f32
    #[arg(long, value_name = "T", value_parser = values::one_of(&[("f16", Dtype::F16), ("f32", Dtype::F32)]))]
    dtype: Option<Dtype>,
    /// Whose bicubic resampling to reproduce: pillow is version 13 and newer
    #[arg(long, value_name = "NAME", default_value = "pillow", value_parser = values::one_of(&RESAMPLE))]
    pub resample: Resample,
    /// Who multiplies matrices on CUDA; auto: cuBLAS in f16 from Turing on if it passes a trial, else own
    #[arg(long, value_name = "WHO", default_value = "auto", value_parser = values::one_of(&GEMM))]
    gemm: Gemm,
    /// Decode without a CUDA graph
    #[arg(long)]
    no_graph: bool,
}

const GEMM: [(&str, Gemm); 3] =
    [("auto", Gemm::Auto), ("own", Gemm::Own), ("cublas", Gemm::Cublas)];

const RESAMPLE: [(&str, Resample); 3] = [
    ("pillow", Resample::Pillow),
    ("pillow-12", Resample::Pillow12),
    ("torchvision", Resample::Torchvision),
];

impl DeviceArgs {
    /// Format of what the device computes with, once it is known whether that is a card.
    pub fn dtype_name(&self, card: bool) -> &'static str {
        let own = if card { Dtype::F16 } else { Dtype::F32 };
        self.dtype.unwrap_or(own).name()
    }

    /// The engine that was asked for.
    pub fn options(&self) -> EngineOptions {
        EngineOptions::default()
            .with_device(self.device)
            .with_dtype(self.dtype)
            .with_resample(self.resample)
            .with_no_graph(self.no_graph)
            .with_gemm(self.gemm)
    }
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// PNG, JPEG, WebP, BMP or GIF (first frame); repeat it for a batch: one answer per image to the same
    /// prompt [default: none, text only]
    #[arg(long, value_name = "FILE")]
    pub image: Vec<PathBuf>,
    /// The user's words, put into the folder's chat template
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = values::prompt)]
    pub prompt: String,
    /// TEXT is the whole prompt, with one <image> where the image goes
    #[arg(long)]
    pub raw_prompt: bool,
    /// Print one JSON object instead of the text; an array when --image repeats
    #[arg(long)]
    pub json: bool,
    /// Write pixels, ids, scores, visual tokens and logits as safetensors; for one image only
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,
    /// A line of statistics for each answer on standard error, also when that is no terminal
    #[arg(long)]
    pub verbose: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Visual patch tokens over all partitions: a count (576), a share of all patches (20%), full, or auto
    /// with --max-memory or --max-ttft
    #[arg(long, value_name = "B", default_value = "20%", allow_hyphen_values = true)]
    pub budget: BudgetArg,
    /// With --budget auto: the largest budget whose peak memory stays below SIZE (15GiB, 15GB, bytes)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = values::size)]
    pub max_memory: Option<usize>,
    /// With --budget auto: the largest budget whose first token comes within S seconds
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_parser = values::seconds)]
    pub max_ttft: Option<f64>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl RunArgs {
    /// What is wrong with the options together, if anything.
    pub fn conflict(&self) -> Option<&'static str> {
        let auto = self.budget == BudgetArg::Auto;
        let limited = self.max_memory.is_some() || self.max_ttft.is_some();
        if auto && !limited {
            Some("--budget auto needs a limit to keep: give --max-memory SIZE or --max-ttft S")
        } else if limited && !auto {
            Some("--max-memory and --max-ttft choose the budget: give --budget auto with them")
        } else if self.dump.is_some() && self.image.len() > 1 {
            Some("--dump is for one image: give --image once")
        } else {
            None
        }
    }
}

/// Options that say how tokens are drawn.
#[derive(Debug, Args)]
#[command(next_help_heading = "Answer")]
pub struct SamplingArgs {
    /// The answer ends after N tokens at the latest
    #[arg(long, value_name = "N", default_value = "128", allow_hyphen_values = true, value_parser = values::count)]
    pub max_new_tokens: usize,
    /// Go on to N tokens after the model has ended its answer
    #[arg(long)]
    pub ignore_eos: bool,
    /// Logits are divided by T; 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value = "0", allow_hyphen_values = true, value_parser = values::temperature)]
    temperature: f32,
    /// Draw among the K most likely tokens only; 0 draws among all
    #[arg(long, value_name = "K", default_value = "0", allow_hyphen_values = true)]
    top_k: usize,
    /// Draw among the most likely tokens that together reach probability P, 0 to 1; 1 draws among all
    #[arg(long, value_name = "P", default_value = "1", allow_hyphen_values = true, value_parser = values::probability)]
    top_p: f32,
    /// Same seed, same draws
    #[arg(long, value_name = "S", default_value = "0", allow_hyphen_values = true)]
    seed: u64,
}

impl SamplingArgs {
    /// How the engine draws.
    pub fn sampling(&self) -> Sampling {
        let &Self { temperature, top_k, top_p, seed, .. } = self;
        Sampling::default()
            .with_temperature(temperature)
            .with_top_k(top_k)
            .with_top_p(top_p)
            .with_seed(seed)
    }
}

#[derive(Debug, Args)]
pub struct SelectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// PNG, JPEG, WebP, BMP or GIF (first frame)
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// The question, for a method that chooses by it (fastv): it is asked to the first token of its answer
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Print the selection as a JSON object
    #[arg(long)]
    pub json: bool,
    /// Write a PNG that shows each partition with its merged patches blue and its dropped ones dimmed
    #[arg(long, value_name = "OUT.png")]
    pub overlay: Option<PathBuf>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Visual patch tokens over all partitions: a count (576), a share of all patches (20%) or full
    #[arg(long, value_name = "B", default_value = "20%", allow_hyphen_values = true)]
    pub budget: Budget,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Name of the card
    #[arg(long, value_name = "NAME", value_parser = values::gpu())]
    pub gpu: &'static Gpu,
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Budgets as --budget of run takes them; with a limit they play no part
    #[arg(long, value_name = "B,…", value_delimiter = ',', default_value = "full,40%,30%,20%,10%")]
    pub budgets: Vec<TypedBudget>,
    /// Show the largest budget whose peak memory stays below SIZE (15GiB, 15GB, bytes)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = values::size)]
    pub max_memory: Option<usize>,
    /// Show the largest budget whose first token is expected within S seconds
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_parser = values::seconds)]
    pub max_ttft: Option<f64>,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A model, with or without its files.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SubjectArgs {
    /// Hugging Face folder
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// An architecture that synth knows; no files are needed
    #[arg(long, value_name = "NAME")]
    pub preset: Option<Preset>,
}

#[derive(Debug, Args)]
pub struct SynthArgs {
    /// tiny, llava-v1.6-vicuna-7b, llava-v1.6-vicuna-13b, llava-v1.6-mistral-7b, llava-1.5-7b or llava-1.5-13b
    #[arg(long, value_name = "NAME")]
    pub preset: Preset,
    /// Folder to write, new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Same preset and seed, same bytes
    #[arg(long, value_name = "S", default_value = "0", allow_hyphen_values = true)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
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
        let (options, default) = (args.device.options(), EngineOptions::default());
        assert_eq!((options.device, options.dtype), (default.device, default.dtype));
        assert_eq!(options.resample, default.resample);
    }
}
