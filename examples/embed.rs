//! The engine inside another program: one question about one image, streamed.
//!
//!     cargo run --release --example embed -- MODEL_DIR IMAGE "What is on the sign?"

use hired::{Engine, EngineOptions, Event, Image, Request, Selection};
use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;

fn main() -> Result<(), Box<dyn Error>> {
    let [_, model, image, question] = &std::env::args().collect::<Vec<_>>()[..] else {
        return Err("usage: embed MODEL_DIR IMAGE QUESTION".into());
    };
    let mut engine = Engine::load(model, EngineOptions::default())?;
    let request = Request::new(question)
        .with_image(Image::encoded(image, std::fs::read(image)?))
        .with_selection(Selection::default().with_budget("20%".parse()?));

    let answer = engine.generate(&request, |event| {
        if let Event::Token { text, .. } | Event::Finished { text, .. } = event {
            print!("{text}");
            if std::io::stdout().flush().is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    println!();

    if let Some(visual) = &answer.visual {
        eprintln!(
            "{} of {} visual tokens, first token after {:.2} s",
            visual.kept, visual.valid, answer.timings.ttft
        );
    }
    Ok(())
}
