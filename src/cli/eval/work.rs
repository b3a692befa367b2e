//! Asks every question under every selection, on one engine per core or on one GPU.

use super::args::EvalArgs;
use super::questions::Item;
use super::records::{Grid, Records};
use super::row::Outcome;
use crate::cli::Stop;
use crate::cli::files::read_image;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::tell_notes;
use crate::cli::progress::{self, Steps};
use hired::config::ModelConfig;
use hired::engine::{CardInfo, Device, Engine, EngineOptions, Image, Request};
use hired::select::Selection;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Decoder width from which the matrix products of one question use all cores.
const WIDE: usize = 1024;

/// Engines of one model: a single one, or one per core if the model is too small to use all cores with one question.
pub struct Workers {
    first: Engine,
    /// Options for loading the further engines.
    options: EngineOptions,
    count: usize,
}

/// Outcomes by selection, then by question.
type Outcomes = Vec<Vec<Outcome>>;

/// A result for an image, or the reason why the image could not be read.
type Read<T> = Result<T, String>;

/// An outcome with the numbers of its selection and question.
type New = (usize, usize, Outcome);

/// The result of all the work.
pub struct Evaluated {
    /// Images that could be read.
    pub items: Vec<Item>,
    /// Outcomes by selection, then by question in the order of `items`.
    pub outcomes: Outcomes,
    /// Images that could not be read, with the reason; their questions are left out.
    pub unread: Vec<(Item, String)>,
    /// True if Ctrl-C came before the last image.
    pub interrupted: bool,
}

/// The questions, selections and known outcomes.
pub struct Task<'a> {
    pub args: &'a EvalArgs,
    pub items: Vec<Item>,
    pub selections: Vec<Selection>,
    /// Known outcomes by item.
    pub known: Vec<Grid>,
    pub records: Records<'a>,
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

    /// Asks all questions about every image that can be read. Any other failure ends the work.
    pub fn run(self, task: Task<'_>, interrupt: &Interrupt) -> Result<Evaluated, Stop> {
        let Self { first, options, count } = self;
        let Task { args, items, selections, known, records } = task;
        let pools: Vec<ThreadPool> = match count {
            1 => Vec::new(),
            _ => (0..count).map(|_| one_thread()).collect::<Result<_, _>>()?,
        };
        let bar = progress::steps(items.len());
        bar.begin("images");
        let count_of_rows = selections.len();
        let work = Work {
            args,
            items: &items,
            selections,
            known,
            records: &records,
            next: AtomicUsize::new(0),
            done: Mutex::new(items.iter().map(|_| None).collect()),
            bar: &bar,
            interrupt,
        };
        interrupt.heed();
        let ended = std::thread::scope(|scope| {
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
                            // The other workers need not continue after a failure.
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
        });
        let interrupted = match ended {
            Err(Stop::Interrupted) => true,
            ended => ended.map(|()| false)?,
        };
        let done = work.done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut evaluated = Evaluated {
            items: Vec::new(),
            outcomes: vec![Vec::new(); count_of_rows],
            unread: Vec::new(),
            interrupted,
        };
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
            && !interrupted
            && let Some((_, why)) = evaluated.unread.first()
        {
            return Err(Stop::Failed(format!(
                "none of the images could be read; the first: {why}"
            )));
        }
        Ok(evaluated)
    }
}

/// Number of rows whose accuracy is shown while the work proceeds.
const SHOWN: usize = 6;

/// A short summary of the first rows so far.
fn so_far(done: &[Option<Read<Outcomes>>]) -> String {
    let mut sums = [(0.0, 0usize); SHOWN];
    for outcomes in done.iter().flatten().flatten() {
        for ((sum, count), row) in sums.iter_mut().zip(outcomes) {
            *sum += row.iter().map(|outcome| outcome.score).sum::<f64>();
            *count += row.len();
        }
    }
    let known = sums.into_iter().filter(|(_, count)| *count > 0);
    let shares: Vec<String> =
        known.map(|(sum, count)| format!("{:.1}%", 100.0 * sum / count as f64)).collect();
    format!("images, accuracy so far {}", shares.join(" "))
}

/// Describes the lines of a file, one of which is at fault.
fn one_of(lines: &[usize]) -> String {
    match lines {
        [line] => format!("line {line}"),
        lines => {
            let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
            format!("one of the lines {}", lines.join(", "))
        }
    }
}

fn one_thread() -> Result<ThreadPool, Stop> {
    let built = ThreadPoolBuilder::new().num_threads(1).build();
    built.map_err(|e| Stop::Failed(format!("cannot start a thread: {e}")))
}

