//! `hired bench`: the cost of a request at each budget and batch.

mod args;
mod chart;
mod kernels;
mod measure;
mod methods;
mod peers;
mod picture;
mod row;
mod table;
mod timeline;

pub use args::BenchArgs;

use super::Stop;
use super::files::{Output, read_image};
use super::interrupt::Interrupt;
use super::output::{print, tell_notes};
use super::progress;
use args::Format;
use hired::engine::{Engine, Image, Stage};
use kernels::Kernels;
use measure::Bench;
use std::ops::ControlFlow;
use table::{Build, Report};

pub fn bench(args: &BenchArgs, interrupt: &Interrupt) -> Result<(), Stop> {
    let image = match &args.image {
        Some(path) => {
            let (name, bytes) = read_image(path)?;
            Image::encoded(name, bytes)
        }
        None => picture::fixed(),
    };
    let peers = args.peers.as_deref().map(peers::read).transpose()?.unwrap_or_default();
    let plot = args.plot.as_deref().map(Output::at).transpose()?;
    let timeline = args.timeline.as_deref().map(Output::at).transpose()?;

    let mut engine = load(args, interrupt)?;
    // Before anything else is there, so that the copy that measures the bandwidth has room.
    let ceiling = engine.ceiling()?;
    let build = Build::new(&engine, args, ceiling);
    let mut bench = Bench::new(&mut engine, args, image, interrupt);
    let mut rows = Vec::new();
    let mut profiles = Vec::new();
    let profiled = args.kernels || plot.is_some() || timeline.is_some();
    for (method, budget) in args.asked() {
        for &batch in &args.batch {
            let (row, requests) = bench.row(method, budget, batch)?;
            if profiled && row.failure.is_none() {
                profiles.push((rows.len(), bench.profile(&requests)?));
            }
            rows.push(row);
        }
    }
    for (index, entries) in &profiles {
        rows[*index].set_floors(ceiling, entries);
    }
    row::compare(&mut rows);
    if let Some(why) = rows.iter().find_map(|row| row.failure.as_ref())
        && rows.iter().all(|row| row.failure.is_some())
    {
        return Err(Stop::Failed(why.clone()));
    }

    let kernels: Vec<Kernels> = match args.kernels {
        true => profiles.iter().map(|(i, e)| Kernels::new(&rows[*i], e, ceiling)).collect(),
        false => Vec::new(),
    };
    if let Some(plot) = plot {
        plot.write(chart::draw(&build, &rows, &peers)?.as_bytes())?;
    }
    if let Some(timeline) = timeline {
        // Of the first that was measured, which most like to see whole.
        let Some((index, entries)) = profiles.first() else {
            return Err(Stop::Failed("nothing was measured that a timeline could show".into()));
        };
        timeline.write(timeline::draw(&build, &rows[*index], entries)?.as_bytes())?;
    }
    let report = Report { build: &build, rows: &rows, kernels: &kernels, peers: &peers };
    print(&match args.format {
        Format::Md => report.markdown(),
        Format::Csv => report.csv()?,
        Format::Json => report.json()?,
    })
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

/// Stages before the first token, in order.
const BEFORE_FIRST: [Stage; 5] =
    [Stage::Upload, Stage::Vision, Stage::Select, Stage::Project, Stage::Prefill];
