//! An engine that many clients use at once.

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

/// How a [`Scheduler`] works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SchedulerOptions {
    /// Requests that may wait for their turn; one more is refused with [`SubmitError::Full`].
    pub max_waiting: usize,
    /// Requests that are answered at the same time. Up to 8 are decoded for little more than the cost of one.
    pub max_running: usize,
    /// Rows of prompts and images that may be computed between two tokens of an answer that has begun: how long it
    /// stalls when others come. `None`: prompts are computed as a whole, which answers most in the long run. What keeps a
    /// number of rows that only shows on the way (the rules `paper` and `repo`, PruMerge) is not interrupted.
    pub max_stall: Option<usize>,
    /// Bytes of the rows of images that are kept, so that an image that comes again is not encoded again, and bytes of
    /// pages of the key/value cache that are kept, so that a prompt that begins as an earlier one is computed from there
    /// on. Pages are given back before a request has to wait for them. The least recently used go first.
    ///
    /// An answer is the same whether anything was found or not. But with anything but 0 prompts are computed in parts,
    /// which end with their images: an answer may then differ in the last bits of its logits from that of an [`Engine`].
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

/// A running engine that many clients use at once: a handle that may be cloned and shared between threads.
///
/// The engine has a thread of its own. Requests wait in a queue of bounded length and are begun in the order in which
/// they came, as soon as the cache has pages for the longest answer that they may get; a few later ones may overtake one
/// that does not fit yet. All that have begun get their next token together, and each gets the tokens that it would get
/// alone. When the last handle is dropped, what is under way is cancelled and the thread ends.
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
/// // The callback runs on the engine's thread: it must be quick, and hand on what it hears.
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
/// // Dropping the ticket of a request that has not ended cancels it; `ticket.detach()` lets it go on.
/// drop(ticket);
/// scheduler.drain();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Scheduler(Arc<Running>);

/// The thread and what it shares with the handles.
struct Running {
    queue: Arc<Queue>,
    /// Why none may pass, where that is known already.
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
    /// When the system cannot start a thread.
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

    /// Puts a request into the queue. `on_update` hears what becomes of it, on the engine's thread, which waits for it
    /// meanwhile.
    ///
    /// The request is checked and prepared before, on the caller's thread: the image decoded, the prompt rendered, the
    /// selection planned. What can never be answered fails here.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when as many requests wait as may, [`SubmitError::Stopping`] after [`Scheduler::drain`] or
    /// [`Scheduler::stop`], [`SubmitError::Refused`] with the reason.
    pub fn submit(
        &self,
        request: Request,
        on_update: impl FnMut(Update) + Send + 'static,
    ) -> Result<Ticket, SubmitError> {
        let came = Instant::now();
        let Running { queue, gate, .. } = &*self.0;
        // Before any work: an image takes a while to decode.
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

    /// What has happened so far and what there is now.
    pub fn statistics(&self) -> Statistics {
        self.0.queue.statistics()
    }

    /// The CUDA device that computes; `None`: the CPU does.
    pub fn card(&self) -> Option<&CardInfo> {
        self.0.card.as_ref()
    }

    /// What the engine's user should hear, see [`Engine::notes`].
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// The model's configuration.
    #[doc(hidden)]
    pub fn config(&self) -> &ModelConfig {
        &self.0.config
    }

    /// Takes no new requests, and returns when those accepted have ended.
    pub fn drain(&self) {
        self.0.queue.close(Phase::Draining);
        self.0.join();
    }

    /// Takes no new requests, cancels all there are, and returns when they have ended.
    pub fn stop(&self) {
        self.0.queue.close(Phase::Stopping);
        self.0.join();
    }
}

impl Running {
    /// Waits until the thread has ended, unless it is this one.
    fn join(&self) {
        self.queue.wait_for_end(|| {
            let thread = self.thread.lock().unwrap_or_else(|broken| broken.into_inner());
            thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
        });
        let mut place = self.thread.lock().unwrap_or_else(|broken| broken.into_inner());
        if place.as_ref().is_some_and(|thread| thread.thread().id() != thread::current().id())
            && let Some(thread) = place.take()
        {
            // A panic there has been told to every request.
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
