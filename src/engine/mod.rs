//! Requests in, answers out.

mod admission;
mod answer;
mod attention;
mod batch;
mod cache;
mod company;
mod drawing;
mod dry_run;
mod inspect;
mod limit;
mod messages;
mod origin;
mod outcome;
mod placeholder;
mod plan;
mod predict;
mod prepare;
mod request;
mod runner;
mod scheduler;
mod sequence;
mod serving;
mod session;
mod stops;
mod sweep;
mod taking;
mod words;

pub use crate::format::Dtype;
pub use answer::{Answer, Event, FinishReason, Memory, Stages, Timings, Visual};
pub use attention::{Attention, PromptRow};
pub use dry_run::{BudgetNeed, Subject, typical_request};
pub use inspect::{Inspection, VisionInspection, inspect};
pub use limit::{Limit, Pace};
pub use messages::{Message, Part, Role};
pub use plan::{Bound, BudgetPlan, Planner};
pub use request::{Device, EngineOptions, Image, Prompt, Request};
pub use scheduler::{Scheduler, SchedulerOptions, Statistics, SubmitError, Ticket, Update};

pub use crate::ops::ceiling::Ceiling;
pub use crate::ops::clock::Stage;
pub use crate::ops::cost::Cost;
pub use crate::ops::cuda::CardInfo;
pub use crate::ops::cuda::Gemm;
pub use crate::ops::profile::Entry;

use crate::Result;
use crate::checkpoint::Access;
use crate::checkpoint::synth::{Preset, Synthetic};
use crate::config::ModelConfig;
use crate::ops::cpu::Cpu;
use crate::ops::footprint::Footprint;
use crate::select::Selection;
use batch::Fate;
use origin::Origin;
use session::{Serve, Session};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use taking::LoadProgress;