/// State shared by the workers.
struct Work<'a> {
    args: &'a EvalArgs,
    items: &'a [Item],
    selections: Vec<Selection>,
    /// Outcomes of an earlier run, by item.
    known: Vec<Grid>,
    records: &'a Records<'a>,
    /// The first item that no worker has taken.
    next: AtomicUsize,
    /// Finished items: outcomes, or the reason why the image could not be read.
    done: Mutex<Vec<Option<Read<Outcomes>>>>,
    bar: &'a Steps,
    interrupt: &'a Interrupt,
}

impl Work<'_> {
    /// Processes images until there are none left.
    fn until_done(&self, engine: Option<Engine>, options: EngineOptions) -> Result<(), Stop> {
        let mut engine = match engine {
            Some(engine) => engine,
            None => Engine::load(&self.args.model.model, options)?,
        };
        loop {
            let index = self.next.fetch_add(1, Relaxed);
            if index >= self.items.len() {
                return Ok(());
            }
            if self.interrupt.raised() {
                return Err(Stop::Interrupted);
            }
            let outcomes = match self.missing(&mut engine, index)? {
                Ok(missing) => Ok(self.together(index, missing)?),
                Err(why) => Err(why),
            };
            let mut done = self.done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            done[index] = Some(outcomes);
            self.bar.begin(&so_far(&done));
            self.bar.end();
        }
    }

    /// Merges known and new outcomes of an image, and records the new ones.
    fn together(&self, index: usize, missing: Vec<New>) -> Result<Outcomes, Stop> {
        let mut grid = self.known[index].clone();
        let new: Vec<_> = missing
            .iter()
            .filter(|(row, question, _)| grid[*row][*question].is_none())
            .map(|(row, question, outcome)| (*row, *question, outcome))
            .collect();
        self.records.add(&self.items[index], &new)?;
        for (row, question, outcome) in missing {
            grid[row][question].get_or_insert(outcome);
        }
        Ok(grid.into_iter().map(|row| row.into_iter().flatten().collect()).collect())
    }

    /// Computes the missing outcomes of an image, with the numbers of selection and question. The inner error means
    /// that the image cannot be read.
    fn missing(&self, engine: &mut Engine, index: usize) -> Result<Read<Vec<New>>, Stop> {
        let (item, known) = (&self.items[index], &self.known[index]);
        let rows: Vec<usize> = (0..known.len()).filter(|&row| known[row].contains(&None)).collect();
        let questions: Vec<usize> = (0..item.questions.len())
            .filter(|&question| known.iter().any(|row| row[question].is_none()))
            .collect();
        if rows.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let (name, bytes) = match read_image(&item.image, self.args.device.max_pixels) {
            Ok(read) => read,
            Err(Stop::Failed(why)) => return Ok(Err(why)),
            Err(other) => return Err(other),
        };
        let request = |question: &usize| {
            Request::new(&item.questions[*question].prompt[..])
                .with_max_new_tokens(self.args.max_new_tokens)
        };
        let requests: Vec<Request> = questions.iter().map(request).collect();
        let selections: Vec<Selection> =
            rows.iter().map(|&row| self.selections[row].clone()).collect();
        let go_on = || match self.interrupt.raised() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let image = Image::encoded(name, bytes);
        let answers = match engine.sweep(&image, &requests, &selections, go_on) {
            Ok(answers) => answers,
            Err(error @ hired::Error::Image { .. }) => return Ok(Err(error.to_string())),
            // The error does not name the question, so the message lists the candidates.
            Err(
                error @ (hired::Error::Request(_)
                | hired::Error::Capacity(_)
                | hired::Error::Context { .. }),
            ) => {
                let what = error.to_string();
                let about = |&&question: &&usize| {
                    let prompt = &item.questions[question].prompt;
                    !what.contains("`<image>`") || prompt.contains("<image>")
                };
                let asked =
                    questions.iter().filter(about).map(|&question| item.questions[question].line);
                return Err(Stop::Failed(format!(
                    "{}: {} ({}): {what}",
                    self.args.questions.display(),
                    one_of(&asked.collect::<Vec<_>>()),
                    item.name
                )));
            }
            Err(error) => return Err(error.into()),
        };
        let mut outcomes = Vec::new();
        for (&row, answers) in rows.iter().zip(answers) {
            for (&question, answer) in questions.iter().zip(answers) {
                let score = self.args.metric.score(&answer.text, &item.questions[question].right);
                let visual_tokens = answer.visual.map_or(0, |visual| visual.tokens());
                let (prediction, tokens) = (answer.text, answer.token_ids.len());
                let outcome = Outcome { prediction, score, visual_tokens, tokens };
                outcomes.push((row, question, outcome));
            }
        }
        Ok(Ok(outcomes))
    }
}
