//! A scheduler that lets many clients share one engine.

mod queue;
mod statistics;
mod ticket;
mod update;
mod worker;

pub use statistics::Statistics;
pub use ticket::Ticket;
pub use update::{SubmitError, Update};

use super::admission::Gate;
use super::request::Request;
use super::{CardInfo, Engine};
use crate::Error;
use crate::config::ModelConfig;
use crate::setters::setters;
use queue::{Phase, Queue, Waiting};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// Options of a [`Scheduler`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SchedulerOptions {
    /// The most requests that may wait in the queue; further ones are refused with [`SubmitError::Full`].
    pub max_waiting: usize,
    /// The most requests that are answered at the same time. A decode step of up to 8 costs little more than one of a
    /// single request.
    pub max_running: usize,
    /// The most rows of prompts and images that may be computed between two tokens of a running answer. It bounds how
    /// long an answer stalls when others arrive. `None`: prompts are computed as a whole, which gives the highest
    /// throughput. Selections whose number of kept rows is only known during the computation (rules `paper` and
    /// `repo`, PruMerge) are not interrupted.
    pub max_stall: Option<usize>,
    /// Bytes for cached image features, so that an image that comes again is not encoded again, and as many bytes of
    /// key/value cache pages for cached prompt prefixes, so that a prompt that begins like an earlier one is only
    /// computed from there on. Such pages are freed before a request has to wait for them, the least recently used
    /// first.
    ///
    /// An answer is the same whether something was found in the cache or not. But any value other than 0 makes
    /// prompts be computed in parts, so the last bits of the logits may differ from those of an [`Engine`].
    pub cache_memory: usize,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            max_waiting: 64,
            max_running: crate::ops::DECODE_ROWS,
            max_stall: Some(128),
            cache_memory: 0,
        }
    }
}

setters! {
    SchedulerOptions {
        with_max_waiting(max_waiting: usize);
        with_max_running(max_running: usize);
        with_max_stall(max_stall: impl Into<Option<usize>>);
        with_cache_memory(cache_memory: usize);
    }
}

/// A running engine that many clients share: a handle that can be cloned and sent to other threads.
///
/// The engine runs on its own thread. Requests wait in a bounded queue and start in the order of arrival as soon as
/// the cache has pages for their longest possible answer; a few later requests may overtake one that does not fit
/// yet. All running requests get their next token in the same decode step, and each answer equals the one the request
/// would get alone. When the last handle is dropped, all requests are cancelled and the thread ends.
///
/// ```no_run
/// use hired::{Engine, EngineOptions, Request, Scheduler, SchedulerOptions, SubmitError, Update};
/// use std::sync::mpsc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::load("llava-v1.6-vicuna-7b-hf", EngineOptions::default())?;
/// let scheduler = Scheduler::start(engine, SchedulerOptions::default().with_max_waiting(16));
///
/// let (sender, updates) = mpsc::channel();
/// let request = Request::new("What is a llama?");
/// // The callback runs on the engine's thread: it must be quick, so it forwards the updates.
/// let ticket = match scheduler.submit(request, move |update| drop(sender.send(update))) {
///     Ok(ticket) => ticket,
///     Err(SubmitError::Full { waiting, .. }) => return Err(format!("{waiting} requests wait").into()),
///     Err(error) => return Err(error.into()),
/// };
/// for update in updates {
///     match update {
///         Update::Token { text, .. } => print!("{text}"),
///         Update::Finished { text, answer, .. } => println!("{text}\n{:?}", answer.finish_reason),
///         Update::Failed(error) => eprintln!("{error}"),
///         _ => {}
///     }
/// }
/// // Dropping the ticket of a request that has not ended cancels it; `ticket.detach()` lets it continue.
/// drop(ticket);
/// scheduler.drain();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Scheduler(Arc<Running>);

/// The engine's thread and the state that it shares with the handles.
struct Running {
    queue: Arc<Queue>,
    /// The error that every request gets if the engine could not be set up.
    gate: Result<Gate, Error>,
    config: ModelConfig,
    card: Option<CardInfo>,
    notes: Vec<String>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Starts a thread that owns the engine.
    ///
    /// # Panics
    /// If the system cannot start a thread.
    pub fn start(engine: Engine, options: SchedulerOptions) -> Self {
        let mut engine = engine;
        let gate = engine.session.gate(options.max_running.max(1), options.cache_memory);
        let config = engine.config().clone();
        let (card, notes) = (engine.card.clone(), engine.notes.clone());
        let queue = Arc::new(Queue::new(options));
        let worker = queue.clone();
        let thread = thread::Builder::new()
            .name("hired-engine".into())
            .spawn(move || worker::run(engine, &worker))
            .expect("a thread for the engine");
        let thread = Mutex::new(Some(thread));
        Self(Arc::new(Running { queue, gate, config, card, notes, thread }))
    }

    /// Queues a request. `on_update` is called on the engine's thread, which waits for it, with everything that
    /// happens to the request.
    ///
    /// The request is checked and prepared on the caller's thread before it is queued: the image is decoded, the
    /// prompt rendered and the selection planned. A request that can never be answered fails here.
    /// # Errors
    /// [`SubmitError::Full`] if the queue is full, [`SubmitError::Stopping`] after [`Scheduler::drain`] or
    /// [`Scheduler::stop`], and [`SubmitError::Refused`] with the reason if the request can never be answered.
    pub fn submit(
        &self,
        request: Request,
        on_update: impl FnMut(Update) + Send + 'static,
    ) -> Result<Ticket, SubmitError> {
        let came = Instant::now();
        let Running { queue, gate, .. } = &*self.0;
        // Checked before any work, because decoding an image takes a while.
        queue.check()?;
        let prepared = gate.as_ref().map_err(Error::again).and_then(|gate| gate.prepare(&request));
        let (prepared, forecast) = match prepared {
            Ok(both) => both,
            Err(error) => {
                queue.count(|statistics| statistics.refused += 1);
                return Err(SubmitError::Refused(error));
            }
        };
        let ticket = Ticket::new(queue);
        let cancelled = ticket.flag();
        let on_update = Box::new(on_update);
        queue.push(Waiting { prepared, forecast, came, cancelled, on_update, overtaken: 0 })?;
        Ok(ticket)
    }

    /// Counters and current state.
    pub fn statistics(&self) -> Statistics {
        self.0.queue.statistics()
    }

    /// The CUDA device in use; `None` on the CPU.
    pub fn card(&self) -> Option<&CardInfo> {
        self.0.card.as_ref()
    }

    /// Notes for the user, see [`Engine::notes`].
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// The model's configuration.
    #[doc(hidden)]
    pub fn config(&self) -> &ModelConfig {
        &self.0.config
    }

    /// Refuses new requests and returns when all accepted ones have ended.
    pub fn drain(&self) {
        self.0.queue.close(Phase::Draining);
        self.0.join();
    }

    /// Refuses new requests, cancels all accepted ones, and returns when they have ended.
    pub fn stop(&self) {
        self.0.queue.close(Phase::Stopping);
        self.0.join();
    }
}

impl Running {
    /// Waits for the engine's thread to end, unless called on it.
    fn join(&self) {
        self.queue.wait_for_end(|| {
            let thread = self.thread.lock().unwrap_or_else(|broken| broken.into_inner());
            thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
        });
        let mut place = self.thread.lock().unwrap_or_else(|broken| broken.into_inner());
        if place.as_ref().is_some_and(|thread| thread.thread().id() != thread::current().id())
            && let Some(thread) = place.take()
        {
            // A panic of the thread has been reported to every request.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.queue.close(Phase::Stopping);
        self.join();
    }
}
