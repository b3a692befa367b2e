//! `hired run`: answers a prompt about zero, one or several images.

use super::Stop;
use super::args::{DeviceArgs, RunArgs};
use super::dump;
use super::files::{Inputs, Output};
use super::idle::Given;
use super::images::read_images;
use super::interrupt::Interrupt;
use super::log::{Level, shows};
use super::messages;
use super::output::{Stream, note, print_json, tell, tell_notes};
use super::progress::{Blocks, bytes};
use super::prompt;
use super::report::{Asked, Device, Report, statistics};
use super::values::BudgetArg;
use hired::engine::{Answer, Engine, Event, Image, Limit, Message, Prompt, Request, Role};
use hired::quant::Packing;
use hired::select::Budget;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub fn run(args: &RunArgs, given: &Given<'_>, interrupt: &Interrupt) -> Result<(), Stop> {
    if let Some(conflict) = args.conflict() {
        return Err(Stop::Usage(conflict.into()));
    }
    let read = args.image.iter().chain(&args.messages).map(PathBuf::as_path);
    let inputs = Inputs::new(Some(&args.model.model), read);
    let dump = args.dump.as_deref().map(|path| Output::at(path, &inputs)).transpose()?;
    let words = args.prompt.as_ref().map(prompt::read).transpose()?;
    let images = read_images(&args.image, args.device.max_pixels)?;
    if args.dump.is_some() && images.len() > 1 && !args.together && args.messages.is_none() {
        let what = format!(
            "--dump is for one prompt, but there are {} images: give one image, or add --together",
            images.len()
        );
        return Err(Stop::Failed(what));
    }
    let asked = asked(args, words.as_deref(), images)?;
    let mut engine = load(&args.model.model, &args.device, interrupt)?;
    let (mut requests, names): (Vec<Request>, Vec<Vec<String>>) = asked.into_iter().unzip();
    let without_image = requests.iter().all(|request| request.images().is_empty());
    let notes = notes(args, given, engine.card().is_some(), without_image);
    if args.budget == BudgetArg::Auto && !without_image {
        let budget = largest_budget(&mut engine, args, &requests)?;
        requests.iter_mut().for_each(|r| r.selection.budget = budget);
    }

    let mut stream = Stream::new(io::stdout(), io::stdout().is_terminal());
    let outcome = answer(&mut engine, &requests, args.json, notes, &mut stream, interrupt);
    if interrupt.raised() {
        return Err(Stop::Interrupted);
    }
    let answers = match outcome {
        // A closed pipe stopped it, not the user.
        Err(hired::Error::Cancelled) => return stream.outcome(),
        outcome => outcome?,
    };
    if let Some((dump, stages)) = dump.zip(answers[0].stages.as_ref()) {
        dump::write(dump, stages)?;
    }
    if args.json {
        report(&engine, args, words.as_deref(), &requests, &names, &answers)?;
    } else {
        for answer in &answers[1..] {
            stream.push(&answer.text);
            stream.end();
        }
        stream.outcome()?;
    }
    let unasked = !args.json && shows(Level::Note) && io::stderr().is_terminal();
    if shows(Level::Info) || unasked {
        for (index, answer) in answers.iter().enumerate() {
            let image = names[index].first().filter(|_| names.len() > 1);
            let image = image.map_or(String::new(), |name| format!("{name}: "));
            tell(Level::Note, &format!("{image}{}", statistics(answer)));
        }
    }
    Ok(())
}

/// Notes about options that have no effect.
fn notes(args: &RunArgs, given: &Given<'_>, is_cuda: bool, without_image: bool) -> Vec<String> {
    let of_selection = match (without_image, args.budget) {
        (true, _) => {
            let words = "no --image: the answer is based on the text only";
            [vec![words.into()], given.without_image()].concat()
        }
        (false, BudgetArg::Fixed(budget)) => given.selection(&args.selection.with(budget)),
        (false, BudgetArg::Auto) => given.selection(&args.selection.with(Budget::Count(1))),
    };
    let of_formats = args.device.idle(given);
    [of_selection, given.sampling(&args.sampling), given.device(is_cuda), of_formats].concat()
}

