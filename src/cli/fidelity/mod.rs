//! `hired fidelity`: how far a number format moves a model from its f32 self, on prompts with images.
//!
//! Both models read the same prompts. What the reference answers is then given to both, token by token, and the
//! distributions of each next token are compared: as llama.cpp's `--kl-divergence` does for text alone.

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

    // One model at a time is in memory.
    let mut engine = Engine::load(&reference, options.reference)?;
    collector.fits(engine.config().text.vocab)?;
    let expected = collector.answers(&mut engine)?;
    drop(engine);

    let mut engine = Engine::load(&args.model.model, options.compared)?;
    tell_notes(&engine);
    if engine.config().text.vocab != expected.vocabulary {
        let what = format!(
            "{} and the reference have vocabularies of different sizes: give a --reference that is the same model",
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
