//! Measures one row of the table.

use super::args::BenchArgs;
use super::row::{Row, Sample};
use crate::cli::Stop;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::print;
use crate::cli::progress::{self, Steps};
use crate::cli::values::TypedBudget;
use hired::engine::{Answer, Engine, Entry, Image, Prompt, Request};
use hired::select::Method;
use std::ops::ControlFlow;

/// Tokens of the warm-up answer: on a GPU the second decode step is recorded as a CUDA graph.
const WARM_TOKENS: usize = 4;

/// An engine and the requests to measure.
pub struct Bench<'a> {
    engine: &'a mut Engine,
    args: &'a BenchArgs,
    image: Image,
    interrupt: &'a Interrupt,
    steps: Steps,
}

impl<'a> Bench<'a> {
    pub fn new(
        engine: &'a mut Engine,
        args: &'a BenchArgs,
        image: Image,
        interrupt: &'a Interrupt,
    ) -> Self {
        let all = args.asked().len() * args.batch.len() * (args.reps + 1);
        Self { engine, args, image, interrupt, steps: progress::steps(all) }
    }

    /// The requests of one row.
    pub fn requests(&self, method: Method, budget: &TypedBudget, batch: usize) -> Vec<Request> {
        vec![self.request(method, budget); batch]
    }

    /// Measures the requests of a row. If they do not fit into memory, the row records that.
    pub fn measure(&mut self, row: &mut Row, requests: &[Request]) -> Result<(), Stop> {
        // Memory that an earlier row allocated must not count towards this one.
        self.engine.release()?;
        let samples = self.samples(requests, row);
        match samples {
            Ok(samples) => row.fill(&samples),
            Err(Stop::Failed(why)) if !self.interrupt.raised() => row.failure = Some(why),
            Err(stop) => return Err(stop),
        }
        Ok(())
    }

    /// Advances the progress to the end of a row, measured or restored.
    pub fn end_row(&mut self, text: &str) -> Result<(), Stop> {
        self.steps.skip_to_row_end(self.args.reps + 1);
        self.steps.aside(|| print(text))
    }

    fn samples(&mut self, requests: &[Request], row: &mut Row) -> Result<Vec<Sample>, Stop> {
        let warm: Vec<Request> = requests
            .iter()
            .map(|r| r.clone().with_max_new_tokens(r.max_new_tokens.min(WARM_TOKENS)))
            .collect();
        self.run(&warm, row)?;
        let mut samples = Vec::with_capacity(self.args.reps);
        for _ in 0..self.args.reps {
            let answers = self.run(requests, row)?;
            row.describe(&answers[0]);
            samples.push(Sample::of(&answers));
        }
        Ok(samples)
    }

    fn run(&mut self, requests: &[Request], row: &Row) -> Result<Vec<Answer>, Stop> {
        self.steps.begin(&format!("{} × {}", row.name, row.batch));
        self.interrupt.heed();
        let interrupt = self.interrupt;
        let answers = self.engine.generate_batch(requests, |_| match interrupt.raised() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        if interrupt.raised() {
            return Err(Stop::Interrupted);
        }
        self.steps.end();
        Ok(answers?)
    }

    /// Profiles the kernels of the requests. A few tokens are enough, because all decode steps are alike.
    pub fn profile(&mut self, requests: &[Request]) -> Result<Vec<Entry>, Stop> {
        let few: Vec<Request> = requests
            .iter()
            .map(|r| r.clone().with_max_new_tokens(r.max_new_tokens.min(WARM_TOKENS)))
            .collect();
        if self.interrupt.raised() {
            return Err(Stop::Interrupted);
        }
        let (_, entries) = self.engine.profile(&few)?;
        Ok(entries)
    }

    /// A prompt with the requested number of text tokens around the image, answered up to the last requested token.
    fn request(&self, method: Method, budget: &TypedBudget) -> Request {
        let config = self.engine.config();
        let words = (0..self.args.prompt_tokens).map(|i| {
            // Any ids of ordinary tokens do; the first few of a vocabulary are special.
            let id = 300 + i as u32 % 100;
            let id = id % config.text.vocab as u32;
            if id == config.image_token { id + 1 } else { id }
        });
        let mut ids: Vec<u32> = words.collect();
        ids.insert(ids.len() / 2, config.image_token);
        Request::new(Prompt::Ids(ids))
            .with_image(self.image.clone())
            .with_selection(self.args.selection.with(budget.budget).with_method(method))
            .with_max_new_tokens(self.args.new_tokens)
            .with_ignore_eos(true)
    }
}
