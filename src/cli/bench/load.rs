//! `hired bench --serve`: measures many clients of one engine, as with `hired serve`.

use super::args::BenchArgs;
use super::build::Build;
use super::picture::Variants;
use crate::cli::Stop;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::print;
use crate::cli::progress;
use crate::cli::table::{Columns, Format, Time, csv, digits};
use hired::config::ModelConfig;
use hired::engine::{Engine, Image, Prompt, Request, Update};
use hired::{Error, Scheduler, SchedulerOptions};
use serde::Serialize;
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How often the program checks for Ctrl-C.
const TICK: Duration = Duration::from_millis(50);
/// Number of images that the repeated requests are about.
const KNOWN: u64 = 4;

/// Many requests of one kind, from clients that each send the next request as soon as they have their answer.
#[derive(Debug, Serialize)]
struct Row {
    method: String,
    budget: String,
    clients: usize,
    /// Share of requests about an image that was asked about before.
    repeated: f64,
    requests: usize,
    /// Seconds from the first request to the last answer.
    seconds: f64,
    requests_per_second: f64,
    tokens_per_second: f64,
    ttft_p50: f64,
    ttft_p99: f64,
    /// Seconds from one token of an answer to the next.
    gap_p50: f64,
    gap_p99: f64,
    /// Images that were not encoded again, as a share of all images.
    images_known: f64,
    /// Prompt tokens that were not computed again, as a share of all prompt tokens.
    tokens_known: f64,
}

/// The measurements of one client.
#[derive(Default)]
struct Heard {
    ttft: Vec<f64>,
    gaps: Vec<f64>,
    tokens: usize,
}

pub fn bench(
    args: &BenchArgs,
    engine: Engine,
    build: &Build,
    image: &Image,
    interrupt: &Interrupt,
) -> Result<(), Stop> {
    let format = Format::or_default(args.format);
    let config = engine.config().clone();
    let variants = Variants::of(image, args.device.max_pixels)?;
    let most = args.clients.iter().copied().max().unwrap_or(1);
    let options =
        SchedulerOptions::default().with_max_waiting(most).with_cache_memory(args.cache_memory);
    let scheduler = Scheduler::start(engine, options);
    let asked = args.asked();
    let steps = progress::steps(asked.len() * args.repeated.len() * args.clients.len());
    let heads = [
        ("budget", 6),
        ("repeated", 0),
        ("clients", 0),
        ("requests/s", 0),
        ("tokens/s", 0),
        ("first token p50", 0),
        ("p99", 7),
        ("between tokens p50", 0),
        ("p99", 7),
        ("known images", 0),
        ("known tokens", 0),
    ];
    let columns = Columns::new(format, &heads, 1);
    steps.aside(|| match format {
        Format::Json => print(&format!("{}\n", json!(build))),
        Format::Csv => Ok(()),
        Format::Table | Format::Md => {
            let what = format!("{}, {}\n{}\n\n", build.build, build.model, build.machine());
            print(&(what + &columns.head()))
        }
    })?;
    let fresh = AtomicU64::new(KNOWN);
    let mut is_first = true;
    for (method, budget) in asked {
        for &repeated in &args.repeated {
            for &clients in &args.clients {
                steps.begin(&format!("{} × {clients}", budget.typed));
                let requests = args.requests.max(clients);
                let load = Load {
                    scheduler: &scheduler,
                    variants: &variants,
                    request: request(args, &config)
                        .with_selection(args.selection.with(budget.budget).with_method(method)),
                    repeated,
                    fresh: &fresh,
                    interrupt,
                };
                let mut row = load.measure(clients, requests)?;
                (row.method, row.budget) = (method.to_string(), budget.typed.clone());
                let text = match format {
                    Format::Json => format!("{}\n", json!(row)),
                    Format::Csv => csv(&[build.beside(&json!(row))], is_first)?,
                    Format::Table | Format::Md => columns.row(&cells(&row)),
                };
                is_first = false;
                steps.end();
                steps.aside(|| print(&text))?;
            }
        }
    }
    scheduler.drain();
    if matches!(format, Format::Table | Format::Md) {
        print(&format!(
            "\n{} requests per row, at least one per client, with {} text tokens and {} new tokens; each client sends its next \
             request when it has its answer.\nrepeated: requests about one of {KNOWN} images that were asked about before; the others' \
             images are new.\nknown:  images that were not encoded again and prompt tokens that were not computed \
             again, as shares of all.\n",
            args.requests, args.prompt_tokens, args.new_tokens
        ))?;
    }
    Ok(())
}

fn cells(row: &Row) -> Vec<String> {
    let share = |share: f64| format!("{:.0}%", 100.0 * share);
    let time = |seconds: f64| Time(seconds).to_string();
    vec![
        row.budget.clone(),
        share(row.repeated),
        row.clients.to_string(),
        digits(row.requests_per_second),
        digits(row.tokens_per_second),
        time(row.ttft_p50),
        time(row.ttft_p99),
        time(row.gap_p50),
        time(row.gap_p99),
        share(row.images_known),
        share(row.tokens_known),
    ]
}

