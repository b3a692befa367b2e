//! `hired select`: shows which image tokens would be kept.

use super::Stop;
use super::args::SelectArgs;
use super::files::{Inputs, Output};
use super::idle::Given;
use super::output::{note, print, print_json, tell_notes};
use super::overlay::overlay;
use super::{images, prompt};
use hired::engine::{Engine, Image, Request, Visual};
use hired::image::{MAX_PIXELS, Resample, RgbImage, decode_within, tiles};
use hired::select::{Geometry, Method};
use std::fmt::Write;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;

pub fn select(args: &SelectArgs, given: &Given<'_>) -> Result<(), Stop> {
    if let Some(conflict) = args.conflict() {
        return Err(Stop::Usage(conflict.into()));
    }
    let words = args.prompt.as_ref().map(prompt::read).transpose()?;
    let inputs = Inputs::new(Some(&args.model.model), [args.image.as_path()]);
    let picture = args.overlay.as_deref().map(|path| picture(path, &inputs)).transpose()?;
    let max_pixels = args.device.max_pixels;
    let (name, bytes) = images::read(&args.image, max_pixels)?;
    let mut engine = Engine::load(&args.model.model, args.device.options())?;
    tell_notes(&engine);
    let pixels = picture
        .is_some()
        .then(|| decode_within(&bytes, &name, max_pixels.unwrap_or(MAX_PIXELS)))
        .transpose()?;
    let image = Image::encoded(name, bytes);
    let selection = args.selection.with(args.budget);
    let visual = match &words {
        Some(prompt) => {
            let request =
                Request::new(prompt).with_selection(selection.clone()).with_max_new_tokens(1);
            let answer =
                engine.generate(&request.with_image(image), |_| ControlFlow::Continue(()))?;
            answer.visual.expect("an answer about an image has its selection")
        }
        None => engine.select(&image, &selection)?,
    };
    let notes = [given.selection(&selection), given.device(engine.card().is_some())];
    notes.concat().iter().for_each(|what| note(what));
    if let Some((picture, pixels)) = picture.zip(pixels) {
        picture.write(&draw(args, &engine, &pixels, &visual)?)?;
    }
    if args.json { print_json(&visual) } else { print(&table(&visual)) }
}

/// The output file for the picture of a selection, which is always a PNG.
fn picture(path: &Path, inputs: &Inputs) -> Result<Output, Stop> {
    let named = path.extension().and_then(image::ImageFormat::from_extension);
    match named {
        None | Some(image::ImageFormat::Png) => Output::at(path, inputs),
        Some(_) => Err(Stop::Usage(format!(
            "--overlay {}: the picture is a PNG: give a name that ends in .png",
            path.display()
        ))),
    }
}

/// The picture of a selection as PNG.
fn draw(
    args: &SelectArgs,
    engine: &Engine,
    pixels: &RgbImage,
    visual: &Visual,
) -> Result<Vec<u8>, Stop> {
    let config = engine.config();
    let resample = Resample::of(&config.image, args.device.resample);
    let tiles = tiles(pixels, &config.image, resample)?;
    let geometry = Geometry::of(&tiles.layout, config)?;
    let Visual { valid, budget, .. } = visual;
    let selection = args.selection.with(args.budget);
    let how = match selection.method {
        Method::Hired if !selection.keeps_everything() => format!("hired ({})", selection.rule),
        method => method.to_string(),
    };
    let title = format!("{how}, budget {budget}: {} of {valid} image tokens kept", counted(visual));
    let mut png = Cursor::new(Vec::new());
    overlay(&tiles.pixels, &geometry, visual, &title)
        .write_to(&mut png, image::ImageFormat::Png)
        .map_err(|error| Stop::Failed(format!("--overlay: {error}")))?;
    Ok(png.into_inner())
}

/// The number of kept patches, and of merged tokens if there are any.
pub fn counted(visual: &Visual) -> String {
    match visual.merged {
        0 => visual.kept.to_string(),
        merged => format!("{} (and {merged} merged)", visual.kept),
    }
}

/// A readable selection: a summary line, and one line per partition.
fn table(visual: &Visual) -> String {
    let Visual { valid, budget, newlines, .. } = visual;
    let mut text = format!("kept {} of {valid} image tokens, budget {budget}", counted(visual));
    if *newlines > 0 {
        write!(text, ", and {newlines} row separators").expect("a String takes everything");
    }
    text.push('\n');
    for (partition, (allotted, kept)) in
        visual.allocation.iter().zip(&visual.kept_indices).enumerate()
    {
        let name = match (partition.checked_sub(1), visual.grid) {
            (Some(sub), Some([_, columns])) => format!("({}, {})", sub / columns, sub % columns),
            _ => "full image".into(),
        };
        let kept = kept.len();
        let of = visual.tokens_per_partition;
        write!(text, "{name:<10}  {kept:>5} of {of}").expect("a String takes everything");
        // With the published rules, tokens that are allotted to padding are lost.
        if *allotted != kept {
            write!(text, ", {allotted} allotted").expect("a String takes everything");
        }
        text.push('\n');
    }
    text
}
