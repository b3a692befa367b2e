//! `hired plan` with several GPUs or formats: prints one table.

use super::Stop;
use super::args::PlanArgs;
use super::output::{print, print_json};
use super::plan::{Asked, Row, formats, name, planner, rows};
use super::table::{Size, Table, Time};
use super::values::NumberFormat;
use hired::engine::{BudgetPlan, typical_request};
use hired::ops::gpu::Gpu;
use hired::{Error, Preset};
use serde::Serialize;

/// What was planned, the format of its weights, and its rows, or the message if no budget is within the limits.
pub type Planned = (Asked, &'static str, Result<Vec<BudgetPlan>, String>);

/// A GPU on which no budget is within the limits, or a model that it cannot compute.
#[derive(Debug, Serialize)]
pub struct Refused<'a> {
    gpu: &'static str,
    preset: Option<&'static str>,
    fits: bool,
    refused: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Listed<'a> {
    Row(Row<'a>),
    Refused(Refused<'a>),
}

pub fn plan(
    args: &PlanArgs,
    preset: Option<Preset>,
    gpus: &[&'static Gpu],
    dtypes: &[Option<NumberFormat>],
) -> Result<(), Stop> {
    let mut all: Vec<Planned> = Vec::new();
    for &gpu in gpus {
        for &dtype in dtypes {
            let asked = Asked { gpu, preset, dtype };
            let mut planner = planner(args, asked)?;
            let planned = match rows(args, &mut planner) {
                Ok(rows) => Ok(rows),
                // With a limit this is a result, not a failure.
                Err(why @ (Error::Capacity(_) | Error::Context { .. })) if args.is_limited() => {
                    Err(why.to_string())
                }
                Err(error) => return Err(error.into()),
            };
            all.push((asked, planner.weights(), planned));
        }
    }
    if args.json {
        return print_json(&listed(&all));
    }
    let table = if args.is_limited() { limits(&all) } else { budgets(&all, dtypes.len()) };
    let what = match args.is_limited() {
        true => "The largest budget within the limit",
        false => "Expected time to the first token, and tokens/s after it",
    };
    print(&format!(
        "{what}, for {}:\n{}\n-: does not fit. {}\nAll times are predicted from the data sheet and the machine code: none \
         was measured on a GPU. `hired plan --gpu NAME` has the details of one.\n",
        typical_request(),
        Table(table),
        formats(args, dtypes)
    ))
}

pub fn listed(all: &[Planned]) -> Vec<Listed<'_>> {
    let mut listed = Vec::new();
    for (asked, dtype, planned) in all {
        match planned {
            Ok(rows) => listed.extend(rows.iter().map(|plan| Listed::Row(asked.row(dtype, plan)))),
            Err(refused) => listed.push(Listed::Refused(Refused {
                gpu: asked.gpu.name,
                preset: asked.preset.map(Preset::name),
                fits: false,
                refused,
            })),
        }
    }
    listed
}

fn memory(gpu: &Gpu) -> String {
    Size(gpu.memory as u64).to_string()
}

/// A column for each budget and format; each group of `formats` plans belongs to one GPU.
fn budgets(all: &[Planned], formats: usize) -> Vec<Vec<String>> {
    let mut table = Vec::new();
    for of_gpu in all.chunks(formats) {
        let cells = of_gpu
            .iter()
            .flat_map(|(_, dtype, planned)| planned.iter().flatten().map(move |row| (dtype, row)));
        if table.is_empty() {
            let head = |(dtype, row): (&&str, &BudgetPlan)| match formats {
                1 => row.need.budget.clone(),
                _ => format!("{dtype}, {}", row.need.budget),
            };
            let heads = ["GPU".into(), "memory".into()].into_iter().chain(cells.clone().map(head));
            table.push(heads.collect());
        }
        let cells = cells.map(|(_, row)| match row.fits {
            true => format!("{}, {:.1}/s", Time(row.ttft_expected), 1.0 / row.decode_expected),
            false => "-".into(),
        });
        let gpu = of_gpu[0].0.gpu;
        table.push([gpu.name.into(), memory(gpu)].into_iter().chain(cells).collect());
    }
    table
}

/// The largest budget of each plan.
fn limits(all: &[Planned]) -> Vec<Vec<String>> {
    let head = ["GPU", "memory", "budget", "peak", "first token", "tokens/s ≤", "bound by"];
    let mut table = vec![head.map(String::from).to_vec()];
    for (Asked { gpu, .. }, _, planned) in all {
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
