//! `hired bench`: measures the cost of a request for each budget and batch size.

mod args;
mod build;
mod chart;
mod kernels;
mod load;
mod measure;
mod methods;
mod peers;
mod picture;
mod row;
mod table;
mod timeline;

pub use args::BenchArgs;

use super::Stop;
use super::files::{Inputs, Output, read_image};
use super::interrupt::Interrupt;
use super::journal::Journal;
use super::output::{print, tell_notes};
use super::progress;
use build::Build;
use hired::engine::{Engine, Image, Stage};
use kernels::Kernels;
use measure::Bench;
use row::Row;
use serde_json::Value;
use std::ops::ControlFlow;
use table::Printer;

pub fn bench(args: &BenchArgs, interrupt: &Interrupt) -> Result<(), Stop> {
    let image = match &args.image {
        Some(path) => {
            let (name, bytes) = read_image(path, args.device.max_pixels)?;
            Image::encoded(name, bytes)
        }
        None => picture::fixed(),
    };
    let peers = args.peers.as_deref().map(peers::read).transpose()?.unwrap_or_default();
    let others = [&args.image, &args.peers].into_iter().flatten().map(|path| path.as_path());
    let inputs = Inputs::new(args.model.as_deref(), others);
    let plot = args.plot.as_deref().map(|path| Output::at(path, &inputs)).transpose()?;
    let timeline = args.timeline.as_deref().map(|path| Output::at(path, &inputs)).transpose()?;

    let mut engine = load(args, interrupt)?;
    // Measured first, so that there is memory for the copy that measures the bandwidth.
    let ceiling = engine.ceiling()?;
    let build = Build::new(&engine, args, ceiling);
    if args.serve {
        return load::bench(args, engine, &build, &image, interrupt);
    }
    let (mut journal, before) = match &args.out {
        Some(path) => {
            let (journal, before) = Journal::open(path, "bench", &build.settings(args))?;
            (Some(journal), before)
        }
        None => (None, Vec::new()),
    };
    let mut printer = Printer::new(args, &build, &peers);
    let mut bench = Bench::new(&mut engine, args, image, interrupt);
    let (mut rows, mut kernels, mut first) = (Vec::new(), Vec::new(), None);
    for (method, budget) in args.asked() {
        for &batch in &args.batch {
            let requests = bench.requests(method, budget, batch);
            let mut row = Row::new(args, method, budget, batch);
            // The last line counts, because a row that failed is measured again.
            let known = before.iter().rev().find(|line| row.is_in(line));
            let known = known.and_then(|line| row.clone().restore(line));
            let is_new = known.is_none();
            match known {
                Some(known) => row = known,
                None => bench.measure(&mut row, &requests)?,
            }
            let mut listed = if args.kernels { Kernels::restore(&row, &before) } else { None };
            let is_first = timeline.is_some() && first.is_none();
            let profiled = plot.is_some() && row.ttft_floor.is_none()
                || args.kernels && listed.is_none()
                || is_first;
            if profiled && row.failure.is_none() {
                let entries = bench.profile(&requests)?;
                row.set_floors(ceiling, &entries);
                if args.kernels && listed.is_none() {
                    listed = Some(Kernels::new(&row, &entries, ceiling));
                }
                first.get_or_insert((rows.len(), entries));
            }
            row.compare(&rows);
            if let (Some(journal), true) = (&mut journal, is_new) {
                let mut lines = vec![Value::Object(row.columns())];
                lines.extend(listed.iter().flat_map(Kernels::lines).cloned());
                journal.append(&lines)?;
            }
            bench.end_row(&printer.row(&row)?)?;
            rows.push(row);
            kernels.extend(listed);
        }
    }
    if let Some(why) = rows.iter().find_map(|row| row.failure.as_ref())
        && rows.iter().all(|row| row.failure.is_some())
    {
        return Err(Stop::Failed(why.clone()));
    }
    drop(bench);
    print(&printer.end(&rows, &kernels)?)?;
    if let Some(plot) = plot {
        plot.write(chart::draw(&build, &rows, &peers)?.as_bytes())?;
    }
    if let Some(timeline) = timeline {
        // The timeline shows the first measured row.
        let Some((index, entries)) = first else {
            return Err(Stop::Failed(
                "no row was measured, so there is no timeline to draw".into(),
            ));
        };
        timeline.write(timeline::draw(&build, &rows[index], &entries)?.as_bytes())?;
    }
    Ok(())
}

fn load(args: &BenchArgs, interrupt: &Interrupt) -> Result<Engine, Stop> {
    let bar = progress::bytes("weights".into());
    let watch = |done: usize, all: usize| {
        interrupt.heed();
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        if interrupt.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = args.device.options();
    let engine = match (&args.model, args.synthetic) {
        (Some(dir), _) => Engine::load_with(dir, options, watch),
        (None, Some(preset)) => Engine::synthetic(preset, 0, options, watch),
        (None, None) => return Err(Stop::Usage("give --model DIR or --synthetic PRESET".into())),
    };
    bar.finish_and_clear();
    if interrupt.raised() {
        return Err(Stop::Interrupted);
    }
    let engine = engine?;
    tell_notes(&engine);
    Ok(engine)
}

/// The stages before the first token, in order.
const BEFORE_FIRST: [Stage; 5] =
    [Stage::Upload, Stage::Vision, Stage::Select, Stage::Project, Stage::Prefill];
