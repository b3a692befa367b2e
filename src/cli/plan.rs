//! `hired plan`: what a card can do, without the card.

use super::Stop;
use super::args::PlanArgs;
use super::output::{print, print_json};
use super::table::{Size, Table, Time};
use hired::engine::{Bound, BudgetPlan, Dtype, Gemm, Pace, Planner, Subject, typical_request};
use hired::ops::cost::Roof;
use hired::ops::gpu::{CONTEXT, SYSTEM};
use hired::ops::shares::Shares;
use hired::select::Budget;
use std::fmt::{self, Display};

pub fn plan(args: &PlanArgs) -> Result<(), Stop> {
    let subject = match (&args.subject.model, args.subject.preset) {
        (Some(folder), _) => Subject::Folder(folder),
        (None, Some(preset)) => Subject::Preset(preset),
        (None, None) => unreachable!("clap demands one of them"),
    };
    let selection = args.selection.with(Budget::Full);
    let mut planner = Planner::new(subject, args.gpu, &args.device.options(), &selection)?;
    let rows = if args.max_memory.is_some() || args.max_ttft.is_some() {
        vec![planner.largest_budget(args.max_memory, args.max_ttft)?]
    } else {
        args.budgets.iter().map(|budget| planner.at(&budget.typed)).collect::<Result<_, _>>()?
    };
    if args.json {
        return print_json(&rows);
    }
    print(&Text { args, planner: &planner, rows: &rows }.to_string())
}

/// A plan for people.
struct Text<'a> {
    args: &'a PlanArgs,
    planner: &'a Planner,
    rows: &'a [BudgetPlan],
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, planner, rows } = self;
        let gpu = args.gpu;
        let (major, minor) = (gpu.capability / 10, gpu.capability % 10);
        let (memory, bandwidth) = (Size(gpu.memory as u64), gpu.bandwidth / 1e9);
        writeln!(
            f,
            "{}, compute capability {major}.{minor}: {memory} at {bandwidth:.0} GB/s",
            gpu.name
        )?;
        let tera = |rate: f64| format!("{:.1}", rate / 1e12);
        let fp16 = gpu.fp16.map_or("no tensor cores".into(), |fp16| {
            format!("{} in fp16 on tensor cores", tera(fp16))
        });
        let (fp32, int8) = (tera(gpu.fp32), tera(gpu.int8));
        writeln!(
            f,
            "10¹² operations a second: {fp32} in fp32, {int8} in int8, {fp16} ({})",
            gpu.source
        )?;
        writeln!(f, "\nFor {}:", typical_request())?;
        write!(f, "{}", Table(table(rows)))?;
        for row in *rows {
            if let Some(bound) = row.limit {
                writeln!(f, "\nOne token more would break {}.", name(bound))?;
            }
        }
        let options = args.device.options();
        let dtype = options.dtype.unwrap_or(Dtype::F16).name();
        let gemm = match options.gemm {
            Gemm::Cublas => "cuBLAS",
            _ => "hired's own kernels",
        };
        writeln!(f, "\nWeights, cache and activations in {dtype}, matrix products by {gemm}.")?;
        let (usable, context) = (Size(gpu.usable() as u64), Size(CONTEXT as u64));
        write!(f, "What fits: up to {usable}, which leaves {context} for the driver's context")?;
        if gpu.is_shared {
            write!(f, " and {} for the system in the same memory", Size(SYSTEM as u64))?;
        }
        let Pace { roof: Roof { flops, bandwidth }, shares, host } = *planner.pace();
        let Shares { linear, attention, traffic } = shares;
        writeln!(
            f,
            ".\nLimits of time: {} · 10¹² operations and {:.0} GB a second, at every moment. Expected of that speed: \
             {:.0}% in products, {:.0}% in attention, {:.0}% in the rest, and {} on the host.\n\
             Predicted from the data sheet and the machine code; no card was measured.",
            tera(flops),
            bandwidth / 1e9,
            100.0 * linear,
            100.0 * attention,
            100.0 * traffic,
            Time(host)
        )
    }
}

fn table(rows: &[BudgetPlan]) -> Vec<Vec<String>> {
    let head = [
        "budget",
        "visual tokens",
        "weights",
        "kv",
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

fn name(bound: Bound) -> &'static str {
    match bound {
        Bound::Card => "the card's memory",
        Bound::MaxMemory => "--max-memory",
        Bound::MaxTtft => "--max-ttft",
        Bound::Model => "the model's limit of positions",
    }
}
