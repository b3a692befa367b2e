//! The access log: one line per request, written when it is over, however it ended.

use super::metrics::Metrics;
use hired::{Answer, Visual};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The log entry of a request in progress. Everything that works on the request holds a clone; dropping the last one
/// writes the line.
#[derive(Debug)]
pub struct Access {
    pub id: String,
    pub came: Instant,
    method: String,
    path: String,
    metrics: Arc<Metrics>,
    alive: Arc<AtomicUsize>,
    told: Mutex<Told>,
}

/// The content of the entry.
#[derive(Debug, Default)]
struct Told {
    status: Option<u16>,
    /// The reason why a response ended early.
    broken: Option<String>,
    /// True while an answer is due and its client is still connected.
    open: bool,
    stream: bool,
    queued: f64,
    prompt: usize,
    image: [usize; 2],
    new: usize,
    ttft: Option<f64>,
    reason: &'static str,
    /// The prompt, if prompts are logged.
    words: Option<String>,
}

impl Access {
    pub fn new(
        id: String,
        method: String,
        path: String,
        metrics: Arc<Metrics>,
        alive: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        alive.fetch_add(1, Relaxed);
        let told = Mutex::default();
        Arc::new(Self { id, came: Instant::now(), method, path, metrics, alive, told })
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn status(&self, status: u16) {
        self.metrics.response(status);
        self.tell(|told| told.status = Some(status));
    }

    /// Records that the engine has accepted the request.
    pub fn opened(&self, stream: bool, words: Option<String>) {
        self.tell(|told| (told.open, told.stream, told.words) = (true, stream, words));
    }

    pub fn started(&self, queued: f64) {
        self.metrics.queued(queued);
        self.tell(|told| told.queued = queued);
    }

    pub fn answered(&self, answer: &Answer, reason: &'static str) {
        self.metrics.answered(answer, reason, self.came.elapsed().as_secs_f64());
        self.tell(|told| {
            told.open = false;
            told.prompt = answer.prompt_tokens;
            let visuals = &answer.visuals;
            let kept = visuals.iter().map(Visual::tokens).sum();
            told.image = [kept, visuals.iter().map(|visual| visual.valid).sum()];
            told.new = answer.token_ids.len();
            told.ttft = Some(answer.timings.ttft);
            told.reason = reason;
        });
    }

    /// Records that there will be no answer, or that it is incomplete.
    pub fn failed(&self, why: &str) {
        self.tell(|told| (told.open, told.broken) = (false, Some(why.into())));
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        let seconds = self.came.elapsed().as_secs_f64();
        let left = told.open || told.status.is_none();
        if left {
            self.metrics.rejected("client_left");
        }
        let outcome = match (&told.broken, left) {
            (Some(why), _) => why.as_str(),
            (None, true) => "the client disconnected",
            (None, false) => told.reason,
        };
        let Self { id, method, path, .. } = self;
        // Servers log status 499 for clients that disconnected.
        let status = told.status.unwrap_or(499);
        let [kept, valid] = told.image;
        if path.starts_with("/v1/") && method == "POST" {
            tracing::info!(
                id,
                method,
                path,
                status,
                outcome,
                stream = told.stream,
                prompt = told.prompt,
                kept,
                valid,
                tokens = told.new,
                queued = milli(told.queued),
                ttft = milli(told.ttft.unwrap_or(0.0)),
                seconds = milli(seconds),
                words = told.words,
                "request"
            );
        } else {
            // Probes and scrapes are frequent, so they are only logged at debug level.
            tracing::debug!(id, method, path, status, outcome, seconds = milli(seconds), "request");
        }
        self.alive.fetch_sub(1, Relaxed);
    }
}

/// Seconds, rounded to milliseconds.
fn milli(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}
