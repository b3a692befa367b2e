//! `hired plan --preset all`: prints a table of all known architectures, with a row for each number format.

use super::Stop;
use super::args::PlanArgs;
use super::output::{print, print_json};
use super::plan::{Asked, formats, planner, rows};
use super::plan_all::{Planned, listed};
use super::table::{Size, Table, Time};
use super::values::NumberFormat;
use hired::engine::{BudgetPlan, typical_request};
use hired::ops::gpu::{GPUS, Gpu};
use hired::{Error, Preset};

pub fn plan(
    args: &PlanArgs,
    gpus: &[&'static Gpu],
    dtypes: &[Option<NumberFormat>],
) -> Result<(), Stop> {
    if args.is_limited() {
        let why = "the table of all presets needs --budgets: leave out --max-memory and --max-ttft, or name one preset";
        return Err(Error::Request(why.into()).into());
    }
    let mut all: Vec<Planned> = Vec::new();
    for preset in Preset::ALL.into_iter().filter(|preset| *preset != Preset::Tiny) {
        for &dtype in dtypes {
            for &gpu in gpus {
                let asked = Asked { gpu, preset: Some(preset), dtype };
                let planned = planner(args, asked)
                    .and_then(|mut planner| Ok((planner.weights(), rows(args, &mut planner)?)));
                all.push(match planned {
                    Ok((weights, rows)) => (asked, weights, Ok(rows)),
                    // For one architecture among many this is a result: it has no kernels, or too few positions.
                    Err(Error::Request(why) | Error::Capacity(why)) => {
                        (asked, dtype.map_or("f16", NumberFormat::name), Err(why))
                    }
                    Err(error) => return Err(error.into()),
                });
            }
        }
    }
    if args.json {
        return print_json(&listed(&all));
    }
    let budgets: Vec<&str> = args.budgets.iter().map(|budget| budget.typed.as_str()).collect();
    print(&format!(
        "For {}, at the budgets {}:\n{}\nMemory: weights, KV cache and workspace. First token: expected, with * where it \
         does not fit. Smallest GPU: the known GPU with the least memory that fits it. {}\n\
         All times are predicted from the data sheet and the machine code: none was measured on a GPU.\n",
        typical_request(),
        budgets.join(", "),
        Table(table(&all, gpus)),
        formats(args, dtypes)
    ))
}

/// A row for each architecture and format; its plans, one per GPU, are adjacent.
fn table(all: &[Planned], gpus: &[&'static Gpu]) -> Vec<Vec<String>> {
    let mut heads: Vec<String> =
        ["model", "weights", "image tokens", "memory"].map(String::from).to_vec();
    heads.extend(gpus.iter().map(|gpu| format!("first token, {}", gpu.name)));
    heads.push("smallest GPU".into());
    let mut table = vec![heads];
    for same in all.chunks(gpus.len()) {
        let (Asked { preset, .. }, dtype, planned) = &same[0];
        let mut line = vec![preset.map_or("", Preset::name).to_owned(), (*dtype).to_owned()];
        match planned {
            Ok(rows) => {
                line.push(each(rows, |row| row.need.visual_tokens.to_string()));
                line.push(each(rows, |row| Size(row.need.peak as u64).to_string()));
                line.extend(same.iter().map(|(_, _, planned)| match planned {
                    Ok(rows) => each(rows, |row| {
                        format!("{}{}", Time(row.ttft_expected), if row.fits { "" } else { "*" })
                    }),
                    Err(_) => "-".into(),
                }));
                line.push(each(rows, |row| smallest(row.need.peak).to_owned()));
            }
            // Reasons differ, so each is printed in full and the other cells stay empty.
            Err(why) => {
                line.push(why.clone());
                line.resize(table[0].len(), String::new());
            }
        }
        table.push(line);
    }
    table
}

/// One cell for all budgets.
fn each(rows: &[BudgetPlan], cell: impl Fn(&BudgetPlan) -> String) -> String {
    rows.iter().map(cell).collect::<Vec<_>>().join(" → ")
}

/// The GPU with the least memory of which `peak` bytes are free.
fn smallest(peak: usize) -> &'static str {
    let takes = GPUS.iter().filter(|gpu| gpu.usable() >= peak);
    takes.min_by_key(|gpu| gpu.usable()).map_or("none", |gpu| gpu.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_gpu_is_the_one_with_the_least_memory_that_takes_it() {
        let usable = |name| Gpu::named(name).unwrap().usable();
        assert_eq!(smallest(usable("t4")), "t4");
        assert_ne!(smallest(usable("t4") + 1), "t4");
        assert_eq!((smallest(1), smallest(usize::MAX)), ("orin-nano-8", "none"));
    }
}
