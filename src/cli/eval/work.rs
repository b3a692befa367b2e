//! Asks every question under every selection: an engine for each core, or one card.

use super::args::{Compared, EvalArgs};
use super::questions::Item;
use super::row::Outcome;
use crate::cli::Stop;
use crate::cli::files::read_image;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::tell_notes;
use crate::cli::progress::{self, Steps};
use hired::config::ModelConfig;
use hired::engine::{Answer, CardInfo, Device, Engine, EngineOptions, Image, Request};
use hired::select::Selection;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Width of a decoder from which one question's matrix products keep all cores busy.
const WIDE: usize = 1024;

/// Engines of one model: one, or one a core for a model that does not fill all cores with one question.
pub struct Workers {
    first: Engine,
    /// What the others are loaded with.
    options: EngineOptions,
    count: usize,
}

/// Outcomes of an image: by selection, then by question.
type Outcomes = Vec<Vec<Outcome>>;

/// What all the work came to.
pub struct Evaluated {
    /// Images that could be read.
    pub items: Vec<Item>,
    /// Outcomes by selection, then by question in the order of `items`.
    pub outcomes: Outcomes,
    /// Images that could not be read, and why; their questions are left out.
    pub unread: Vec<(Item, String)>,
}

impl Workers {
    pub fn load(args: &EvalArgs, images: usize) -> Result<Self, Stop> {
        let mut options = args.device.options();
        let first = Engine::load(&args.model.model, options.clone())?;
        tell_notes(&first);
        let count = match first.card() {
            Some(_) => 1,
            None if first.config().text.hidden >= WIDE => 1,
            None => rayon::current_num_threads().min(images).max(1),
        };
        if first.card().is_none() {
            options.device = Device::Cpu;
        }
        Ok(Self { first, options, count })
    }

    pub fn card(&self) -> Option<&CardInfo> {
        self.first.card()
    }

    pub fn config(&self) -> &ModelConfig {
        self.first.config()
    }

    /// Asks everything about every image that can be read. Any other failure ends the work.
    pub fn run(
        self,
        args: &EvalArgs,
        items: Vec<Item>,
        compared: &[Compared],
        interrupt: &Interrupt,
    ) -> Result<Evaluated, Stop> {
        let Self { first, options, count } = self;
        let pools: Vec<ThreadPool> = match count {
            1 => Vec::new(),
            _ => (0..count).map(|_| one_thread()).collect::<Result<_, _>>()?,
        };
        let bar = progress::steps(items.len());
        bar.begin("images");
        let work = Work {
            args,
            items: &items,
            selections: compared.iter().map(|c| c.selection.clone()).collect(),
            next: AtomicUsize::new(0),
            done: Mutex::new(items.iter().map(|_| None).collect()),
            bar: &bar,
            interrupt,
        };
        interrupt.heed();
        std::thread::scope(|scope| {
            let mut engines = vec![Some(first)];
            engines.resize_with(count, || None);
            let workers: Vec<_> = engines
                .into_iter()
                .enumerate()
                .map(|(index, engine)| {
                    let (work, options, pool) = (&work, options.clone(), pools.get(index));
                    scope.spawn(move || {
                        let ended = match pool {
                            Some(pool) => pool.install(|| work.until_done(engine, options)),
                            None => work.until_done(engine, options),
                        };
                        if ended.is_err() {
                            // Nobody needs the rest.
                            work.next.store(work.items.len(), Relaxed);
                        }
                        ended
                    })
                })
                .collect();
            let ended: Vec<_> = workers.into_iter().map(|w| w.join()).collect();
            ended.into_iter().try_for_each(|ended| {
                ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        let Work { selections, done, .. } = work;
        let done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = selections.len();
        let mut evaluated =
            Evaluated { items: Vec::new(), outcomes: vec![Vec::new(); count], unread: Vec::new() };
        for (item, done) in items.into_iter().zip(done) {
            match done {
                Some(Ok(outcomes)) => {
                    for (all, outcomes) in evaluated.outcomes.iter_mut().zip(outcomes) {
                        all.extend(outcomes);
                    }
                    evaluated.items.push(item);
                }
                Some(Err(why)) => evaluated.unread.push((item, why)),
                None => {}
            }
        }
        if evaluated.items.is_empty()
            && let Some((_, why)) = evaluated.unread.first()
        {
            return Err(Stop::Failed(format!(
                "none of the images could be read; the first: {why}"
            )));
        }
        Ok(evaluated)
    }
}

fn one_thread() -> Result<ThreadPool, Stop> {
    let built = ThreadPoolBuilder::new().num_threads(1).build();
    built.map_err(|e| Stop::Failed(format!("cannot start a thread: {e}")))
}

/// What the workers share.
struct Work<'a> {
    args: &'a EvalArgs,
    items: &'a [Item],
    selections: Vec<Selection>,
    /// The first item that nobody has taken.
    next: AtomicUsize,
    /// By item: its outcomes, or why its image could not be read.
    done: Mutex<Vec<Option<Result<Outcomes, String>>>>,
    bar: &'a Steps,
    interrupt: &'a Interrupt,
}

impl Work<'_> {
    /// Takes images until there are none.
    fn until_done(&self, engine: Option<Engine>, options: EngineOptions) -> Result<(), Stop> {
        let mut engine = match engine {
            Some(engine) => engine,
            None => Engine::load(&self.args.model.model, options)?,
        };
        loop {
            let index = self.next.fetch_add(1, Relaxed);
            let Some(item) = self.items.get(index) else { return Ok(()) };
            if self.interrupt.raised() {
                return Err(Stop::Interrupted);
            }
            let outcomes = self.ask(&mut engine, item)?;
            self.done.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[index] =
                Some(outcomes);
            self.bar.end();
        }
    }

    /// Everything about one image; the inner error is of an image that cannot be read.
    fn ask(&self, engine: &mut Engine, item: &Item) -> Result<Result<Outcomes, String>, Stop> {
        let (name, bytes) = match read_image(&item.image) {
            Ok(read) => read,
            Err(Stop::Failed(why)) => return Ok(Err(why)),
            Err(other) => return Err(other),
        };
        let request =
            |prompt: &str| Request::new(prompt).with_max_new_tokens(self.args.max_new_tokens);
        let requests: Vec<Request> = item.questions.iter().map(|q| request(&q.prompt)).collect();
        let go_on = || match self.interrupt.raised() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let image = Image::encoded(name, bytes);
        let answers = match engine.sweep(&image, &requests, &self.selections, go_on) {
            Ok(answers) => answers,
            Err(error @ hired::Error::Image { .. }) => return Ok(Err(error.to_string())),
            // It names no file, and there are many.
            Err(hired::Error::Request(what) | hired::Error::Capacity(what)) => {
                return Err(Stop::Failed(format!("{}: {what}", item.image.display())));
            }
            Err(error) => return Err(error.into()),
        };
        let judged = |answers: Vec<Answer>| {
            let outcome = |(answer, question): (Answer, &super::questions::Question)| Outcome {
                score: self.args.metric.score(&answer.text, &question.right),
                visual_tokens: answer.visual.map_or(0, |visual| visual.tokens()),
            };
            answers.into_iter().zip(&item.questions).map(outcome).collect()
        };
        Ok(Ok(answers.into_iter().map(judged).collect()))
    }
}
