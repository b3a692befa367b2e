//! `hired plan`: predicts memory and speed of a model on a GPU, without the GPU.

use super::Stop;
use super::args::PlanArgs;
use super::idle::Given;
use super::output::{note, print, print_json};
use super::table::{Size, Table, Time};
use super::values::{GpuArg, NumberFormat, PresetArg};
use super::{plan_all, plan_models};
use hired::Preset;
use hired::engine::{Bound, BudgetPlan, Dtype, Gemm, Pace, Planner, Subject, typical_request};
use hired::ops::cost::Kind;
use hired::ops::gpu::{CONTEXT, GPUS, Gpu, SYSTEM};
use hired::ops::shares::Shares;
use hired::quant::Scope;
use hired::select::Budget;
use serde::Serialize;
use std::fmt::{self, Display};

/// A row of `--json`.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    pub gpu: &'static str,
    pub preset: Option<&'static str>,
    pub dtype: &'static str,
    #[serde(flatten)]
    pub plan: &'a BudgetPlan,
}

/// The subject of one plan.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub gpu: &'static Gpu,
    /// The architecture; `None` for a model folder.
    pub preset: Option<Preset>,
    pub dtype: Option<NumberFormat>,
}

pub fn plan(args: &PlanArgs, given: &Given<'_>) -> Result<(), Stop> {
    let formats = match args.formats.as_slice() {
        [] => vec![args.device.dtype],
        formats => formats.iter().copied().map(Some).collect(),
    };
    let gpus: Vec<&'static Gpu> = match args.gpu.as_slice() {
        some if some.iter().any(|gpu| matches!(gpu, GpuArg::All)) => GPUS.iter().collect(),
        some => some
            .iter()
            .filter_map(|gpu| match gpu {
                GpuArg::One(gpu) => Some(*gpu),
                GpuArg::All => None,
            })
            .collect(),
    };
    let preset = match args.subject.preset {
        Some(PresetArg::All) => {
            plan_models::plan(args, &gpus, &formats)?;
            tell_idle(args, given);
            return Ok(());
        }
        Some(PresetArg::One(preset)) => Some(preset),
        None => None,
    };
    match (gpus.as_slice(), formats.as_slice()) {
        (&[gpu], &[dtype]) => one(args, given, Asked { gpu, preset, dtype }),
        _ => {
            plan_all::plan(args, preset, &gpus, &formats)?;
            tell_idle(args, given);
            Ok(())
        }
    }
}

fn one(args: &PlanArgs, given: &Given<'_>, asked: Asked) -> Result<(), Stop> {
    let mut planner = planner(args, asked)?;
    let rows = rows(args, &mut planner)?;
    tell_idle(args, given);
    if args.json {
        let of = |plan| asked.row(planner.weights(), plan);
        return print_json(&rows.iter().map(of).collect::<Vec<_>>());
    }
    print(&Text { args, asked, planner: &planner, rows: &rows }.to_string())
}

impl Asked {
    /// A row of `--json`, for weights in this format.
    pub fn row<'a>(&self, dtype: &'static str, plan: &'a BudgetPlan) -> Row<'a> {
        Row { gpu: self.gpu.name, preset: self.preset.map(Preset::name), dtype, plan }
    }
}

/// Creates the planner for a GPU.
pub fn planner(args: &PlanArgs, asked: Asked) -> Result<Planner, hired::Error> {
    let subject = match (&args.subject.model, asked.preset) {
        (Some(folder), _) => Subject::Folder(folder),
        (None, Some(preset)) => Subject::Preset(preset),
        (None, None) => unreachable!("clap demands one of them"),
    };
    let selection = args.selection.with(Budget::Full);
    Planner::new(subject, asked.gpu, &args.device.options_in(asked.dtype), &selection)
}

/// A row for each budget, or the largest one within the limits.
pub fn rows(args: &PlanArgs, planner: &mut Planner) -> Result<Vec<BudgetPlan>, hired::Error> {
    if args.is_limited() {
        return Ok(vec![planner.largest_budget(args.max_memory, args.max_ttft)?]);
    }
    args.budgets.iter().map(|budget| planner.at(&budget.typed)).collect()
}

/// Prints notes about options that have no effect.
pub fn tell_idle(args: &PlanArgs, given: &Given<'_>) {
    let of_device = given.these(&["device", "resample", "no_graph"], "a plan is for the GPU alone");
    let budgets = match args.is_limited() {
        true => given.these(&["budgets"], "the limit chooses the budget"),
        false => Vec::new(),
    };
    // A plan compares budgets, so only the method can make an option useless.
    let of_selection = given.selection(&args.selection.with(Budget::Count(1)));
    [of_device, budgets, of_selection].concat().iter().for_each(|what| note(what));
}

