//! Prints the measurements row by row: as a readable table, CSV or JSON lines.

use super::args::BenchArgs;
use super::build::Build;
use super::kernels::Kernels;
use super::methods;
use super::peers::Peer;
use super::row::{Row, Spread};
use crate::cli::Stop;
use crate::cli::table::{Columns, Format, Size, Time, csv, digits};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The printer, with its state.
pub struct Printer<'a> {
    format: Format,
    build: &'a Build,
    peers: &'a [Peer],
    /// Print a column for the method, or for the engine if other engines are shown.
    has_who: bool,
    /// A full budget is measured, so there are columns of comparisons.
    has_full: bool,
    reps: usize,
    columns: Columns,
    /// Rows that could not be measured, held back until the first one that could.
    held: Vec<Row>,
    begun: bool,
}

impl<'a> Printer<'a> {
    pub fn new(args: &BenchArgs, build: &'a Build, peers: &'a [Peer]) -> Self {
        let format = Format::or_default(args.format);
        let has_who = args.compares_methods() || !peers.is_empty();
        let has_full = args.asked().iter().any(|(_, budget)| budget.typed == "full");
        let mut heads = Vec::new();
        if has_who {
            heads.push((if peers.is_empty() { "method" } else { "engine" }, 9));
        }
        heads.extend([("budget", 6), ("batch", 0), ("image tokens", 0), ("first token", 12)]);
        heads.extend([
            ("vision", 7),
            ("select", 7),
            ("prefill", 7),
            ("tokens/s", 0),
            ("overall", 7),
        ]);
        if has_full {
            heads.push(("speed-up", 0));
        }
        heads.push(("memory", 9));
        let columns = Columns::new(format, &heads, usize::from(has_who) + 1);
        let (held, begun, reps) = (Vec::new(), false, args.reps);
        Self { format, build, peers, has_who, has_full, reps, columns, held, begun }
    }

