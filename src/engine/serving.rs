//! A planned batch, from its pictures to the last token of its answers.

use super::answer::{Event, FinishReason, Timings, Visual};
use super::drawing::Turn;
use super::prepare::Prepared;
use super::sequence::Sequence;
use super::session::{Begun, Listener, Session};
use crate::kv::Tables;
use crate::model::vit::Survey;
use crate::ops::clock::Stage;
use crate::ops::{Chosen, DECODE_ROWS, Ops};
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::time::Instant;

/// What ends with a request that fails or is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// All of its batch.
    Shared,
    /// It alone.
    Own,
}

impl Fate {
    /// Whether a failure of this kind leaves the other requests as they are.
    fn spares_others(self, error: &Error) -> bool {
        let is_its_own = matches!(
            error,
            Error::Cancelled | Error::Numeric(_) | Error::Request(_) | Error::Image { .. }
        );
        self == Self::Own && is_its_own
    }

    /// What the others hear of an event's answer.
    fn heard_by_others(self, flow: ControlFlow<()>) -> ControlFlow<()> {
        if self == Self::Own { ControlFlow::Continue(()) } else { flow }
    }
}

impl<O: Ops> Session<O> {
    /// Runs a planned batch to its end; what requests come to, in their order. Only requests of their own [`Fate`] fail
    /// by themselves.
    pub(super) fn serve(
        &mut self,
        batch: &[Prepared],
        survey: Option<&Survey<O>>,
        start: Instant,
        fate: Fate,
        on_event: &mut Listener<'_>,
    ) -> Result<Vec<Result<Begun>>> {
        let mut all = Vec::with_capacity(batch.len());
        let mut flow = ControlFlow::Continue(());
        for (index, prepared) in batch.iter().enumerate() {
            if flow.is_break() {
                return Err(Error::Cancelled);
            }
            let mut tables = self.runner.pools.tables();
            match self.begin(index, prepared, survey, start, &mut tables, on_event) {
                Ok((begun, after)) => {
                    all.push(Ok(begun));
                    flow = fate.heard_by_others(after);
                }
                Err(error) if fate.spares_others(&error) => {
                    self.runner.pools.release(tables);
                    self.runner.ops.enter(Stage::Idle)?;
                    self.runner.ops.clock()?.restart();
                    all.push(Err(error));
                }
                Err(error) => return Err(error),
            }
        }
        let mut begun: Vec<&mut Begun> = all.iter_mut().flatten().collect();
        self.decode(&mut begun, flow, start, fate, on_event)?;
        Ok(all)
    }

    /// Runs a request up to its first token; the sequence then has the `tables`.
    fn begin(
        &mut self,
        index: usize,
        prepared: &Prepared,
        survey: Option<&Survey<O>>,
        start: Instant,
        tables: &mut Tables,
        on_event: &mut Listener<'_>,
    ) -> Result<(Begun, ControlFlow<()>)> {
        let runner = &mut self.runner;
        let mut progress =
            |stage, done, all| on_event(Event::Progress { request: index, stage, done, all });
        let mut encoded = Vec::with_capacity(prepared.images.len());
        for image in &prepared.images {
            let norm = &self.preparer.normalization;
            encoded.push(runner.encode(image, norm, survey, &mut progress)?);
        }
        let prefilled = runner.prefill(prepared, &encoded, tables, &mut progress)?;
        let before = prepared.penalized(self.preparer.config.image_token);
        let turn = Turn { sampling: prepared.sampling, before: &before, tokens: &[] };
        let first = runner.draw(&prefilled.logits, &[turn])?[0];
        runner.ops.enter(Stage::Idle)?;
        // Before the token is told: this is where scores that are none come to light.
        let mut visuals = Vec::with_capacity(encoded.len());
        for (image, encoded) in prepared.images.iter().zip(&encoded) {
            let kept = runner.ops.kept(&encoded.kept)?;
            let retained = prefilled.retained.as_ref();
            let rows = retained.map(|rows| runner.ops.retained(rows)).transpose()?;
            visuals.push(match rows {
                Some(rows) => Visual::thinned(&image.plan, &kept, prepared.texts[0].len(), &rows),
                None => Visual::new(&image.plan, kept),
            });
        }

        let mut sequence = Sequence::new(
            index,
            std::mem::take(tables),
            &self.preparer.tokenizer,
            prepared,
            before,
            if prepared.ignore_eos { Vec::new() } else { self.preparer.config.eos.clone() },
        );
        let flow = sequence.push(first, start, on_event)?;
        let runner = &mut self.runner;
        let clock = runner.ops.clock()?;
        let mut seconds = |stage| clock.take(stage).as_secs_f64();
        let timings = Timings {
            load: self.load.as_secs_f64(),
            preprocess: prepared.took.as_secs_f64(),
            upload: seconds(Stage::Upload),
            vision: seconds(Stage::Vision),
            select: seconds(Stage::Select),
            project: seconds(Stage::Project),
            prefill: seconds(Stage::Prefill),
            ttft: sequence.ttft.as_secs_f64(),
            ..Timings::default()
        };
        let stages = if prepared.keep_stages {
            let rows = prefilled.visual_rows.as_ref();
            Some(self.stages(prepared, &encoded, rows, &prefilled.logits)?)
        } else {
            None
        };
        let prompt_tokens = prefilled.tokens;
        let host_round_trip = encoded.iter().any(|encoded| encoded.kept.synchronized());
        Ok((Begun { sequence, prompt_tokens, visuals, host_round_trip, timings, stages }, flow))
    }

    /// Draws tokens until every answer has ended.
    fn decode(
        &mut self,
        begun: &mut [&mut Begun],
        mut flow: ControlFlow<()>,
        start: Instant,
        fate: Fate,
        on_event: &mut Listener<'_>,
    ) -> Result<()> {
        loop {
            let mut live: Vec<&mut Sequence> = Vec::new();
            for sequence in begun.iter_mut().map(|b| &mut b.sequence) {
                if flow.is_break() && sequence.finished.is_none() {
                    let _ = sequence.finish(FinishReason::Cancelled, on_event)?;
                }
                match sequence.finished {
                    Some(_) => {
                        self.runner.pools.release(std::mem::take(&mut sequence.tables));
                    }
                    None => live.push(sequence),
                }
            }
            if live.is_empty() {
                self.runner.ops.enter(Stage::Idle)?;
                return Ok(());
            }
            for group in live.chunks_mut(DECODE_ROWS) {
                let mut rows: Vec<(u32, &mut Tables)> = group
                    .iter_mut()
                    .map(|s| (*s.tokens.last().expect("begun with a token"), &mut s.tables))
                    .collect();
                let logits = self.runner.step(&mut rows)?;
                let turns: Vec<Turn<'_>> = group.iter().map(|s| s.turn()).collect();
                let tokens = self.runner.draw(&logits, &turns)?;
                for (sequence, token) in group.iter_mut().zip(tokens) {
                    let after = sequence.push(token, start, on_event)?;
                    if fate.heard_by_others(after).is_break() {
                        flow = ControlFlow::Break(());
                    }
                }
            }
        }
    }
}