/// A model, ready to answer.
///
/// It may move between threads and answers one batch at a time. It prints nothing, keeps no global state, and a
/// request that fails leaves it as it was.
pub struct Engine {
    session: Box<dyn Serve>,
    card: Option<CardInfo>,
    notes: Vec<String>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, card, notes } = self;
        f.debug_struct("Engine")
            .field("architecture", &session.config().architecture)
            .field("card", card)
            .field("notes", notes)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens a Hugging Face folder of LLaVA-NeXT or LLaVA-1.5.
    ///
    /// # Errors
    /// [`crate::Error::Model`] or [`crate::Error::Io`] naming the file at fault, [`crate::Error::Device`] when the device cannot be used,
    /// [`crate::Error::Capacity`] when it has no room for the weights.
    pub fn load(path: impl AsRef<Path>, options: EngineOptions) -> Result<Self> {
        Self::load_with(path, options, |_, _| ControlFlow::Continue(()))
    }

    /// The same; `progress` hears of weight bytes taken and in all, and may stop the loading.
    ///
    /// # Errors
    /// As [`Engine::load`]; [`crate::Error::Cancelled`] when stopped.
    pub fn load_with(
        path: impl AsRef<Path>,
        options: EngineOptions,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        let access = if options.no_mmap { Access::Read } else { Access::Mapped };
        let origin = Origin::folder(path.as_ref(), access, options.quantization)?;
        Self::open(origin, &options, &mut progress)
    }

    /// A model of random weights, made where they are used: the same as of a folder that
    /// `hired synth` has written. For measurements and tests where the real weights are not at hand.
    ///
    /// # Errors
    /// As [`Engine::load_with`].
    pub fn synthetic(
        preset: Preset,
        seed: u64,
        options: EngineOptions,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        let origin =
            Origin::synthetic(Synthetic { preset, seed, quantization: options.quantization })?;
        Self::open(origin, &options, &mut progress)
    }

    fn open(
        origin: Origin,
        options: &EngineOptions,
        progress: &mut LoadProgress<'_>,
    ) -> Result<Self> {
        let mut notes = origin.config.ignored.clone();
        let (session, card) = match options.device {
            Device::Cpu => on_cpu(origin, options, progress)?,
            Device::Cuda(ordinal) => on_cuda(origin, options, ordinal, progress)?,
            Device::Auto => match usable_cuda() {
                Ok(true) => on_cuda(origin, options, None, progress)?,
                Ok(false) => on_cpu(origin, options, progress)?,
                Err(why) => {
                    notes.push(format!("running on the CPU: {why}"));
                    on_cpu(origin, options, progress)?
                }
            },
        };
        notes.extend(card.as_ref().and_then(|card| card.note.clone()));
        Ok(Self { session, card, notes })
    }

    /// What its user should hear although nothing failed, a sentence each: why a GPU that seems to be there is not used,
    /// or why cuBLAS is not, and which settings of the model's folder are not followed.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The CUDA device that computes; `None`: the CPU does, or this build has no feature `cuda`.
    pub fn card(&self) -> Option<&CardInfo> {
        self.card.as_ref()
    }

    /// The model's configuration.
    #[doc(hidden)]
    pub fn config(&self) -> &ModelConfig {
        self.session.config()
    }

    /// Answers one request. `on_event` hears of progress and of every token as it is drawn.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`].
    pub fn generate(
        &mut self,
        request: &Request,
        on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let mut answers = self.generate_batch(std::slice::from_ref(request), on_event)?;
        Ok(answers.remove(0))
    }

    /// Answers several requests together; each gets the answer that it would get alone.
    ///
    /// All requests are checked and all memory is planned before any work. Stopping when every request has its first
    /// token gives the answers as far as they have come. [`Engine::generate_each`] keeps the requests apart.
    ///
    /// # Errors
    /// [`crate::Error::Image`], [`crate::Error::Request`] and [`crate::Error::Capacity`] before any work; [`crate::Error::Numeric`] when the
    /// numbers overflow; [`crate::Error::Cancelled`] when stopped before every request has its first token. One failure
    /// fails the batch.
    pub fn generate_batch(
        &mut self,
        requests: &[Request],
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Answer>> {
        let answers = self.session.generate(requests, Fate::Shared, &mut on_event)?;
        answers.into_iter().collect()
    }

    /// Answers several requests together, as [`Engine::generate_batch`] does, but keeps them apart: a request that is
    /// refused (its image, its words, its length), whose numbers overflow, or that `on_event` stops before its first
    /// token, has its error in its place, and the others their answers.
    ///
    /// # Errors
    /// What strikes all of them: [`crate::Error::Capacity`] when the requests together need more memory than there is,
    /// and [`crate::Error::Device`].
    pub fn generate_each(
        &mut self,
        requests: &[Request],
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Result<Answer>>> {
        self.session.generate(requests, Fate::Own, &mut on_event)
    }

    /// The vision half only: which patches of an image would be kept.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`]; [`crate::Error::Request`] for a method that drops inside the language model, which
    /// no vision tower can tell.
    pub fn select(&mut self, image: &Image, selection: &Selection) -> Result<Visual> {
        self.session.select(image, selection)
    }

    /// Answers requests about one picture once under each of `selections`: as [`Engine::generate_batch`] would, but the
    /// picture is decoded and encoded once for all. The requests' own images and selections play no part; a request's
    /// time to its first token counts from this call. Answers by selection, then by request. `go_on` is asked at every
    /// layer and token, and must then keep to its answer.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`]; [`crate::Error::Cancelled`] whenever stopped, with no answer.
    pub fn sweep(
        &mut self,
        image: &Image,
        requests: &[Request],
        selections: &[Selection],
        mut go_on: impl FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Answer>>> {
        self.session.sweep(image, requests, selections, &mut go_on)
    }

    /// The largest count budget that keeps `limit` when each of `requests`, answered as one batch, gets it; their own
    /// budgets play no part.
    ///
    /// # Errors
    /// [`crate::Error::Capacity`] when even one token breaks the limit, [`crate::Error::Request`] when there is nothing to choose,
    /// and what [`Engine::generate_batch`] says of the requests.
    pub fn largest_budget(&mut self, requests: &[Request], limit: Limit) -> Result<usize> {
        self.session.largest_budget(requests, limit)
    }

    /// Answers requests as [`Engine::generate_batch`] does, and tells every kernel or operation that this took, each
    /// timed by itself. That costs time; decode steps are not replayed from a recording meanwhile.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`].
    #[doc(hidden)]
    pub fn profile(&mut self, requests: &[Request]) -> Result<(Vec<Answer>, Vec<Entry>)> {
        self.session.profile(requests)
    }

    /// Answers a request about one image, and tells what the language model attended to for each token of the answer. That
    /// takes time, and memory beside what was predicted.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`]; [`crate::Error::Request`] for several images, and for methods that merge patches or
    /// drop them inside the language model.
    #[doc(hidden)]
    pub fn attention(&mut self, request: &Request) -> Result<Attention> {
        self.session.attention(request)
    }

    /// What the device can do at most, measured now: what a profile's entries are held against.
    ///
    /// # Errors
    /// When the device refuses.
    #[doc(hidden)]
    pub fn ceiling(&mut self) -> Result<Ceiling> {
        self.session.ceiling()
    }

    /// Gives back memory that earlier requests took, beside the weights; the next takes what it needs.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn release(&mut self) -> Result<()> {
        self.session.release()
    }
}

/// A session and the device that it is on.
type Opened = (Box<dyn Serve>, Option<CardInfo>);

fn on_cpu(
    origin: Origin,
    options: &EngineOptions,
    progress: &mut LoadProgress<'_>,
) -> Result<Opened> {
    let cache = options.cpu_cache();
    let footprint = Footprint::Cpu { cache };
    let session = Session::open(origin, options, footprint, Cpu::new(cache), progress)?;
    Ok((Box::new(session), None))
}

#[cfg(feature = "cuda")]
fn on_cuda(
    origin: Origin,
    options: &EngineOptions,
    ordinal: Option<usize>,
    progress: &mut LoadProgress<'_>,
) -> Result<Opened> {
    use crate::ops::cuda::{Cuda, Options};
    let (formats, graphs, gemm) = (options.cuda_formats(), !options.no_graph, options.gemm);
    let cuda = Cuda::open(Options { ordinal, formats, graphs, gemm })?;
    let (footprint, card) = (cuda.footprint(), cuda.description().clone());
    Ok((Box::new(Session::open(origin, options, footprint, cuda, progress)?), Some(card)))
}

#[cfg(not(feature = "cuda"))]
fn on_cuda(
    _: Origin,
    _: &EngineOptions,
    _: Option<usize>,
    _: &mut LoadProgress<'_>,
) -> Result<Opened> {
    Err(crate::Error::Device("this build has no CUDA executor: use the device cpu".into()))
}

/// Whether there is a CUDA device that this build can use; an error where there is a driver, but no such device.
fn usable_cuda() -> Result<bool> {
    #[cfg(feature = "cuda")]
    {
        use crate::ops::cuda::Driver;
        if !Driver::is_installed() {
            return Ok(false);
        }
        Driver::open()?.device(None)?.code?;
        Ok(true)
    }
    #[cfg(not(feature = "cuda"))]
    Ok(false)
}
