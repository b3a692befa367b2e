//! The main loop: starts requests one after the other and decodes them together.

use super::admission::Forecast;
use super::answer::{Answer, Event, Stages, Timings, Visual};
use super::cache::{Reused, cuts};
use super::company::{Company, Member};
use super::drawing::Turn;
use super::prepare::Prepared;
use super::runner::{Lent, Prefilled};
use super::sequence::Sequence;
use super::session::{Begun, Session};
use crate::Result;
use crate::kv::{Count, Tables};
use crate::model::vit::{Encoded, Survey};
use crate::ops::clock::Stage;
use crate::ops::memory::Purpose;
use crate::ops::{Chosen, Ops};
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Instant;

/// A request that is ready to start.
pub(super) struct Job<'p> {
    pub number: usize,
    pub prepared: Cow<'p, Prepared>,
    /// The time from which its durations are measured.
    pub start: Instant,
    /// Its predicted memory; `None` if the memory is already allocated.
    pub forecast: Option<Forecast>,
}

/// What the loop should do next.
pub(super) enum Next<'p> {
    /// Start this request.
    Begin(Box<Job<'p>>),
    /// No request is ready yet.
    Nothing,
    /// No further request will come.
    Over,
}

/// The interface through which a session receives requests and returns answers.
pub(super) trait Desk<'p> {
    /// The next request, given the number of running ones; `fits` tells whether there is memory for another. May
    /// block if none is running.
    ///
    /// # Errors
    /// An error that ends all requests.
    fn next(&mut self, live: usize, fits: &dyn Fn(&Forecast) -> bool) -> Result<Next<'p>>;
    /// Receives an event.
    fn hear(&mut self, event: Event<'_>) -> ControlFlow<()>;
    /// Returns true if a request should be cancelled.
    fn is_stopped(&self, number: usize) -> bool;
    /// Receives the outcome of a request.
    ///
    /// # Errors
    /// An error that ends the other requests too.
    fn ended(&mut self, number: usize, outcome: Result<Answer>) -> Result<()>;
    /// The most rows of prompts and images that may be computed between two tokens of running requests; `None`: no
    /// limit.
    fn stall(&self) -> Option<usize>;
    /// Receives the state of the cache's pages.
    fn pages(&mut self, _: Count) {}
    /// Receives how much of a request was reused.
    fn reused(&mut self, _: Reused) {}
}