/// The image comes first and the text after it, because the text is what differs between two questions about an
/// image.
fn request(args: &BenchArgs, config: &ModelConfig) -> Request {
    let words = (0..args.prompt_tokens).map(|i| {
        let id = (300 + i as u32 % 100) % config.text.vocab as u32;
        if id == config.image_token { id + 1 } else { id }
    });
    let ids: Vec<u32> = std::iter::once(config.image_token).chain(words).collect();
    Request::new(Prompt::Ids(ids)).with_max_new_tokens(args.new_tokens).with_ignore_eos(true)
}

/// The requests of the clients.
struct Load<'a> {
    scheduler: &'a Scheduler,
    variants: &'a Variants,
    request: Request,
    repeated: f64,
    /// Number of the next image that no request has used.
    fresh: &'a AtomicU64,
    interrupt: &'a Interrupt,
}

impl Load<'_> {
    fn measure(&self, clients: usize, requests: usize) -> Result<Row, Stop> {
        // The warm-up computes the images that are repeated later, and the first answers allocate memory.
        let warm = if self.repeated > 0.0 { KNOWN } else { 1 };
        for picture in 0..warm {
            self.ask(picture, &mut Heard::default())?;
        }
        let before = self.scheduler.statistics();
        let next = AtomicUsize::new(0);
        let (all, failed) = (Mutex::new(Heard::default()), Mutex::new(None));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let mut heard = Heard::default();
                    let mut outcome = Ok(());
                    while outcome.is_ok() {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= requests {
                            break;
                        }
                        outcome = self.ask(self.picture(number), &mut heard);
                    }
                    if let Err(stop) = outcome {
                        next.store(requests, Relaxed);
                        failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(stop);
                    }
                    let mut all = all.lock().unwrap_or_else(|e| e.into_inner());
                    all.ttft.append(&mut heard.ttft);
                    all.gaps.append(&mut heard.gaps);
                    all.tokens += heard.tokens;
                });
            }
        });
        let seconds = begun.elapsed().as_secs_f64();
        if let Some(stop) = failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(stop);
        }
        let mut all = all.into_inner().unwrap_or_else(|e| e.into_inner());
        all.ttft.sort_by(f64::total_cmp);
        all.gaps.sort_by(f64::total_cmp);
        let now = self.scheduler.statistics();
        let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
        Ok(Row {
            method: String::new(),
            budget: String::new(),
            clients,
            repeated: self.repeated,
            requests,
            seconds,
            requests_per_second: requests as f64 / seconds,
            tokens_per_second: all.tokens as f64 / seconds,
            ttft_p50: percentile(&all.ttft, 0.5),
            ttft_p99: percentile(&all.ttft, 0.99),
            gap_p50: percentile(&all.gaps, 0.5),
            gap_p99: percentile(&all.gaps, 0.99),
            images_known: share(now.images_known - before.images_known, now.images - before.images),
            tokens_known: share(now.rows_known - before.rows_known, now.rows - before.rows),
        })
    }

    /// The image of a request: the repeated images are spread evenly over the requests.
    fn picture(&self, number: usize) -> u64 {
        let until = |number: usize| (number as f64 * self.repeated).floor() as u64;
        match until(number + 1) > until(number) {
            true => until(number) % KNOWN,
            false => self.fresh.fetch_add(1, Relaxed),
        }
    }

    fn ask(&self, picture: u64, heard: &mut Heard) -> Result<(), Stop> {
        let request = self.request.clone().with_image(self.variants.at(picture));
        let came = Instant::now();
        let (sender, updates) = channel();
        let submitted = self
            .scheduler
            .submit(request, move |update| drop(sender.send((Instant::now(), update))));
        let ticket = submitted.map_err(|refusal| Stop::Failed(refusal.to_string()))?;
        let mut last = None;
        loop {
            match updates.recv_timeout(TICK) {
                Ok((now, Update::Token { .. })) => {
                    heard.tokens += 1;
                    match last.replace(now) {
                        None => heard.ttft.push((now - came).as_secs_f64()),
                        Some(last) => heard.gaps.push((now - last).as_secs_f64()),
                    }
                }
                Ok((_, Update::Finished { .. })) => return Ok(()),
                Ok((_, Update::Failed(Error::Cancelled))) => return Err(Stop::Interrupted),
                Ok((_, Update::Failed(error))) => return Err(error.into()),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Interrupted),
            }
            if self.interrupt.raised() {
                drop(ticket);
                return Err(Stop::Interrupted);
            }
        }
    }
}

/// The smallest of sorted numbers that the given share of them does not exceed; 0 if there are none.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numbers_that_were_measured() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| percentile(&hundred, share)), [50.0, 99.0, 100.0]);
        assert_eq!((percentile(&[7.0], 0.5), percentile(&[], 0.5)), (7.0, 0.0));
    }
}