    /// The text to print after a row: nothing until one row could be measured.
    pub fn row(&mut self, row: &Row) -> Result<String, Stop> {
        if row.failure.is_some() && !self.begun {
            self.held.push(row.clone());
            return Ok(String::new());
        }
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            text += &self.head()?;
            for held in std::mem::take(&mut self.held) {
                text += &self.line(&held, false)?;
            }
            text += &self.line(row, true)?;
            return Ok(text);
        }
        self.line(row, false)
    }

    /// The text before the rows.
    fn head(&self) -> Result<String, Stop> {
        Ok(match self.format {
            Format::Json => line(&json!(self.build))?,
            Format::Csv => String::new(),
            Format::Table | Format::Md => {
                let build = self.build;
                let machine = build.machine();
                let what = format!("{}, {}\n{machine}\n", build.build, build.model);
                format!("{what}Device limits: {}\n\n{}", build.ceilings(), self.columns.head())
            }
        })
    }

    fn line(&self, row: &Row, is_first: bool) -> Result<String, Stop> {
        match self.format {
            Format::Json => line(&Value::Object(row.columns())),
            Format::Csv => csv(&[self.build.beside(&Value::Object(row.columns()))], is_first),
            Format::Table | Format::Md => Ok(self.columns.row(&self.cells(row))),
        }
    }

    /// The text after the rows.
    pub fn end(&self, rows: &[Row], kernels: &[Kernels]) -> Result<String, Stop> {
        let mut text = String::new();
        match self.format {
            Format::Json => {
                for peer in self.peers {
                    text += &line(peer.line())?;
                }
                for kernel in kernels.iter().flat_map(Kernels::lines) {
                    text += &line(kernel)?;
                }
            }
            Format::Csv => {
                let lines = kernels.iter().flat_map(Kernels::lines);
                let lines: Vec<Value> = lines.map(|line| self.build.beside(line)).collect();
                if !lines.is_empty() {
                    text = format!("\n{}", csv(&lines, true)?);
                }
            }
            Format::Table | Format::Md => {
                for peer in self.peers {
                    text += &self.columns.row(&peer.cells(self.has_full));
                }
                text += &self.legend(rows);
                if rows.iter().any(|row| row.method != rows[0].method) {
                    text += &format!("\n{}", methods::table(self.format, rows));
                }
                for kernels in kernels {
                    text += &format!("\n{}", kernels.table(self.format));
                }
            }
        }
        Ok(text)
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let mut cells = Vec::new();
        if self.has_who {
            cells.push(match self.peers.is_empty() {
                true => row.method.clone(),
                false => format!("hired {}", row.method).replace("hired hired", "hired"),
            });
        }
        cells.extend([row.budget.clone(), row.batch.to_string()]);
        if let Some(why) = &row.failure {
            cells.push(format!("not measured: {why}"));
            return cells;
        }
        let counted = row.kept + row.merged;
        let of = if counted == row.asked { String::new() } else { format!(" of {}", row.asked) };
        let newlines = if row.newlines == 0 { String::new() } else { format!("+{}", row.newlines) };
        cells.push(format!("{counted}{of}{newlines}"));
        cells.push(
            row.spread("ttft").map_or(String::new(), |s| spread(s, &|v| Time(v).to_string())),
        );
        for name in ["vision", "select", "prefill"] {
            cells.push(row.median(name).filter(|&v| v > 0.0).map_or(String::new(), time));
        }
        for name in ["decode_tokens_per_second", "throughput_with_prefill"] {
            cells.push(row.median(name).map_or(String::new(), digits));
        }
        if self.has_full {
            let times = row.ratio("throughput_with_prefill");
            cells.push(times.map_or(String::new(), |times| format!("{times:.2}×")));
        }
        cells.push(row.median("peak_memory").map_or(String::new(), size));
        cells
    }

    /// The explanation of the columns.
    fn legend(&self, rows: &[Row]) -> String {
        let mut text = format!("\nMedians of {} measurements of the whole batch", self.reps);
        if self.reps > 1 {
            text += "; ±: the largest deviation from the median";
        }
        text += ".\nimage tokens: kept (of requested, if fewer)";
        if rows.iter().any(|row| row.newlines > 0) {
            text += " + row separators";
        }
        text += ".\nfirst token: time to the first token; it includes vision, select and prefill.\n\
                 tokens/s: while decoding; overall: all tokens over the whole time";
        if self.has_full {
            text += "; speed-up: overall, compared with the full budget";
        }
        text += ".\nmemory: peak, ";
        let peak = |row: &&Row, name| row.median(name).unwrap_or_default();
        let differs = |row: &&Row| peak(row, "peak_memory") != peak(row, "predicted_peak");
        let told: BTreeSet<String> = rows
            .iter()
            .filter(differs)
            .map(|row| {
                let (name, batch) = (&row.name, row.batch);
                format!("{name}, batch {batch}: {}", size(peak(&row, "predicted_peak")))
            })
            .collect();
        match told.is_empty() {
            true => text += "equal to the predicted peak in every row.\n",
            false => {
                text += "equal to the predicted peak except in these rows:\n";
                told.iter().for_each(|told| text += &format!("- {told} predicted\n"));
            }
        }
        text + "--format csv and json have all columns.\n"
    }
}

/// An object as one line of JSON.
fn line(value: &Value) -> Result<String, Stop> {
    let text = serde_json::to_string(value);
    Ok(text.map_err(|e| Stop::Failed(format!("cannot write JSON: {e}")))? + "\n")
}

fn time(seconds: f64) -> String {
    Time(seconds).to_string()
}

/// A number of bytes. It is an integer except in the median of an even number of measurements.
pub fn size(bytes: f64) -> String {
    Size(bytes.round() as u64).to_string()
}

/// The median, with the largest deviation from it in percent.
fn spread(spread: Spread, shown: &dyn Fn(f64) -> String) -> String {
    let Spread { least, median, most } = spread;
    let farthest = (most - median).max(median - least);
    match median > 0.0 && farthest > 0.0 {
        true => format!("{} ±{:.0}%", shown(median), 100.0 * farthest / median),
        false => shown(median),
    }
}
