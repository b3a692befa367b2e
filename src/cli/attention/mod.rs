//! `hired attention`: shows what the language model and the vision tower attend to (Figures 2 and 3 and Table 2 of
//! the HiRED paper).

mod args;
mod chart;
mod figures;
mod heat;

pub use args::AttentionArgs;

use super::files::{Inputs, Output};
use super::idle::Given;
use super::interrupt::Interrupt;
use super::output::{note, print, print_json, tell_notes};
use super::{Stop, images, prompt};
use figures::Figures;
use hired::engine::{Engine, Image, Request};

pub fn attention(
    args: &AttentionArgs,
    given: &Given<'_>,
    interrupt: &Interrupt,
) -> Result<(), Stop> {
    let words = prompt::read(&args.prompt)?;
    let inputs = Inputs::new(Some(&args.model.model), [args.image.as_path()]);
    let output = |path: &Option<_>| {
        path.as_ref().map(|path: &std::path::PathBuf| Output::at(path, &inputs)).transpose()
    };
    let (plot, heatmap) = (output(&args.plot)?, output(&args.heatmap)?);
    let (name, bytes) = images::read(&args.image, args.device.max_pixels)?;
    let mut engine = Engine::load(&args.model.model, args.device.options())?;
    tell_notes(&engine);
    let selection = args.selection.with(args.budget);
    let notes = [given.selection(&selection), given.device(engine.card().is_some())];
    notes.concat().iter().for_each(|what| note(what));
    let layers = args.decoder_layers(engine.config().text.layers)?;
    let request = Request::new(words)
        .with_image(Image::encoded(name, bytes))
        .with_selection(selection)
        .with_max_new_tokens(args.max_new_tokens);
    interrupt.heed();
    if let Some(file) = heatmap {
        file.write(&heat::draw(&mut engine, &request, &args.vision_layers)?)?;
    }
    if interrupt.raised() {
        return Err(Stop::Interrupted);
    }
    let attention = engine.attention(&request)?;
    let figures = Figures::of(&attention, &layers);
    if let Some(file) = plot {
        file.write(chart::draw(args, &figures)?.as_bytes())?;
    }
    if args.json { print_json(&figures) } else { print(&figures.text()) }
}
