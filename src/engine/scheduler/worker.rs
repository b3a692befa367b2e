//! The thread that owns the engine.

use super::queue::{Queue, Waiting};
use super::update::Update;
use crate::engine::Engine;
use crate::engine::admission::Forecast;
use crate::engine::answer::{Answer, Event, FinishReason};
use crate::engine::cache::Reused;
use crate::engine::serving::{Desk, Job, Next};
use crate::kv::Count;
use crate::{Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Answers requests until no more come.
pub fn run(mut engine: Engine, queue: &Queue) {
    let mut desk = Counter { queue, running: HashMap::new(), begun: 0 };
    let outcome = catch_unwind(AssertUnwindSafe(|| engine.session.answer(&mut desk)));
    queue.close_now();
    // Dropped before the end is reported, because a waiting client may want to use the device next.
    drop(engine);
    let why = match outcome {
        Ok(Ok(())) => Error::Cancelled,
        Ok(Err(error)) => error,
        Err(_) => Error::Device(
            "the engine's thread has failed, which is a defect: start it again and please report this".into(),
        ),
    };
    for (_, mut running) in desk.running {
        // The callback of a request may be what panicked.
        let failed = Update::Failed(why.again());
        let _ = catch_unwind(AssertUnwindSafe(|| (running.on_update)(failed)));
        queue.count(|statistics| statistics.failed += 1);
    }
    queue.end(|| why.again());
}

/// Connects the queue with the engine.
struct Counter<'q> {
    queue: &'q Queue,
    running: HashMap<usize, Running>,
    begun: usize,
}

/// A running request.
struct Running {
    cancelled: Arc<AtomicBool>,
    on_update: Box<dyn FnMut(Update) + Send>,
    /// Text that was held back until the end of the answer.
    rest: String,
}

impl Desk<'static> for Counter<'_> {
    fn next(&mut self, live: usize, fits: &dyn Fn(&Forecast) -> bool) -> Result<Next<'static>> {
        let Some(waiting) = self.queue.take(live, fits) else {
            return Ok(if live == 0 { Next::Over } else { Next::Nothing });
        };
        let Waiting { prepared, forecast, came, cancelled, mut on_update, .. } = waiting;
        on_update(Update::Started);
        let number = self.begun;
        self.begun += 1;
        self.running.insert(number, Running { cancelled, on_update, rest: String::new() });
        Ok(Next::Begin(Box::new(Job {
            number,
            prepared: Cow::Owned(prepared),
            start: came,
            forecast: Some(forecast),
        })))
    }

    fn hear(&mut self, event: Event<'_>) -> ControlFlow<()> {
        self.queue.sweep();
        let (number, update) = match event {
            Event::Progress { request, stage, done, all } => {
                (request, Some(Update::Progress { stage, done, all }))
            }
            Event::Token { request, id, text } => {
                self.queue.count(|statistics| statistics.new_tokens += 1);
                (request, Some(Update::Token { id, text: text.into() }))
            }
            Event::Finished { request, text, .. } => {
                if let Some(running) = self.running.get_mut(&request) {
                    running.rest = text.into();
                }
                (request, None)
            }
        };
        if let Some((running, update)) = self.running.get_mut(&number).zip(update) {
            (running.on_update)(update);
        }
        match self.is_stopped(number) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn is_stopped(&self, number: usize) -> bool {
        let cancelled = |running: &Running| running.cancelled.load(Ordering::Relaxed);
        self.running.get(&number).is_some_and(cancelled) || self.queue.is_stopping()
    }

    fn ended(&mut self, number: usize, outcome: Result<Answer>) -> Result<()> {
        self.queue.count(|statistics| {
            statistics.running -= 1;
            match &outcome {
                Ok(answer) => {
                    statistics.prompt_tokens += answer.prompt_tokens as u64;
                    match answer.finish_reason {
                        FinishReason::Cancelled => statistics.cancelled += 1,
                        _ => statistics.finished += 1,
                    }
                }
                Err(Error::Cancelled) => statistics.cancelled += 1,
                Err(_) => statistics.failed += 1,
            }
        });
        if let Some(Running { mut on_update, rest, .. }) = self.running.remove(&number) {
            on_update(match outcome {
                Ok(answer) => Update::Finished { text: rest, answer: Box::new(answer) },
                Err(error) => Update::Failed(error),
            });
        }
        Ok(())
    }

    fn stall(&self) -> Option<usize> {
        self.queue.options.max_stall
    }

    fn pages(&mut self, now: Count) {
        self.queue.count(|statistics| {
            statistics.pages_free = now.free;
            statistics.pages_kept = now.kept;
            statistics.pages = now.all;
        });
    }

    fn reused(&mut self, found: Reused) {
        self.queue.count(|statistics| {
            statistics.image_bytes = found.bytes;
            if found.looked {
                statistics.images += found.images as u64;
                statistics.images_known += found.known_images as u64;
                statistics.rows += found.all_rows as u64;
                statistics.rows_known += found.rows as u64;
            }
        });
    }
}