impl<O: Ops> Session<O> {
    /// Serves requests until there are no more.
    ///
    /// # Errors
    /// An error of the desk, which ends all requests. The sequences then still hold their pages.
    pub(super) fn run<'p>(
        &mut self,
        desk: &mut dyn Desk<'p>,
        survey: Option<&Survey<O>>,
        predicted_peak: usize,
    ) -> Result<()> {
        let mut company = Company::new(predicted_peak);
        loop {
            let next = desk.next(company.len(), &|forecast| self.fits(forecast, &company))?;
            match next {
                Next::Begin(job) => {
                    self.admit(&job, survey, &mut company, desk)?;
                    // Running requests take a decode step between two prompts, unless all prompts come first.
                    if desk.stall().is_none() {
                        continue;
                    }
                }
                Next::Over if company.is_empty() => break,
                Next::Nothing | Next::Over => {}
            }
            company.advance(&mut self.runner.lend(), desk)?;
        }
        self.runner.ops.enter(Stage::Idle)
    }

    /// Starts a request, which then joins the running ones or ends at once.
    fn admit<'p>(
        &mut self,
        job: &Job<'p>,
        survey: Option<&Survey<O>>,
        company: &mut Company,
        desk: &mut dyn Desk<'p>,
    ) -> Result<()> {
        let pages = match self.make_room(job, company) {
            Ok(pages) => pages,
            Err(error) => return desk.ended(job.number, Err(error)),
        };
        let mut tables = self.runner.pools.tables();
        let begun = self.begin(job, survey, &mut tables, company, desk);
        desk.pages(self.runner.pools.count());
        match begun {
            Ok(begun) => {
                company.join(Member {
                    number: job.number,
                    start: job.start,
                    begun,
                    pages,
                    failed: None,
                });
                company.leave(&mut self.runner.lend(), desk)
            }
            Err(error) => {
                self.runner.pools.release(tables);
                // Leaves the stage that failed. If this fails too, the first error is the one to report.
                let _ = self.runner.ops.enter(Stage::Idle);
                if let Ok(clock) = self.runner.ops.clock() {
                    clock.restart();
                }
                desk.pages(self.runner.pools.count());
                desk.ended(job.number, Err(error))
            }
        }
    }

    /// Runs a request up to its first token; the sequence then owns `tables`. Running requests take decode steps in
    /// between as often as the desk demands.
    fn begin<'p>(
        &mut self,
        job: &Job<'p>,
        survey: Option<&Survey<O>>,
        tables: &mut Tables,
        company: &mut Company,
        desk: &mut dyn Desk<'p>,
    ) -> Result<Begun> {
        let Job { number, prepared, start, .. } = job;
        let (mut found, mut reused) = self.look_up(job)?;
        if let Some((name, _)) = found.beginning
            && !self.runner.pools.reuse(name, tables)
        {
            found.beginning = None;
        }
        let keeps = job.forecast.as_ref().is_some_and(|forecast| forecast.keeps);
        let (runner, norm) = (&mut self.runner, &self.preparer.normalization);
        // Tells the executor that a request begins.
        let workspace = runner.ops.meter().held(Purpose::Workspace);
        if workspace > 0 {
            runner.ops.reserve(Purpose::Workspace, workspace)?;
        }
        // If the number of kept rows is only known during the computation, executors use other code paths up to the
        // first token.
        let is_exact = prepared.images.iter().all(|image| image.plan.is_exact());
        let stall = desk.stall().filter(|_| is_exact);
        let mut broken = None;
        let image_rows = Cell::new(0);
        let mut between = |mut lent: Lent<'_, O>, stage, done, all: usize| {
            let flow = desk.hear(Event::Progress { request: *number, stage, done, all });
            if flow.is_break() {
                return flow;
            }
            let rows = match stage {
                Stage::Prefill => prepared.prompt_tokens() - found.rows(),
                _ => image_rows.get(),
            };
            let gone_on = company.between(&mut lent, desk, rows as f64 / all as f64, stall);
            match gone_on.and_then(|worked| if worked { lent.ops.enter(stage) } else { Ok(()) }) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    broken = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let mut outcome = (|| {
            let mut encoded = Vec::with_capacity(prepared.images.len());
            for (index, image) in prepared.images.iter().enumerate() {
                let geometry = &image.plan.geometry;
                image_rows.set(geometry.partitions() * geometry.tower_stride());
                encoded.push(match keeps {
                    true => {
                        let known = found.picture(index);
                        runner.encode_to_keep(image, norm, known, &mut between)?
                    }
                    false => runner.encode(image, norm, survey, &mut between)?,
                });
            }
            let cuts = if keeps { cuts(prepared) } else { Vec::new() };
            let prefilled = runner.prefill(prepared, &encoded, tables, &cuts, &mut between)?;
            Ok((encoded, prefilled))
        })();
        if let Some(error) = broken {
            outcome = Err(error);
        }
        let (encoded, prefilled) = outcome?;
        let before = prepared.penalized(self.preparer.config.image_token);
        let turn = Turn { sampling: prepared.sampling, before: &before, tokens: &[] };
        let first = runner.lend().draw(&prefilled.logits, &[turn])?[0];
        runner.ops.enter(Stage::Idle)?;
        // Read before the token is reported, because this detects scores that are not finite.
        let (mut visuals, mut chosen) = (Vec::new(), Vec::new());
        for (image, encoded) in prepared.images.iter().zip(&encoded) {
            let kept = runner.ops.kept(&encoded.kept)?;
            if keeps {
                chosen.push(kept.clone());
            }
            let retained = prefilled.retained.as_ref();
            let rows = retained.map(|rows| runner.ops.retained(rows)).transpose()?;
            visuals.push(match rows {
                Some(rows) => Visual::thinned(&image.plan, &kept, prepared.texts[0].len(), &rows),
                None => Visual::of_some(&image.plan, kept, encoded.partitions.as_deref()),
            });
        }

        let mut sequence = Sequence::new(
            *number,
            std::mem::take(tables),
            &self.preparer.tokenizer,
            prepared,
            before,
            if prepared.ignore_eos { Vec::new() } else { self.preparer.config.eos.clone() },
        );
        let pushed = sequence.push(first, *start, &mut |event| desk.hear(event));
        let begun = pushed
            .and_then(|_| self.remember(job, &found, &encoded, chosen, &sequence.tables))
            .and_then(|()| self.accounts(prepared, &encoded, &prefilled));
        let (timings, stages) = match begun {
            Ok((timings, stages)) => {
                (Timings { ttft: sequence.ttft.as_secs_f64(), ..timings }, stages)
            }
            Err(error) => {
                // The caller frees the pages with the tables.
                *tables = sequence.tables;
                return Err(error);
            }
        };
        reused.bytes = self.caches.pictures.bytes();
        desk.reused(reused);
        let prompt_tokens = prefilled.tokens;
        let host_round_trip = encoded.iter().any(|encoded| encoded.kept.synchronized());
        Ok(Begun { sequence, prompt_tokens, visuals, host_round_trip, timings, stages, reused })
    }

    /// The timings up to the first token, and the intermediate results if requested.
    fn accounts(
        &mut self,
        prepared: &Prepared,
        encoded: &[Encoded<O>],
        prefilled: &Prefilled<O>,
    ) -> Result<(Timings, Option<Stages>)> {
        let clock = self.runner.ops.clock()?;
        let mut seconds = |stage| clock.take(stage).as_secs_f64();
        let timings = Timings {
            load: self.load.as_secs_f64(),
            preprocess: prepared.took.as_secs_f64(),
            upload: seconds(Stage::Upload),
            vision: seconds(Stage::Vision),
            select: seconds(Stage::Select),
            project: seconds(Stage::Project),
            prefill: seconds(Stage::Prefill),
            ..Timings::default()
        };
        let rows = prefilled.visual_rows.as_ref();
        let stages =
            prepared.keep_stages.then(|| self.stages(prepared, encoded, rows, &prefilled.logits));
        Ok((timings, stages.transpose()?))
    }
}
