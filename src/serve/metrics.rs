//! Metrics for Prometheus.

use hired::{Answer, Statistics};
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use std::sync::{Mutex, PoisonError};

/// Histogram buckets in seconds, from a small model to a large one on a CPU.
const SECONDS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0];

/// The server's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    responses: IntCounterVec,
    rejected: IntCounterVec,
    finished: IntCounterVec,
    prompt_tokens: IntCounter,
    new_tokens: IntCounter,
    visual_tokens: IntCounterVec,
    unknown_fields: IntCounter,
    first_token: Histogram,
    gap: Histogram,
    whole: Histogram,
    queue: Histogram,
    vision: Histogram,
    prefill: Histogram,
    connections: IntGauge,
    /// Locked while the gauges are updated.
    engine: Mutex<EngineGauges>,
}

/// Gauges that are read from the engine on each scrape. Routers and autoscalers know the first three by vLLM's names,
/// so they are exported under both names.
#[derive(Debug)]
struct EngineGauges {
    running: [IntGauge; 2],
    waiting: [IntGauge; 2],
    cache_use: [Gauge; 2],
    pages: IntGauge,
    pages_free: IntGauge,
    pages_kept: IntGauge,
    image_bytes: IntGauge,
    /// Cache queries and hits: images, and prompt tokens.
    images: [IntCounter; 2],
    tokens: [IntCounter; 2],
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, label: &str| {
            let made = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let share = |name: &str, help: &str| {
            let made = Gauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let made = Histogram::with_opts(options)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let build = Opts::new("hired_build_info", "The server's version")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        registry.register(Box::new(build))?;
        let (running, waiting) = ("Requests that are being answered", "Requests that are waiting");
        let cache_use = "Share of the pages of the key/value cache that is in use, 0 to 1";
        let engine = EngineGauges {
            running: [
                gauge("hired_requests_running", running)?,
                gauge("vllm:num_requests_running", running)?,
            ],
            waiting: [
                gauge("hired_requests_waiting", waiting)?,
                gauge("vllm:num_requests_waiting", waiting)?,
            ],
            cache_use: [
                share("hired_kv_cache_use", cache_use)?,
                share("vllm:kv_cache_usage_perc", cache_use)?,
            ],
            pages: gauge("hired_kv_pages", "Pages of the key/value cache")?,
            pages_free: gauge("hired_kv_pages_free", "Pages of the key/value cache that are free")?,
            pages_kept: gauge(
                "hired_kv_pages_kept",
                "Free pages that hold cached prompt prefixes until they are needed",
            )?,
            image_bytes: gauge("hired_image_cache_bytes", "Bytes of cached image features")?,
            images: [
                counter("hired_image_cache_queries_total", "Images looked up in the cache")?,
                counter("hired_image_cache_hits_total", "Images found in the cache")?,
            ],
            tokens: [
                counter(
                    "hired_prefix_cache_queries_total",
                    "Prompt tokens looked up in the cache",
                )?,
                counter("hired_prefix_cache_hits_total", "Prompt tokens found in the cache")?,
            ],
        };
        Ok(Self {
            responses: counters("hired_http_responses_total", "Responses by status", "status")?,
            rejected: counters(
                "hired_rejected_total",
                "Requests that were refused or failed, by reason",
                "reason",
            )?,
            finished: counters(
                "hired_request_success_total",
                "Answers by finish reason",
                "finished_reason",
            )?,
            prompt_tokens: counter("hired_prompt_tokens_total", "Tokens of answered prompts")?,
            new_tokens: counter("hired_generation_tokens_total", "Tokens of answers")?,
            visual_tokens: counters(
                "hired_visual_tokens_total",
                "Image tokens of answered prompts: valid ones, and those kept",
                "which",
            )?,
            unknown_fields: counter("hired_unknown_fields_total", "Body fields that were ignored")?,
            first_token: histogram("hired_time_to_first_token_seconds", "Request to first token")?,
            gap: histogram("hired_inter_token_latency_seconds", "From one token to the next")?,
            whole: histogram("hired_e2e_request_latency_seconds", "Request to last token")?,
            queue: histogram("hired_request_queue_time_seconds", "Time in the queue")?,
            vision: histogram("hired_request_vision_time_seconds", "Vision tower")?,
            prefill: histogram("hired_request_prefill_time_seconds", "Prefill of the decoder")?,
            connections: gauge("hired_connections", "Open connections")?,
            engine: Mutex::new(engine),
            registry,
        })
    }

    pub fn response(&self, status: u16) {
        self.responses.with_label_values(&[&status.to_string()]).inc();
    }

    pub fn rejected(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    pub fn unknown_fields(&self, count: usize) {
        self.unknown_fields.inc_by(count as u64);
    }

    pub fn connections(&self, change: i64) {
        self.connections.add(change);
    }

    pub fn queued(&self, seconds: f64) {
        self.queue.observe(seconds);
    }

    pub fn gap(&self, seconds: f64) {
        self.gap.observe(seconds);
    }

    /// Records a complete answer.
    pub fn answered(&self, answer: &Answer, reason: &str, seconds: f64) {
        self.finished.with_label_values(&[reason]).inc();
        self.prompt_tokens.inc_by(answer.prompt_tokens as u64);
        self.new_tokens.inc_by(answer.token_ids.len() as u64);
        self.first_token.observe(answer.timings.ttft);
        self.prefill.observe(answer.timings.prefill);
        self.whole.observe(seconds);
        if !answer.visuals.is_empty() {
            self.vision.observe(answer.timings.vision);
        }
        for visual in &answer.visuals {
            self.visual_tokens.with_label_values(&["valid"]).inc_by(visual.valid as u64);
            let kept = visual.kept + visual.merged;
            self.visual_tokens.with_label_values(&["kept"]).inc_by(kept as u64);
        }
    }

    /// Mean seconds per answer without waiting; `None` before the first answer.
    pub fn mean_seconds(&self) -> Option<f64> {
        let (count, sum) = (self.whole.get_sample_count(), self.whole.get_sample_sum());
        let queued = self.queue.get_sample_sum();
        (count > 0).then(|| (sum - queued).max(0.0) / count as f64)
    }

    /// The metrics in text format, with the engine's current statistics.
    pub fn text(&self, statistics: Option<Statistics>) -> Result<String, prometheus::Error> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(now) = statistics {
            engine.running.iter().for_each(|gauge| gauge.set(now.running as i64));
            engine.waiting.iter().for_each(|gauge| gauge.set(now.waiting as i64));
            let used = now.pages.saturating_sub(now.pages_free) as f64;
            let share = if now.pages == 0 { 0.0 } else { used / now.pages as f64 };
            engine.cache_use.iter().for_each(|gauge| gauge.set(share));
            engine.pages.set(now.pages as i64);
            engine.pages_free.set(now.pages_free as i64);
            engine.pages_kept.set(now.pages_kept as i64);
            engine.image_bytes.set(now.image_bytes as i64);
            let reach = |counter: &IntCounter, now: u64| {
                counter.inc_by(now.saturating_sub(counter.get()));
            };
            reach(&engine.images[0], now.images);
            reach(&engine.images[1], now.images_known);
            reach(&engine.tokens[0], now.rows);
            reach(&engine.tokens[1], now.rows_known);
        }
        drop(engine);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text).unwrap_or_default())
    }

    /// The content type of the text format.
    pub fn content_type() -> &'static str {
        prometheus::TEXT_FORMAT
    }
}
