//! Admission of requests to a scheduler: predicts the memory of each one and decides whether it can start.

use super::cache::{Beginnings, Caches, Found, Pictures, Sight, sights};
use super::company::Company;
use super::origin::Weights;
use super::predict::{Held, Need, Predictor, check_memory};
use super::prepare::{Prepared, Preparer};
use super::request::Request;
use super::runner::room_for;
use super::serving::Job;
use super::session::Session;
use crate::kv::{self, Room, Shape, pages_for};
use crate::ops::memory::{Purpose, Size};
use crate::ops::{DECODE_ROWS, Ops};
use crate::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// The predicted memory of one request.
#[derive(Debug, Clone)]
pub(super) struct Forecast {
    /// Cache pages for its longest possible answer.
    pub room: Room,
    pub workspace: usize,
    /// Its results are kept for later requests, so it is computed in parts.
    pub keeps: bool,
    /// Cache keys of its images; `None` if the request does not use the caches.
    pub sights: Option<Vec<Sight>>,
}

/// Prepares requests on any thread and refuses those that can never be answered.
pub(super) struct Gate {
    preparer: Arc<Preparer>,
    weights: Arc<Weights>,
    predictor: Mutex<Predictor>,
    /// Capacity of the key/value cache in tokens.
    tokens: usize,
    /// The most workspace that a request may take, in addition to that of a decode step.
    workspace: Option<usize>,
    /// Results are kept for later requests.
    keeps: bool,
}

impl Gate {
    /// Prepares a request and predicts its memory.
    ///
    /// # Errors
    /// Those of the preparation; [`Error::Capacity`] with the numbers if the request can never be answered.
    pub fn prepare(&self, request: &Request) -> Result<(Prepared, Forecast)> {
        let prepared = self.preparer.prepare(request)?;
        let room = room_for([std::slice::from_ref(&prepared)].into_iter());
        let wanted = room.pages().max().unwrap_or(0);
        if wanted > pages_for(self.tokens) {
            return Err(Error::Capacity(format!(
                "the request needs a cache of {} tokens, the engine has one of {} for all requests: use a smaller budget, a \
                 shorter prompt or fewer new tokens",
                wanted * kv::PAGE,
                self.tokens
            )));
        }
        // Even if an earlier prediction panicked, the next one starts from a clean state.
        let mut predictor = self.predictor.lock().unwrap_or_else(PoisonError::into_inner);
        for image in &prepared.images {
            predictor.require(image, &*self.weights)?;
        }
        let (config, norm) = (&self.preparer.config, &self.preparer.normalization);
        let batch = std::slice::from_ref(&prepared);
        let need = match self.keeps {
            true => predictor.need_with(config, norm, &prepared, &room, &Found::default())?,
            false => predictor.need(config, norm, batch, &room, Held::default())?,
        };
        drop(predictor);
        if let Some(most) = self.workspace.filter(|&most| need.workspace > most) {
            return Err(Error::Capacity(format!(
                "the request needs {} of workspace, {} are left next to weights and cache: use a smaller budget or a \
                 shorter prompt",
                Size(need.workspace as u64),
                Size(most as u64)
            )));
        }
        // Intermediate results must come from a full computation, and the cache keys do not cover lazy tiles.
        let is_lazy = prepared.images.iter().any(|image| image.plan.lazy.is_some());
        let looks = self.keeps && request.cache && !request.keep_stages && !is_lazy;
        let sights = looks.then(|| sights(&prepared));
        let (workspace, keeps) = (need.workspace, self.keeps);
        Ok((prepared, Forecast { room, workspace, keeps, sights }))
    }
}

