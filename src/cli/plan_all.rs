//! `hired plan --gpu all`: every known GPU in one table.

use super::Stop;
use super::args::PlanArgs;
use super::idle::Given;
use super::output::{print, print_json};
use super::plan::{Row, formats, name, planner, rows, tell_idle};
use super::table::{Size, Table, Time};
use hired::Error;
use hired::engine::{BudgetPlan, typical_request};
use hired::ops::gpu::{GPUS, Gpu};
use serde::Serialize;

/// A GPU and what it can do; the message where no budget keeps the limits.
type Planned = (&'static Gpu, Result<Vec<BudgetPlan>, String>);

/// A GPU that keeps the limits with no budget.
#[derive(Debug, Serialize)]
struct Refused<'a> {
    gpu: &'static str,
    fits: bool,
    refused: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Listed<'a> {
    Row(Row<'a>),
    Refused(Refused<'a>),
}

pub fn plan(args: &PlanArgs, given: &Given<'_>) -> Result<(), Stop> {
    let mut all: Vec<Planned> = Vec::new();
    for gpu in &GPUS {
        let planned = match rows(args, &mut planner(args, gpu)?) {
            Ok(rows) => Ok(rows),
            // With a limit this is a finding, not a failure.
            Err(why @ (Error::Capacity(_) | Error::Context { .. })) if args.is_limited() => {
                Err(why.to_string())
            }
            Err(error) => return Err(error.into()),
        };
        all.push((gpu, planned));
    }
    tell_idle(args, given);
    if args.json {
        return print_json(&listed(&all));
    }
    let table = if args.is_limited() { limits(&all) } else { budgets(&all) };
    let what = match args.is_limited() {
        true => "The largest budget that keeps the limit",
        false => "Expected time to the first token, and most tokens/s after it",
    };
    print(&format!(
        "{what}, for {}:\n{}\n-: does not fit. {}\nAll times are predicted from the data sheet and the machine code: none \
         was measured on a GPU. `hired plan --gpu NAME` has the details of one.\n",
        typical_request(),
        Table(table),
        formats(args)
    ))
}

fn listed(all: &[Planned]) -> Vec<Listed<'_>> {
    let mut listed = Vec::new();
    for (gpu, planned) in all {
        match planned {
            Ok(rows) => {
                listed.extend(rows.iter().map(|plan| Listed::Row(Row { gpu: gpu.name, plan })));
            }
            Err(why) => {
                listed.push(Listed::Refused(Refused { gpu: gpu.name, fits: false, refused: why }));
            }
        }
    }
    listed
}

fn memory(gpu: &Gpu) -> String {
    Size(gpu.memory as u64).to_string()
}

/// A column for each budget.
fn budgets(all: &[Planned]) -> Vec<Vec<String>> {
    let mut table = Vec::new();
    for (gpu, planned) in all {
        let Ok(rows) = planned else { continue };
        if table.is_empty() {
            let budgets = rows.iter().map(|row| row.need.budget.clone());
            table.push(["GPU".into(), "memory".into()].into_iter().chain(budgets).collect());
        }
        let cells = rows.iter().map(|row| match row.fits {
            true => format!("{}, {:.1}/s", Time(row.ttft_expected), 1.0 / row.decode_floor),
            false => "-".into(),
        });
        table.push([gpu.name.into(), memory(gpu)].into_iter().chain(cells).collect());
    }
    table
}

/// The largest budget of each.
fn limits(all: &[Planned]) -> Vec<Vec<String>> {
    let head = ["GPU", "memory", "budget", "peak", "first token", "tokens/s ≤", "bound by"];
    let mut table = vec![head.map(String::from).to_vec()];
    for (gpu, planned) in all {
        let rest = match planned.as_deref() {
            Ok([row, ..]) => [
                row.need.budget.clone(),
                Size(row.need.peak as u64).to_string(),
                Time(row.ttft_expected).to_string(),
                format!("{:.1}", 1.0 / row.decode_floor),
                row.limit.map_or("nothing", name).into(),
            ],
            _ => ["-", "", "", "", ""].map(String::from),
        };
        table.push([&[gpu.name.into(), memory(gpu)][..], &rest[..]].concat());
    }
    table
}