/// A readable plan.
struct Text<'a> {
    args: &'a PlanArgs,
    asked: Asked,
    planner: &'a Planner,
    rows: &'a [BudgetPlan],
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, asked: Asked { gpu, dtype, .. }, planner, rows } = self;
        let (major, minor) = (gpu.capability / 10, gpu.capability % 10);
        let (memory, bandwidth) = (Size(gpu.memory as u64), gpu.bandwidth / 1e9);
        writeln!(
            f,
            "{}, compute capability {major}.{minor}: {memory} at {bandwidth:.0} GB/s",
            gpu.name
        )?;
        let tera = |rate: f64| format!("{:.1}", rate / 1e12);
        let fp16 = gpu.fp16.map_or("no tensor cores".into(), |fp16| {
            format!("{} TFLOP/s fp16 on tensor cores", tera(fp16))
        });
        let (fp32, int8) = (tera(gpu.fp32), tera(gpu.int8));
        writeln!(f, "{fp32} TFLOP/s fp32, {fp16}, {int8} TOP/s int8 ({})", gpu.source)?;
        writeln!(f, "\nFor {}:", typical_request())?;
        write!(f, "{}", Table(table(rows)))?;
        for row in *rows {
            if let Some(bound) = row.limit {
                writeln!(f, "\nOne more token would exceed {}.", name(bound))?;
            }
        }
        writeln!(f, "\n{}", formats(args, &[*dtype]))?;
        let Pace { roofs, shares, host } = *planner.pace();
        let is_half = *dtype != Some(NumberFormat::Float(Dtype::F32));
        if is_half && gpu.fp16.is_some_and(|fp16| roofs.linear < fp16) {
            writeln!(
                f,
                "These kernels do not use this GPU's tensor cores: fp16 is multiplied at the rate of fp32. --gemm cublas \
                 plans with cuBLAS, which uses them."
            )?;
        }
        let (usable, context) = (Size(gpu.usable() as u64), Size(CONTEXT as u64));
        write!(f, "Fits: a peak of up to {usable}, which leaves {context} for the driver")?;
        if gpu.is_shared {
            write!(f, " and {} for the system in the same memory", Size(SYSTEM as u64))?;
        }
        let (mut rates, mut parts) = (Vec::new(), Vec::new());
        for (kind, unit, of) in [
            (Kind::Linear, "TFLOP/s", "products"),
            (Kind::Widened, "TFLOP/s", "products with int4 weights"),
            (Kind::WidenedBytes, "TFLOP/s", "products with int8 weights"),
            (Kind::Integers, "TOP/s", "products of int8"),
        ] {
            if planner.has(kind) {
                rates.push(format!("{} {unit} in {of}", tera(roofs.kind(kind).flops)));
                let [many, few] = [false, true].map(|few| 100.0 * shares.kind(kind, few));
                parts.push(format!("{many:.0}% in {of} ({few:.0}% in a decode step)"));
            }
        }
        let Shares { attention, traffic, .. } = shares;
        writeln!(
            f,
            ".\nLower bounds (≥, ≤) assume {} and {:.0} GB/s throughout. Expected times assume {} of that, {:.0}% in \
             attention and {:.0}% in the rest, and {} on the host before the first token.\n\
             All times are predicted from the data sheet and the machine code: none was measured on a GPU.",
            rates.join(", "),
            roofs.bandwidth / 1e9,
            parts.join(", "),
            100.0 * attention,
            100.0 * traffic,
            Time(host)
        )
    }
}

/// Describes the number formats and the backend of a plan.
pub fn formats(args: &PlanArgs, formats: &[Option<NumberFormat>]) -> String {
    let mut whole = Vec::new();
    let mut integers = Vec::new();
    let mut scope = Scope::Llm;
    for &dtype in formats {
        match args.device.options_in(dtype).quantization {
            Some(quantization) => {
                integers.push(quantization.scheme.to_string());
                scope = quantization.scope;
            }
            None => whole.push(args.device.options_in(dtype).dtype.unwrap_or(Dtype::F16).name()),
        }
    }
    let mut words = String::new();
    if !whole.is_empty() {
        words += &format!(
            "Weights, KV cache and activations in {}, unless the folder is quantized",
            whole.join(" or ")
        );
    }
    if !integers.is_empty() {
        let layers = match scope {
            Scope::Llm => "linear layers of the decoder",
            Scope::All => "the linear layers of --quantize all",
        };
        let start = if words.is_empty() { "W" } else { "; w" };
        words +=
            &format!("{start}eights of {layers} in {}, all else in f16", integers.join(" or "));
    }
    let gemm = match args.device.options().gemm {
        Gemm::Cublas => "cuBLAS",
        _ => "hired's own kernels",
    };
    format!("{words}. Matrix products by {gemm}.")
}

fn table(rows: &[BudgetPlan]) -> Vec<Vec<String>> {
    let head = [
        "budget",
        "image tokens",
        "weights",
        "KV cache",
        "workspace",
        "peak",
        "fits",
        "first token ≥",
        "expected",
        "tokens/s ≤",
        "expected",
        "batch ≤",
    ];
    let mut table = vec![head.map(String::from).to_vec()];
    for row in rows {
        let need = &row.need;
        let size = |bytes: usize| Size(bytes as u64).to_string();
        table.push(vec![
            need.budget.clone(),
            need.visual_tokens.to_string(),
            size(need.weights),
            size(need.kv),
            size(need.workspace),
            size(need.peak),
            if row.fits { "yes" } else { "no" }.into(),
            Time(row.ttft_floor).to_string(),
            Time(row.ttft_expected).to_string(),
            format!("{:.1}", 1.0 / row.decode_floor),
            format!("{:.1}", 1.0 / row.decode_expected),
            row.largest_batch.to_string(),
        ]);
    }
    table
}

pub fn name(bound: Bound) -> &'static str {
    match bound {
        Bound::Card => "the GPU's memory",
        Bound::MaxMemory => "--max-memory",
        Bound::MaxTtft => "--max-ttft",
        Bound::Model => "the model's context length",
    }
}
