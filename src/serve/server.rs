//! State that all requests share.

use super::Settings;
use super::error::ApiError;
use super::fetch::Fetch;
use super::metrics::Metrics;
use hired::config::ModelConfig;
use hired::{Engine, Scheduler, SchedulerOptions};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use subtle::{Choice, ConstantTimeEq};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The phases of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The model is being loaded.
    Loading,
    Ready,
    /// Asked to end; still accepts requests.
    Leaving,
    /// Finishes running requests and accepts no new ones.
    Draining,
    /// The engine has failed.
    Broken,
}

const PHASES: [Phase; 5] =
    [Phase::Loading, Phase::Ready, Phase::Leaving, Phase::Draining, Phase::Broken];

#[derive(Debug)]
pub struct Server {
    pub settings: Settings,
    pub metrics: Arc<Metrics>,
    /// Number of unfinished requests.
    pub alive: Arc<AtomicUsize>,
    /// Memory of request bodies, in KiB.
    bodies: Arc<Semaphore>,
    /// Bodies that are being parsed, which takes CPU time.
    reading: Semaphore,
    pub fetch: Option<Fetch>,
    phase: AtomicU8,
    engine: OnceLock<Loaded>,
    pub device: Device,
    keys: Vec<[u8; 32]>,
}

/// The model, once it is loaded.
#[derive(Debug)]
pub struct Loaded {
    pub scheduler: Scheduler,
    pub config: ModelConfig,
    /// Answers have the same bits as long as this is the same: build, device, formats.
    pub fingerprint: String,
}

/// The state of the device. A single call may fail, but several failures in a row mean that the device is lost.
#[derive(Debug, Default)]
pub struct Device(Mutex<(usize, Option<Instant>)>);

/// Number of consecutive failures, each of a request that started after the one before failed, after which the device
/// counts as lost.
const FAILURES: usize = 3;

impl Device {
    /// Records an answer.
    pub fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (0, None);
    }

    /// Records that a request, which started at `came`, failed on the device; returns true if the device is lost.
    /// Requests that ran at the same time fail together, which counts once.
    pub fn failed(&self, came: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (failures, last) = &mut *state;
        if last.is_none_or(|last| came > last) {
            (*failures, *last) = (*failures + 1, Some(Instant::now()));
        }
        *failures >= FAILURES
    }
}

/// Number of bodies that are parsed at the same time.
const READERS: usize = 2;
/// Number of bodies of the largest size that may be in memory at the same time.
const BODIES: usize = 8;

impl Server {
    pub fn new(settings: Settings) -> Result<Self, String> {
        let metrics = Metrics::new().map_err(|error| format!("metrics: {error}"))?;
        let fetch = settings.fetch.map(|terms| Fetch::new(terms, settings.max_body)).transpose()?;
        let keys = settings.keys.iter().map(|key| hash(key.as_bytes())).collect();
        Ok(Self {
            metrics: Arc::new(metrics),
            alive: Arc::default(),
            bodies: Arc::new(Semaphore::new(BODIES * settings.kib())),
            reading: Semaphore::new(READERS),
            fetch,
            phase: AtomicU8::new(Phase::Loading as u8),
            engine: OnceLock::new(),
            device: Device::default(),
            keys,
            settings,
        })
    }

    /// Starts answering with a loaded engine.
    pub fn take(&self, engine: Engine) {
        let config = engine.config().clone();
        let device = engine.card().map_or("cpu".into(), |card| format!("{card:?}"));
        // With a cache, prompts are computed in parts, which can change the last bits.
        let parts = if self.settings.cache_memory > 0 { " parts" } else { "" };
        let formats = &self.settings.formats;
        let build = format!("{} {device} {formats}{parts}", env!("CARGO_PKG_VERSION"));
        let digits = hash(build.as_bytes()).into_iter().take(6).map(|byte| format!("{byte:02x}"));
        let fingerprint = format!("hired_{}", digits.collect::<String>());
        let options = SchedulerOptions::default()
            .with_max_waiting(self.settings.max_waiting)
            .with_max_stall(self.settings.max_stall)
            .with_cache_memory(self.settings.cache_memory);
        let scheduler = Scheduler::start(engine, options);
        let _ = self.engine.set(Loaded { scheduler, config, fingerprint });
        self.go(Phase::Ready);
    }

    pub fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Relaxed))]
    }

    /// Moves to a later phase.
    pub fn go(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Relaxed);
    }

    pub fn loaded(&self) -> Option<&Loaded> {
        self.engine.get()
    }

    /// The engine, if it accepts work.
    pub fn working(&self) -> Result<&Loaded, ApiError> {
        match (self.phase(), self.loaded()) {
            (Phase::Ready | Phase::Leaving, Some(loaded)) => Ok(loaded),
            (Phase::Broken, _) => Err(ApiError::unavailable(
                "the engine has failed: start the server again",
                "device_failed",
                30,
            )),
            (Phase::Draining, _) => {
                Err(ApiError::unavailable("the server is stopping", "stopping", 5))
            }
            _ => Err(ApiError::unavailable("the model is being loaded", "loading", 10)),
        }
    }

    /// Returns an error if new requests should not be sent here.
    pub fn is_ready(&self) -> Result<(), ApiError> {
        let loaded = self.working()?;
        if self.phase() == Phase::Leaving {
            return Err(ApiError::unavailable("the server is stopping", "stopping", 5));
        }
        let waiting = loaded.scheduler.statistics().waiting;
        if waiting >= self.settings.max_waiting {
            let message = "the queue is full";
            return Err(ApiError::unavailable(message, "queue_full", self.retry_after(waiting)));
        }
        Ok(())
    }

    /// Seconds until some of the waiting requests will have been answered.
    pub fn retry_after(&self, waiting: usize) -> u64 {
        let together = SchedulerOptions::default().max_running as f64;
        let seconds = self.metrics.mean_seconds().unwrap_or(1.0) * waiting as f64 / together;
        (seconds.ceil() as u64).clamp(1, 120)
    }

    /// Reserves memory for a body of that many bytes, until the answer is complete.
    pub fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let kib = u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX);
        self.bodies.clone().try_acquire_many_owned(kib).map_err(|_| {
            let message = "the bodies of other requests use all memory reserved for bodies";
            ApiError::busy(message, self.retry_after(1))
        })
    }

    /// Waits for permission to parse a body.
    pub async fn reader(&self) -> Option<SemaphorePermit<'_>> {
        self.reading.acquire().await.ok()
    }

    /// Checks a client's API key; `given` is its `Authorization` header.
    pub fn admits(&self, given: Option<&[u8]>) -> Result<(), ApiError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let key = given.and_then(|given| {
            let (scheme, key) = given.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
        });
        let Some(key) = key else {
            return Err(ApiError::key(
                "an API key is needed: send the header Authorization: Bearer KEY",
            ));
        };
        // All keys are compared, each in constant time.
        let hash = hash(key);
        let known = self.keys.iter().map(|known| known.ct_eq(&hash));
        match bool::from(known.fold(Choice::from(0), |found, one| found | one)) {
            true => Ok(()),
            false => Err(ApiError::key("this API key is not valid")),
        }
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_lost_when_one_request_after_the_other_fails() {
        let device = Device::default();
        let came = Instant::now();
        assert!((0..9).all(|_| !device.failed(came)), "all from one step");
        let next = || Instant::now() + std::time::Duration::from_nanos(1);
        assert!(!device.failed(next()));
        device.answered();
        assert!(!device.failed(next()) && !device.failed(next()) && device.failed(next()));
    }
}
