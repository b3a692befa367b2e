//! The thread that owns the engine.

use super::queue::{Job, Phase, Queue};
use super::update::Update;
use crate::Error;
use crate::engine::Engine;
use crate::engine::answer::{Event, FinishReason};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Answers requests until no more come.
pub fn run(mut engine: Engine, queue: &Queue) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        while let Some(job) = queue.pop() {
            answer(&mut engine, queue, job);
        }
    }));
    queue.close(Phase::Stopping);
    // Before the end is told: what waits for it may want the device.
    drop(engine);
    let broken = || {
        Error::Device(
            "the engine's thread has failed, which is a defect: start it again, and please report it".into(),
        )
    };
    queue.end(if outcome.is_ok() { || Error::Cancelled } else { broken });
}

fn answer(engine: &mut Engine, queue: &Queue, job: Job) {
    let Job { prepared, came, cancelled, mut on_update } = job;
    let mut rest = String::new();
    let mut hear = |update| on_update(update);
    hear(Update::Started);
    let outcome = engine.session.answer(prepared, came, &mut |event| {
        queue.sweep();
        match event {
            Event::Progress { stage, done, all, .. } => hear(Update::Progress { stage, done, all }),
            Event::Token { id, text, .. } => {
                queue.count(|statistics| statistics.new_tokens += 1);
                hear(Update::Token { id, text: text.into() });
            }
            Event::Finished { text, .. } => rest = text.into(),
        }
        let stop = cancelled.load(std::sync::atomic::Ordering::Relaxed) || queue.is_stopping();
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let (free, all) = engine.session.pages();
    queue.count(|statistics| {
        statistics.running -= 1;
        (statistics.pages_free, statistics.pages) = (free, all);
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
    hear(match outcome {
        Ok(answer) => Update::Finished { text: rest, answer: Box::new(answer) },
        Err(error) => Update::Failed(error),
    });
}
