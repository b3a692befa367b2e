//! A session: one model on one executor, serving requests.

use super::admission::Gate;
use super::answer::{Answer, Event, Stages, Timings, Visual};
use super::attention::{Attention, Watched};
use super::batch::Fate;
use super::cache::{Caches, Reused};
use super::limit::Limit;
use super::origin::{Origin, Weights};
use super::predict::{Held, Need, Predictor, check_cache, check_memory, check_weights};
use super::prepare::{Prepared, PreparedImage, Preparer};
use super::request::{EngineOptions, Image, Request};
use super::runner::{Runner, quiet, room_for};
use super::sequence::Sequence;
use super::serving::Desk;
use super::taking::{LoadProgress, Taking};
use crate::config::ModelConfig;
use crate::kv::{self, Room, Shape};
use crate::ops::Ops;
use crate::ops::ceiling::Ceiling;
use crate::ops::clock::Stage;
use crate::ops::footprint::Footprint;
use crate::ops::memory::Purpose;
use crate::ops::profile::Entry;
use crate::select::Selection;
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Callback for events; it can stop the work.
pub type Listener<'a> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'a;

/// The operations of an engine, independent of the executor.
pub trait Serve: Send {
    fn config(&self) -> &ModelConfig;
    /// Answers in the order of the requests. A single request can only fail on its own with [`Fate::Own`].
    fn generate(
        &mut self,
        requests: &[Request],
        fate: Fate,
        on_event: &mut Listener<'_>,
    ) -> Result<Vec<Result<Answer>>>;
    /// Prepares the session for [`Serve::answer`] with up to `running` requests at a time and `keeps` bytes of cached
    /// results.
    fn gate(&mut self, running: usize, keeps: usize) -> Result<Gate>;
    /// Answers the requests of the desk, which the gate has admitted.
    fn answer(&mut self, desk: &mut dyn Desk<'static>) -> Result<()>;
    fn select(&mut self, image: &Image, selection: &Selection) -> Result<Visual>;
    fn largest_budget(&mut self, requests: &[Request], limit: Limit) -> Result<usize>;
    fn sweep(
        &mut self,
        image: &Image,
        requests: &[Request],
        selections: &[Selection],
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Answer>>>;
    fn profile(&mut self, requests: &[Request]) -> Result<(Vec<Answer>, Vec<Entry>)>;
    fn attention(&mut self, request: &Request) -> Result<Attention>;
    fn release(&mut self) -> Result<()>;
    fn ceiling(&mut self) -> Result<Ceiling>;
}

/// A model on an executor, with everything that prepares requests for it.
pub struct Session<O: Ops> {
    pub(super) preparer: Arc<Preparer>,
    pub(super) weights: Arc<Weights>,
    pub(super) predictor: Predictor,
    pub(super) runner: Runner<O>,
    pub(super) kv_tokens: Option<usize>,
    pub(super) load: Duration,
    pub(super) footprint: Footprint,
    /// Workspace of the largest decode step, for requests that are scheduled individually.
    pub(super) step: usize,
    pub(super) caches: Caches,
}

/// A request that has its first token.
pub(super) struct Begun {
    pub sequence: Sequence,
    pub prompt_tokens: usize,
    pub visuals: Vec<Visual>,
    pub host_round_trip: bool,
    pub timings: Timings,
    pub stages: Option<Stages>,
    pub reused: Reused,
}

impl<O: Ops + Send> Serve for Session<O>
where
    O::Buffer: Send,
    O::Weight: Send,
    O::Cache: Send,
{
    fn config(&self) -> &ModelConfig {
        &self.preparer.config
    }

    fn generate(
        &mut self,
        requests: &[Request],
        fate: Fate,
        on_event: &mut Listener<'_>,
    ) -> Result<Vec<Result<Answer>>> {
        let start = Instant::now();
        self.weights.check_unchanged()?;
        let (mut batch, mut places, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (place, request) in requests.iter().enumerate() {
            match self.preparer.prepare(request) {
                Ok(prepared) => {
                    batch.push(prepared);
                    places.push(place);
                }
                Err(error) if fate == Fate::Own => refused.push((place, error)),
                Err(error) => return Err(error),
            }
        }
        let mut answers = Vec::new();
        if refused.is_empty() || !batch.is_empty() {
            let mut listener = |event: Event<'_>| on_event(event.of(|index| places[index]));
            answers = self.answers(&batch, start, fate, &mut listener)?;
        }
        for (place, error) in refused {
            answers.insert(place, Err(error));
        }
        Ok(answers)
    }

    fn gate(&mut self, running: usize, keeps: usize) -> Result<Gate> {
        self.open_gate(running, keeps)
    }

    fn answer(&mut self, desk: &mut dyn Desk<'static>) -> Result<()> {
        self.settled(|session| session.run(desk, None, 0))
    }

    fn sweep(
        &mut self,
        image: &Image,
        requests: &[Request],
        selections: &[Selection],
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Answer>>> {
        self.weights.check_unchanged()?;
        self.answer_under(image, requests, selections, go_on)
    }

    fn select(&mut self, image: &Image, selection: &Selection) -> Result<Visual> {
        self.weights.check_unchanged()?;
        let image = self.preparer.image(image, selection)?;
        if image.plan.late.is_some() {
            return Err(Error::Request(format!(
                "the method {} drops tokens inside the language model, depending on the question: give one (--prompt)",
                selection.method
            )));
        }
        self.require(&image)?;
        let held = self.held();
        let need = self.predictor.vision_need(&self.preparer.normalization, &image, held)?;
        check_memory(&need, held, self.runner.ops.available())?;
        self.runner.ops.reserve(Purpose::Workspace, need.workspace)?;
        let norm = &self.preparer.normalization;
        let encoded = self.runner.encode(&image, norm, None, &mut quiet);
        let idle = self.runner.ops.enter(Stage::Idle);
        let encoded = encoded?;
        idle?;
        let kept = self.runner.ops.kept(&encoded.kept)?;
        Ok(Visual::of_some(&image.plan, kept, encoded.partitions.as_deref()))
    }

    fn largest_budget(&mut self, requests: &[Request], limit: Limit) -> Result<usize> {
        self.weights.check_unchanged()?;
        self.budget_within(requests, limit)
    }

    fn attention(&mut self, request: &Request) -> Result<Attention> {
        let watched = Watched::new(&self.preparer, request)?;
        self.runner.ops.record_attention();
        let go = &mut |_: Event<'_>| ControlFlow::Continue(());
        let answers = self.generate(std::slice::from_ref(request), Fate::Shared, go);
        let recorded = self.runner.ops.recorded_attention();
        Ok(watched.told(answers?.remove(0)?, &recorded))
    }

    fn profile(&mut self, requests: &[Request]) -> Result<(Vec<Answer>, Vec<Entry>)> {
        self.runner.ops.profile()?;
        let answers = self.generate(requests, Fate::Shared, &mut |_| ControlFlow::Continue(()));
        let entries = self.runner.ops.profiled();
        Ok((answers?.into_iter().collect::<Result<_>>()?, entries?))
    }

    fn release(&mut self) -> Result<()> {
        self.release_memory()
    }

    fn ceiling(&mut self) -> Result<Ceiling> {
        self.runner.ops.ceiling()
    }
}

impl<O: Ops> Session<O> {
    /// Opens a model and loads its weights. `footprint` describes how the executor takes memory; `progress` is called
    /// with the bytes of weights loaded so far and in total.
    pub fn open(
        origin: Origin,
        options: &EngineOptions,
        footprint: Footprint,
        mut ops: O,
        progress: &mut LoadProgress<'_>,
    ) -> Result<Self> {
        let start = Instant::now();
        let Origin { config, weights } = &origin;
        let mut all = 0;
        let mut sum = |bytes| {
            all += bytes;
            ControlFlow::Continue(())
        };
        let predictor = Predictor::new(config, footprint, &Taking::new(weights, &mut sum))?;
        let (copied, in_place) = predictor.weights();
        let taken = if weights.take_memory() { copied + in_place } else { copied };
        check_weights(taken, ops.available())?;
        ops.reserve(Purpose::Weights, copied)?;
        let mut done = 0;
        let mut told = |bytes| {
            done += bytes;
            progress(done, all)
        };
        let mut runner = Runner::load(config, ops, &Taking::new(weights, &mut told))?;
        let kv_tokens = options.kv_tokens;
        if let Some(tokens) = kv_tokens {
            let page = Room::whole(1).shapes(&config.text);
            let page: usize = page.iter().map(Shape::elements).sum();
            check_cache(tokens, page * footprint.cache_format().size(), runner.ops.available())?;
            runner.reserve(config, &Room::whole(kv::pages_for(tokens)))?;
        }
        let (preparer, weights) = origin.into_parts(options)?;
        let (preparer, weights) = (Arc::new(preparer), Arc::new(weights));
        let load = start.elapsed();
        Ok(Self {
            preparer,
            weights,
            predictor,
            runner,
            kv_tokens,
            load,
            footprint,
            step: 0,
            caches: Caches::default(),
        })
    }

    /// Answers a prepared batch; the outcomes are in its order.
    fn answers(
        &mut self,
        batch: &[Prepared],
        start: Instant,
        fate: Fate,
        on_event: &mut Listener<'_>,
    ) -> Result<Vec<Result<Answer>>> {
        let predicted_peak = self.plan(batch)?;
        self.settled(|session| session.serve(batch, None, start, fate, predicted_peak, on_event))
    }

    /// Frees memory of earlier batches that later ones do not need; a cache of fixed size stays.
    pub(super) fn release_memory(&mut self) -> Result<()> {
        if self.kv_tokens.is_none() {
            self.runner.free_caches();
        }
        self.runner.ops.reserve(Purpose::Workspace, 0)
    }

    /// Memory that is allocated already and that the next batch can use.
    pub(super) fn held(&self) -> Held {
        let meter = self.runner.ops.meter();
        Held { kv: meter.held(Purpose::Kv), workspace: meter.held(Purpose::Workspace) }
    }

    /// Runs planned work; if it fails, the session is restored to its state before.
    pub(super) fn settled<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        // Work that failed may have left a stage active.
        self.runner.ops.enter(Stage::Idle)?;
        self.runner.ops.clock()?.restart();
        let done = work(self);
        if done.is_err() {
            // The sequences and their block tables are gone, so their pages are freed here.
            self.runner.forget_sequences();
            // Leaves the stage that failed. If this fails too, the first error is the one to report.
            let _ = self.runner.ops.enter(Stage::Idle);
        }
        debug_assert!(self.runner.pools.is_whole());
        done
    }

    /// Takes the weights of vision blocks, and of the pooling head, that only scoring needs.
    fn require(&mut self, image: &PreparedImage) -> Result<()> {
        self.predictor.require(image, &*self.weights)?;
        let more = self.predictor.weights().0 - self.runner.ops.meter().held(Purpose::Weights);
        check_weights(more, self.runner.ops.available())?;
        self.runner.ops.reserve(Purpose::Weights, more)?;
        self.runner.model.require(image.layers, &mut self.runner.ops, &*self.weights)
    }

    /// Loads the vision blocks that requests need.
    pub(super) fn require_all<'a>(
        &mut self,
        requests: impl IntoIterator<Item = &'a Prepared>,
    ) -> Result<()> {
        let mut images = requests.into_iter().flat_map(|p| &p.images);
        images.try_for_each(|image| self.require(image))
    }

    /// The memory of a batch in caches of this size, checked against the available memory. Afterwards the predictor's
    /// counter holds the cost of the batch.
    pub(super) fn need(&mut self, batch: &[Prepared], room: &Room) -> Result<Need> {
        self.require_all(batch)?;
        let (config, norm) = (&self.preparer.config, &self.preparer.normalization);
        let held = self.held();
        let need = self.predictor.need(config, norm, batch, room, held)?;
        check_memory(&need, held, self.runner.ops.available())?;
        Ok(need)
    }

    /// Plans the memory of a batch and allocates its caches.
    fn plan(&mut self, batch: &[Prepared]) -> Result<usize> {
        let room = self.granted(room_for([batch].into_iter()))?;
        let need = self.need(batch, &room)?;
        self.take(&need, &room)?;
        Ok(need.peak)
    }

    /// The size of the caches for requests that want `wanted`: the configured one, or the present one if it is large
    /// enough, otherwise `wanted`.
    ///
    /// # Errors
    /// [`Error::Capacity`] if caches of fixed size are too small for the requests.
    pub(super) fn granted(&self, wanted: Room) -> Result<Room> {
        let Some(tokens) = self.kv_tokens else {
            let there = self.runner.room();
            return Ok(if there.holds(&wanted) { there.clone() } else { wanted });
        };
        let fixed = wanted.with(|_| kv::pages_for(tokens));
        if !fixed.holds(&wanted) {
            return Err(Error::Capacity(format!(
                "the requests need a cache of {} tokens, the engine has one of {tokens}: \
                 lower the budget, the new tokens or the number of requests, or raise kv_tokens",
                wanted.pages().max().unwrap_or(0) * kv::PAGE,
            )));
        }
        Ok(fixed)
    }

    /// Allocates the planned memory and the caches.
    pub(super) fn take(&mut self, need: &Need, room: &Room) -> Result<()> {
        if !self.runner.room().holds(room) {
            // Frees the old caches first, because the plan does not count both at once.
            self.runner.free_caches();
        }
        self.runner.ops.meter().restart();
        self.runner.ops.reserve(Purpose::Workspace, need.workspace)?;
        self.runner.reserve(&self.preparer.config, room)
    }
}