impl<O: Ops> Session<O> {
    /// Reserves the key/value cache for a scheduler that answers up to `running` requests at a time. Its size is the
    /// configured one; otherwise it holds `running` prompts of the model's full context, but takes at most half of
    /// the free memory. `keeps`: bytes for images, and for pages with prefixes of prompts, that are kept for later
    /// requests.
    pub(super) fn open_gate(&mut self, running: usize, keeps: usize) -> Result<Gate> {
        let config = &self.preparer.config;
        let page: usize =
            Room::whole(1).shapes(&config.text).iter().map(Shape::elements).sum::<usize>()
                * self.footprint.cache_format().size();
        let positions = config.text.max_positions;
        let tokens = match self.kv_tokens {
            Some(tokens) => tokens,
            None => {
                self.release_memory()?;
                let config = &self.preparer.config;
                let wanted = pages_for(positions).saturating_mul(running.max(1));
                let free = self.runner.ops.available().map(|free| free / 2 / page.max(1));
                let pages = wanted.min(free.unwrap_or(wanted));
                self.runner.reserve(config, &Room::whole(pages))?;
                self.kv_tokens = Some(pages * kv::PAGE);
                pages * kv::PAGE
            }
        };
        self.caches = Caches { pictures: Pictures::new(keeps), beginnings: Beginnings::default() };
        self.runner.keep_pages(keeps / page.max(1));
        let config = &self.preparer.config;
        let mut predictor = Predictor::new(config, self.footprint, &*self.weights)?;
        let rows = running.clamp(1, DECODE_ROWS);
        self.step = predictor.step_need(config, rows, positions.min(tokens).max(1))?;
        let held = self.held().workspace;
        let free = self.runner.ops.available().map(|free| free + held);
        Ok(Gate {
            preparer: self.preparer.clone(),
            weights: self.weights.clone(),
            predictor: Mutex::new(predictor),
            tokens,
            workspace: free.map(|free| free.saturating_sub(self.step)),
            keeps: keeps > 0,
        })
    }

    /// Returns true if a request can start next to the running ones: there are free pages even if all answers reach
    /// their maximum length.
    pub(super) fn fits(&self, forecast: &Forecast, company: &Company) -> bool {
        // Requests that drop rows in the decoder have differently shaped caches, which cannot be mixed with others.
        let room = self.runner.room();
        company.is_empty()
            || room.firsts().eq(forecast.room.firsts())
                && room
                    .pages()
                    .zip(forecast.room.pages())
                    .enumerate()
                    .all(|(group, (all, wanted))| company.pages(group) + wanted <= all)
    }

    /// Allocates what a request needs in addition; returns the most pages of each group that it may use.
    ///
    /// # Errors
    /// [`Error::Busy`] if the memory was taken by something else after the request was admitted.
    pub(super) fn make_room(&mut self, job: &Job<'_>, company: &mut Company) -> Result<Vec<usize>> {
        let Some(forecast) = &job.forecast else { return Ok(Vec::new()) };
        self.take_for_job(job, forecast, company).map_err(|error| match error {
            Error::Capacity(what) => Error::Busy(what),
            error => error,
        })
    }

    fn take_for_job(
        &mut self,
        job: &Job<'_>,
        forecast: &Forecast,
        company: &mut Company,
    ) -> Result<Vec<usize>> {
        self.weights.check_unchanged()?;
        self.require_all([&*job.prepared])?;
        let room = self.granted(forecast.room.clone())?;
        if !self.runner.room().holds(&room) {
            debug_assert!(company.is_empty());
            self.runner.free_caches();
            self.runner.reserve(&self.preparer.config, &room)?;
        }
        // A decode step of the running requests may come between any two layers of this prompt.
        let workspace = forecast.workspace + self.step;
        let held = self.held();
        let need = Need { kv: held.kv, workspace, peak: 0 };
        if workspace > held.workspace {
            check_memory(&need, held, self.runner.ops.available())?;
            let grown = self.runner.ops.reserve(Purpose::Workspace, workspace);
            if grown.is_err() && held.workspace > 0 {
                // Restores the workspace of the running requests.
                self.runner.ops.reserve(Purpose::Workspace, held.workspace)?;
            }
            grown?;
        }
        company.predict(self.runner.ops.meter().held(Purpose::Weights) + held.kv + workspace);
        Ok(forecast.room.pages().collect())
    }
}
