//! `hired fidelity`: measures how far a number format moves a model from itself in f32, on prompts with images.
//!
//! Both models read the same prompts. Both are then fed the reference's answer token by token, and their
//! distributions of each next token are compared, as llama.cpp's `--kl-divergence` does for text.

mod args;
mod collect;
mod compare;

pub use args::FidelityArgs;

use super::Stop;
use super::eval::read_questions;
use super::interrupt::Interrupt;
use super::output::{note, print, print_json, tell_notes};
use super::table::Format;
use collect::Collector;
use compare::{Row, table};
use hired::engine::Engine;

pub fn fidelity(args: &FidelityArgs, interrupt: &Interrupt) -> Result<(), Stop> {
    let items = read_questions(&args.questions, Some(args.limit))?;
    let (reference, options) = args.models()?;
    let collector = Collector { args, items: &items, interrupt };

    // Only one model is in memory at a time.
    let mut engine = Engine::load(&reference, options.reference)?;
    collector.fits(engine.config().text.vocab)?;
    let expected = collector.answers(&mut engine)?;
    drop(engine);

    let mut engine = Engine::load(&args.model.model, options.compared)?;
    tell_notes(&engine);
    if engine.config().text.vocab != expected.vocabulary {
        let what = format!(
            "{} and the reference have different vocabulary sizes: give the same model as --reference",
            args.model.model.display()
        );
        return Err(Stop::Failed(what));
    }
    let found = collector.distances(&mut engine, &expected)?;
    for why in &expected.unread {
        note(&format!("{why}; its questions are left out"));
    }
    let numbers = args.numbers(&engine);
    let rows: Vec<Row> = args
        .budgets()
        .zip(expected.by_budget.iter().zip(&found))
        .map(|(budget, (expected, found))| Row::new(args, &numbers, budget, expected, found))
        .collect();
    match args.json {
        true => print_json(&rows),
        false => print(&table(Format::or_default(None), &rows)),
    }
}
