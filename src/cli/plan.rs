//! `hired plan`: memory and speed of a model on a GPU, without the GPU.

use super::Stop;
use super::args::PlanArgs;
use super::idle::Given;
use super::output::{note, print, print_json};
use super::plan_all;
use super::table::{Size, Table, Time};
use super::values::GpuArg;
use hired::engine::{Bound, BudgetPlan, Dtype, Gemm, Pace, Planner, Subject, typical_request};
use hired::ops::cost::Roof;
use hired::ops::gpu::{CONTEXT, Gpu, SYSTEM};
use hired::ops::shares::Shares;
use hired::select::Budget;
use serde::Serialize;
use std::fmt::{self, Display};

/// A row of `--json`.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    pub gpu: &'static str,
    #[serde(flatten)]
    pub plan: &'a BudgetPlan,
}

pub fn plan(args: &PlanArgs, given: &Given<'_>) -> Result<(), Stop> {
    match args.gpu {
        GpuArg::All => plan_all::plan(args, given),
        GpuArg::One(gpu) => one(args, given, gpu),
    }
}

fn one(args: &PlanArgs, given: &Given<'_>, gpu: &'static Gpu) -> Result<(), Stop> {
    let mut planner = planner(args, gpu)?;
    let rows = rows(args, &mut planner)?;
    tell_idle(args, given);
    if args.json {
        let rows: Vec<Row<'_>> = rows.iter().map(|plan| Row { gpu: gpu.name, plan }).collect();
        return print_json(&rows);
    }
    print(&Text { args, gpu, planner: &planner, rows: &rows }.to_string())
}

/// What plans for a GPU.
pub fn planner(args: &PlanArgs, gpu: &'static Gpu) -> Result<Planner, hired::Error> {
    let subject = match (&args.subject.model, args.subject.preset) {
        (Some(folder), _) => Subject::Folder(folder),
        (None, Some(preset)) => Subject::Preset(preset),
        (None, None) => unreachable!("clap demands one of them"),
    };
    let selection = args.selection.with(Budget::Full);
    Planner::new(subject, gpu, &args.device.options(), &selection)
}

/// A row for each budget, or the one that keeps the limits.
pub fn rows(args: &PlanArgs, planner: &mut Planner) -> Result<Vec<BudgetPlan>, hired::Error> {
    if args.is_limited() {
        return Ok(vec![planner.largest_budget(args.max_memory, args.max_ttft)?]);
    }
    args.budgets.iter().map(|budget| planner.at(&budget.typed)).collect()
}

/// Tells of options that have no effect.
pub fn tell_idle(args: &PlanArgs, given: &Given<'_>) {
    let of_device = given.these(&["device", "resample", "no_graph"], "a plan is for the GPU alone");
    let budgets = match args.is_limited() {
        true => given.these(&["budgets"], "the limit chooses the budget"),
        false => Vec::new(),
    };
    // A plan compares budgets, so only the method can leave an option without a part.
    let of_selection = given.selection(&args.selection.with(Budget::Count(1)));
    [of_device, budgets, of_selection].concat().iter().for_each(|what| note(what));
}

/// A plan for people.
struct Text<'a> {
    args: &'a PlanArgs,
    gpu: &'static Gpu,
    planner: &'a Planner,
    rows: &'a [BudgetPlan],
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, gpu, planner, rows } = self;
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
                writeln!(f, "\nOne token more would break {}.", name(bound))?;
            }
        }
        writeln!(f, "\n{}", formats(args))?;
        let Pace { roof: Roof { flops, bandwidth }, shares, host } = *planner.pace();
        let is_half = args.device.options().dtype != Some(Dtype::F32);
        if is_half && gpu.fp16.is_some_and(|fp16| flops < fp16) {
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
        let Shares { linear, attention, traffic } = shares;
        writeln!(
            f,
            ".\nLower bounds (≥, ≤) assume {} TFLOP/s and {:.0} GB/s at every moment. Expected times assume {:.0}% of that in \
             matrix products, {:.0}% in attention and {:.0}% in the rest, and {} on the host.\n\
             All times are predicted from the data sheet and the machine code: none was measured on a GPU.",
            tera(flops),
            bandwidth / 1e9,
            100.0 * linear,
            100.0 * attention,
            100.0 * traffic,
            Time(host)
        )
    }
}

/// What a plan computes in and with.
pub fn formats(args: &PlanArgs) -> String {
    let options = args.device.options();
    let dtype = options.dtype.unwrap_or(Dtype::F16).name();
    let gemm = match options.gemm {
        Gemm::Cublas => "cuBLAS",
        _ => "hired's own kernels",
    };
    format!("Weights, KV cache and activations in {dtype}, matrix products by {gemm}.")
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
        Bound::Model => "the model's limit of positions",
    }
}
