//! The engine: requests in, answers out.

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

/// A loaded model that answers requests.
///
/// It can move between threads and answers one batch at a time. It prints nothing, keeps no global state, and a
/// failed request leaves it unchanged.
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
    /// Loads a Hugging Face model folder: LLaVA-NeXT, LLaVA-1.5, LLaVA-OneVision or InternVL.
    ///
    /// # Errors
    /// [`crate::Error::Model`] or [`crate::Error::Io`] names the file at fault. [`crate::Error::Device`]: the device
    /// cannot be used. [`crate::Error::Capacity`]: the weights do not fit into its memory.
    pub fn load(path: impl AsRef<Path>, options: EngineOptions) -> Result<Self> {
        Self::load_with(path, options, |_, _| ControlFlow::Continue(()))
    }

    /// As [`Engine::load`]; `progress` is called with the bytes of weights loaded so far and in total, and can stop
    /// the loading.
    ///
    /// # Errors
    /// As [`Engine::load`]; [`crate::Error::Cancelled`] if `progress` stopped it.
    pub fn load_with(
        path: impl AsRef<Path>,
        options: EngineOptions,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        let access = if options.no_mmap { Access::Read } else { Access::Mapped };
        let origin = Origin::folder(path.as_ref(), access, options.quantization)?;
        Self::open(origin, &options, &mut progress)
    }

    /// A model with random weights, generated where they are used. They equal those of a folder that `hired synth`
    /// wrote. For measurements and tests without the real weights.
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

    /// Notes that a user should see although nothing failed, one sentence each: why a GPU or cuBLAS is not used, and
    /// which settings of the model folder are ignored.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The CUDA device in use; `None` on the CPU or without the feature `cuda`.
    pub fn card(&self) -> Option<&CardInfo> {
        self.card.as_ref()
    }

    /// The model's configuration.
    #[doc(hidden)]
    pub fn config(&self) -> &ModelConfig {
        self.session.config()
    }

    /// Answers one request. `on_event` is called for progress and for every generated token.
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

    /// Answers several requests together; each answer equals the one that the request would get alone.
    ///
    /// All requests are checked and all memory is planned before the work begins. Stopping after every request has
    /// its first token returns the answers generated so far. One failed request fails the batch;
    /// [`Engine::generate_each`] isolates them.
    ///
    /// # Errors
    /// [`crate::Error::Image`], [`crate::Error::Request`] and [`crate::Error::Capacity`] before the work begins;
    /// [`crate::Error::Numeric`] if the numbers overflow; [`crate::Error::Cancelled`] if stopped before every request
    /// has its first token.
    pub fn generate_batch(
        &mut self,
        requests: &[Request],
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Answer>> {
        let answers = self.session.generate(requests, Fate::Shared, &mut on_event)?;
        answers.into_iter().collect()
    }

    /// Answers several requests together, as [`Engine::generate_batch`] does, but isolates failures: a request that
    /// is refused (image, prompt or length), whose numbers overflow, or that `on_event` stops before its first token
    /// gets an error in its place, and the others get their answers.
    ///
    /// # Errors
    /// Only errors that concern all requests: [`crate::Error::Capacity`] if they need more memory together than there
    /// is, and [`crate::Error::Device`].
    pub fn generate_each(
        &mut self,
        requests: &[Request],
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Result<Answer>>> {
        self.session.generate(requests, Fate::Own, &mut on_event)
    }

    /// Runs the vision part only and returns which patches of an image would be kept.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`]; [`crate::Error::Request`] for a method that drops tokens inside the language
    /// model, since it needs the prompt.
    pub fn select(&mut self, image: &Image, selection: &Selection) -> Result<Visual> {
        self.session.select(image, selection)
    }

    /// Answers requests about one image under each of `selections`. The answers equal those of
    /// [`Engine::generate_batch`], but the image is decoded and encoded only once. The requests' own images and
    /// selections are ignored, and the time to first token counts from this call. Answers are ordered by selection,
    /// then by request. `go_on` is called at every layer and token; once it has returned `Break` it must keep doing
    /// so.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`]; [`crate::Error::Cancelled`] if stopped, without any answer.
    pub fn sweep(
        &mut self,
        image: &Image,
        requests: &[Request],
        selections: &[Selection],
        mut go_on: impl FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Answer>>> {
        self.session.sweep(image, requests, selections, &mut go_on)
    }

    /// The largest budget, as a number of image tokens, with which `requests`, answered as one batch, stay within
    /// `limit`. The requests' own budgets are ignored.
    ///
    /// # Errors
    /// [`crate::Error::Capacity`] if even one token exceeds the limit, [`crate::Error::Request`] if the requests take
    /// no budget, and the errors of [`Engine::generate_batch`].
    pub fn largest_budget(&mut self, requests: &[Request], limit: Limit) -> Result<usize> {
        self.session.largest_budget(requests, limit)
    }

    /// Answers requests as [`Engine::generate_batch`] does and returns every kernel or operation with its own time.
    /// This is slower, and decode steps are not replayed from CUDA graphs.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`].
    #[doc(hidden)]
    pub fn profile(&mut self, requests: &[Request]) -> Result<(Vec<Answer>, Vec<Entry>)> {
        self.session.profile(requests)
    }

    /// Answers a request about one image and returns what the language model attended to for each generated token.
    /// This takes extra time, and memory beyond the prediction.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`]; [`crate::Error::Request`] for several images, and for methods that merge patches or
    /// drop them inside the language model.
    #[doc(hidden)]
    pub fn attention(&mut self, request: &Request) -> Result<Attention> {
        self.session.attention(request)
    }

    /// Measures the device's peak rates now; the entries of a profile are compared with them.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device fails.
    #[doc(hidden)]
    pub fn ceiling(&mut self) -> Result<Ceiling> {
        self.session.ceiling()
    }

    /// Frees the memory that earlier requests took, except the weights. The next request allocates what it needs.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device is lost.
    pub fn release(&mut self) -> Result<()> {
        self.session.release()
    }
}

/// A session and its CUDA device, if it runs on one.
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

/// Returns true if there is a CUDA device that this build can use; an error if there is a driver but no usable
/// device.
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
