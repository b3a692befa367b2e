//! `hired eval`: measures the accuracy of answers for each way of choosing image tokens.

mod args;
mod chart;
mod metric;
mod questions;
mod records;
mod row;
mod tokens;
mod vqa;
mod work;

pub use args::EvalArgs;
pub use metric::Metric;
pub use questions::{Item, Question, read as read_questions};

use super::Stop;
use super::devices::Cpu;
use super::files::{Inputs, Output};
use super::interrupt::Interrupt;
use super::output::{note, print, print_json};
use super::table::{Format, csv};
use hired::image::Resample;
use records::Records;
use row::{Key, Report, Row};
use std::path::Path;
use work::{Evaluated, Task, Workers};

pub fn eval(args: &EvalArgs, interrupt: &Interrupt) -> Result<(), Stop> {
    let items = questions::read(&args.questions, args.limit)?;
    let images = items.iter().map(|item| item.image.as_path());
    let inputs = Inputs::new(Some(&args.model.model), images.chain([args.questions.as_path()]));
    let plot = args.plot.as_deref().map(|path| Output::at(path, &inputs)).transpose()?;
    let token_plot =
        args.plot_tokens.as_deref().map(|path| Output::at(path, &inputs)).transpose()?;
    let workers = Workers::load(args, items.len())?;
    let machine = match workers.card() {
        Some(card) => card.name.clone(),
        None => Cpu::here().name,
    };
    let compared = row::distinct(args.compared.all(), workers.config());
    let (selections, keys): (Vec<_>, Vec<Key>) =
        compared.into_iter().map(|(compared, key)| (compared.selection, key)).unzip();
    let resample = Resample::of(&workers.config().image, args.device.resample);
    let (records, known) = Records::open(args, workers.card(), resample, &keys, &items)?;
    if let Some(path) = &args.predictions {
        tell_known(path, &known);
    }
    let images = items.len();
    let task = Task { args, items, selections, known, records };
    let Evaluated { items, outcomes, unread, interrupted } = workers.run(task, interrupt)?;
    let left_out: usize = unread.iter().map(|(item, _)| item.questions.len()).sum();
    for (item, why) in &unread {
        let questions = row::counted(item.questions.len(), "question");
        note(&format!("{why}; {questions} left out"));
    }
    let rows: Vec<Row> = keys
        .iter()
        .zip(&outcomes)
        .map(|(key, outcomes)| Row::new(key, args, outcomes, left_out))
        .collect();
    let format = args.format();
    let report = Report {
        rows: &rows,
        outcomes: &outcomes,
        items: &items,
        ended_before: interrupted.then_some(images),
        machine: &machine,
    };
    if interrupted {
        // An incomplete CSV or JSON table would look like a complete one.
        if !items.is_empty() && matches!(format, Format::Table | Format::Md) {
            print(&report.text(format, args))?;
        }
        return Err(Stop::Interrupted);
    }
    if let Some(plot) = plot {
        plot.write(chart::draw(&rows, args)?.as_bytes())?;
    }
    if let Some(plot) = token_plot {
        plot.write(tokens::draw(&rows, &outcomes, &items, args)?.as_bytes())?;
    }
    match format {
        Format::Json => print_json(&rows),
        Format::Csv => {
            let rows: Vec<_> = rows.iter().map(Row::flat).collect();
            print(&csv(&rows, true)?)
        }
        Format::Table | Format::Md => print(&report.text(format, args)),
    }
}

/// Reports how many predictions an earlier run has left to do.
fn tell_known(path: &Path, known: &[records::Grid]) {
    let all = || known.iter().flatten().flatten();
    let (done, count) = (all().flatten().count(), all().count());
    if done > 0 {
        note(&format!("{} has {done} of {count} predictions already", path.display()));
    }
}
