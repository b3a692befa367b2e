//! What requests that come one by one will take, and whether there is room for one more.

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

/// What a request alone will take.
#[derive(Debug, Clone)]
pub(super) struct Forecast {
    /// Its pages when its answer is as long as it may get.
    pub room: Room,
    pub workspace: usize,
    /// It is computed so that later requests can use what it leaves.
    pub keeps: bool,
    /// What its images are known by; `None` where it neither takes from the caches nor gives to them.
    pub sights: Option<Vec<Sight>>,
}

/// Prepares requests on any thread, and refuses those for which there is never room.
pub(super) struct Gate {
    preparer: Arc<Preparer>,
    weights: Arc<Weights>,
    predictor: Mutex<Predictor>,
    /// Tokens that the cache holds.
    tokens: usize,
    /// Workspace that there may be at most, beside that of a step.
    workspace: Option<usize>,
    /// Something is kept for later requests.
    keeps: bool,
}

impl Gate {
    /// A request in numbers, and what it will take.
    ///
    /// # Errors
    /// What is wrong with it; [`Error::Capacity`] when it can never be answered, with the numbers.
    pub fn prepare(&self, request: &Request) -> Result<(Prepared, Forecast)> {
        let prepared = self.preparer.prepare(request)?;
        let room = room_for([std::slice::from_ref(&prepared)].into_iter());
        let wanted = room.pages().max().unwrap_or(0);
        if wanted > pages_for(self.tokens) {
            return Err(Error::Capacity(format!(
                "the request needs a cache of {} tokens, there is one of {} for all requests: use a smaller budget, a \
                 shorter prompt or fewer new tokens",
                wanted * kv::PAGE,
                self.tokens
            )));
        }
        // Whatever broke off while it counted, the next question begins anew.
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
                "the request needs {} of workspace, {} can be had beside weights and cache: use a smaller budget or a \
                 shorter prompt",
                Size(need.workspace as u64),
                Size(most as u64)
            )));
        }
        // Intermediate results are those of the whole work; what lazy tiles keep is known by other numbers.
        let is_lazy = prepared.images.iter().any(|image| image.plan.lazy.is_some());
        let looks = self.keeps && request.cache && !request.keep_stages && !is_lazy;
        let sights = looks.then(|| sights(&prepared));
        let (workspace, keeps) = (need.workspace, self.keeps);
        Ok((prepared, Forecast { room, workspace, keeps, sights }))
    }
}

impl<O: Ops> Session<O> {
    /// Takes a cache for requests that come one by one, of which up to `running` are answered at a time: as large as the
    /// engine was told, else for `running` of the longest prompts that the model has positions for, within half of the
    /// memory that is free. `keeps`: bytes of images, and of pages that hold beginnings of prompts, that are kept.
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

    /// Whether a request may begin beside those who have: its pages are free however long their answers get.
    pub(super) fn fits(&self, forecast: &Forecast, company: &Company) -> bool {
        // Whoever drops rows in the decoder has other caches than the others.
        let room = self.runner.room();
        company.is_empty()
            || room.firsts().eq(forecast.room.firsts())
                && room
                    .pages()
                    .zip(forecast.room.pages())
                    .enumerate()
                    .all(|(group, (all, wanted))| company.pages(group) + wanted <= all)
    }

    /// Takes what a request needs that is not there yet; the pages of each group that it may come to hold.
    ///
    /// # Errors
    /// [`Error::Busy`] where something else has taken the memory since the request passed the gate.
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
        // A step of the others may come at any block of its prompt.
        let workspace = forecast.workspace + self.step;
        let held = self.held();
        let need = Need { kv: held.kv, workspace, peak: 0 };
        if workspace > held.workspace {
            check_memory(&need, held, self.runner.ops.available())?;
            let grown = self.runner.ops.reserve(Purpose::Workspace, workspace);
            if grown.is_err() && held.workspace > 0 {
                // What the others need.
                self.runner.ops.reserve(Purpose::Workspace, held.workspace)?;
            }
            grown?;
        }
        company.predict(self.runner.ops.meter().held(Purpose::Weights) + held.kv + workspace);
        Ok(forecast.room.pages().collect())
    }
}