/// Loads the engine and shows a progress bar.
pub fn load(model: &Path, device: &DeviceArgs, interrupt: &Interrupt) -> Result<Engine, Stop> {
    let bar = bytes("weights".into());
    let loaded = Engine::load_with(model, device.options(), |done, all| {
        interrupt.heed();
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        if interrupt.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    // Ctrl-C is not polled again until the computation begins.
    interrupt.ignore();
    if interrupt.raised() {
        return Err(Stop::Interrupted);
    }
    let engine = loaded?;
    tell_notes(&engine);
    Ok(engine)
}

/// The requests and the names of their images: one per image, one without images, or one for all images together.
fn asked(
    args: &RunArgs,
    words: Option<&str>,
    images: Vec<(String, Vec<u8>)>,
) -> Result<Vec<(Request, Vec<String>)>, Stop> {
    let budget = match args.budget {
        BudgetArg::Fixed(budget) => budget,
        BudgetArg::Auto => Budget::Full,
    };
    let request = Request::new("")
        .with_literal(args.literal)
        .with_selection(args.selection.with(budget))
        .with_budget_total(args.budget_total)
        .with_max_new_tokens(args.sampling.max_new_tokens)
        .with_sampling(args.sampling.sampling())
        .with_stop(args.sampling.stop.clone())
        .with_ignore_eos(args.sampling.ignore_eos)
        .with_keep_stages(args.dump.is_some());
    if let Some(path) = &args.messages {
        let (messages, names) = messages::read(path, images, args.device.max_pixels)?;
        return Ok(vec![(request.with_prompt(Prompt::Messages(messages)), names)]);
    }
    let words = words.unwrap_or_default();
    let (names, images): (Vec<String>, Vec<Image>) =
        images.into_iter().map(|(name, bytes)| (name.clone(), Image::encoded(name, bytes))).unzip();
    if args.system.is_none() && !args.together {
        let words = words.to_owned();
        let prompt = if args.raw_prompt { Prompt::Raw(words) } else { Prompt::User(words) };
        let request = request.with_prompt(prompt);
        if images.is_empty() {
            return Ok(vec![(request, Vec::new())]);
        }
        let about = |(image, name)| (request.clone().with_image(Some(image)), vec![name]);
        return Ok(images.into_iter().zip(names).map(about).collect());
    }
    let conversation = |images: Vec<Image>| {
        let user = images.into_iter().fold(Message::new(Role::User), Message::with).with(words);
        let system = args.system.as_deref().map(Message::system);
        let messages = system.into_iter().chain([user]).collect();
        request.clone().with_prompt(Prompt::Messages(messages))
    };
    if args.together || images.is_empty() {
        return Ok(vec![(conversation(images), names)]);
    }
    let images = images.into_iter().zip(names);
    Ok(images.map(|(image, name)| (conversation(vec![image]), vec![name])).collect())
}

/// The largest budget within every given limit.
fn largest_budget(
    engine: &mut Engine,
    args: &RunArgs,
    requests: &[Request],
) -> Result<Budget, Stop> {
    let limits = [args.max_memory.map(Limit::Memory), args.max_ttft.map(Limit::Ttft)];
    let mut least = usize::MAX;
    for limit in limits.into_iter().flatten() {
        least = least.min(engine.largest_budget(requests, limit)?);
    }
    Ok(Budget::Count(least))
}

/// Answers the requests. The first answer is printed as it is generated unless `quiet`; printed text always ends with
/// a newline. `notes` are printed once the requests are found to be valid.
fn answer(
    engine: &mut Engine,
    requests: &[Request],
    quiet: bool,
    mut notes: Vec<String>,
    stream: &mut Stream<impl Write>,
    interrupt: &Interrupt,
) -> hired::Result<Vec<Answer>> {
    let blocks = Blocks::new(requests.len());
    // A progress bar would be drawn into the text if both are on the same terminal.
    let text_on_terminal = !quiet && io::stdout().is_terminal();
    let outcome = engine.generate_batch(requests, |event| {
        // From the start of the computation on, Ctrl-C is polled for every layer.
        interrupt.heed();
        notes.drain(..).for_each(|what| note(&what));
        match event {
            Event::Progress { request, stage, done, all, .. }
                if !(text_on_terminal && stream.is_open()) =>
            {
                blocks.show(request, stage, done, all);
            }
            Event::Token { request: 0, text, .. } if !quiet => {
                if text_on_terminal {
                    blocks.clear();
                }
                stream.push(text);
            }
            Event::Finished { request: 0, text, .. } if !quiet => {
                stream.push(text);
                stream.end();
            }
            _ => {}
        }
        if interrupt.raised() || stream.failed() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    blocks.clear();
    if stream.is_open() {
        stream.end();
    }
    outcome
}

/// Prints one object for one request, an array for several.
fn report(
    engine: &Engine,
    args: &RunArgs,
    words: Option<&str>,
    requests: &[Request],
    names: &[Vec<String>],
    answers: &[Answer],
) -> Result<(), Stop> {
    let device = Device::of(engine);
    let model = args.model.model.display().to_string();
    let stored = engine.config().quantization.map(Packing::name);
    let dtype = stored.unwrap_or(args.device.dtype_name(engine.card().is_some()));
    let reports: Vec<Report<'_>> = requests
        .iter()
        .zip(answers)
        .zip(names)
        .map(|((request, answer), names)| {
            let asked = Asked::new(&model, names, words, args.system.as_deref(), request, dtype);
            Report::new(answer, asked, &request.selection, &device)
        })
        .collect();
    match reports.as_slice() {
        [report] => print_json(report),
        reports => print_json(&reports),
    }
}
