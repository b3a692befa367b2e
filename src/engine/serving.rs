//! Requests on their way: begun one after the other, answered together.

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

/// A request that may be begun.
pub(super) struct Job<'p> {
    pub number: usize,
    pub prepared: Cow<'p, Prepared>,
    /// From when on its times count.
    pub start: Instant,
    /// What it will take; `None` where that is taken already.
    pub forecast: Option<Forecast>,
}

/// What there is to begin.
pub(super) enum Next<'p> {
    /// This, now.
    Begin(Box<Job<'p>>),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Over,
}

/// Where a session takes requests from and hands answers to.
pub(super) trait Desk<'p> {
    /// The next request, while so many are being answered; `fits` tells whether there is memory for one beside them. May
    /// wait when none are.
    ///
    /// # Errors
    /// What ends all of them.
    fn next(&mut self, live: usize, fits: &dyn Fn(&Forecast) -> bool) -> Result<Next<'p>>;
    /// Takes news.
    fn hear(&mut self, event: Event<'_>) -> ControlFlow<()>;
    /// Whether a request is to end where it is.
    fn is_stopped(&self, number: usize) -> bool;
    /// Takes what a request has come to.
    ///
    /// # Errors
    /// When that ends the others too.
    fn ended(&mut self, number: usize, outcome: Result<Answer>) -> Result<()>;
    /// Rows of prompts and images that may be computed between two tokens of those who have begun; `None`: all there are.
    fn stall(&self) -> Option<usize>;
    /// Hears of the pages of the cache.
    fn pages(&mut self, _: Count) {}
    /// Hears how much of a request was there already.
    fn reused(&mut self, _: Reused) {}
}

impl<O: Ops> Session<O> {
    /// Answers requests until there are no more.
    ///
    /// # Errors
    /// What the desk says ends all of them. Sequences are then still there.
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
                    // Those who have begun get a token between two prompts, unless all begin first.
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

    /// Begins a request; it joins the company, or ends.
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
                // What failed is no longer under way. If this fails too, the first failure is the one to tell.
                let _ = self.runner.ops.enter(Stage::Idle);
                if let Ok(clock) = self.runner.ops.clock() {
                    clock.restart();
                }
                desk.pages(self.runner.pools.count());
                desk.ended(job.number, Err(error))
            }
        }
    }

    /// Runs a request up to its first token; the sequence then has the `tables`. The company goes on meanwhile, as far as
    /// the desk asks for it.
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
        // The executor learns that a request begins.
        let workspace = runner.ops.meter().held(Purpose::Workspace);
        if workspace > 0 {
            runner.ops.reserve(Purpose::Workspace, workspace)?;
        }
        // Where the number of rows shows on the way, an executor works differently until the first token.
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
        // Before the token is told: this is where scores that are none come to light.
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
                // The pages go back with the tables.
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

    /// Where the time up to the first token went, and the intermediate results if they are asked for.
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
