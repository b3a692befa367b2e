//! `hired eval`: how often answers are right, by what is kept of the image.

mod args;
mod chart;
mod metric;
mod questions;
mod row;
mod tokens;
mod vqa;
mod work;

pub use args::EvalArgs;

use super::Stop;
use super::devices::Cpu;
use super::files::Output;
use super::interrupt::Interrupt;
use super::output::{note, print, print_json};
use row::Row;
use work::{Evaluated, Workers};

pub fn eval(args: &EvalArgs, interrupt: &Interrupt) -> Result<(), Stop> {
    let items = questions::read(&args.questions, args.limit)?;
    let plot = args.plot.as_deref().map(Output::at).transpose()?;
    let token_plot = args.plot_tokens.as_deref().map(Output::at).transpose()?;
    let compared = args.compared.all();
    let workers = Workers::load(args, items.len())?;
    let machine = match workers.card() {
        Some(card) => card.name.clone(),
        None => Cpu::here().name,
    };
    let config = workers.config().clone();
    let Evaluated { items, outcomes, unread } = workers.run(args, items, &compared, interrupt)?;
    let left_out: usize = unread.iter().map(|(item, _)| item.questions.len()).sum();
    for (item, why) in &unread {
        note(&format!("{why}; its {} questions are left out", item.questions.len()));
    }
    let rows: Vec<Row> = compared
        .iter()
        .zip(&outcomes)
        .map(|(compared, outcomes)| Row::new(compared, &config, args, outcomes, left_out))
        .collect();
    if let Some(plot) = plot {
        plot.write(chart::draw(&rows, args)?.as_bytes())?;
    }
    if let Some(plot) = token_plot {
        plot.write(tokens::draw(&rows, &outcomes, &items, args)?.as_bytes())?;
    }
    if args.json { print_json(&rows) } else { print(&row::report(&rows, args, &items, &machine)) }
}
