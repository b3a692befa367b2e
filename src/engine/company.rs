//! The running requests: each gets one more token per decode step.

use super::answer::{Answer, FinishReason, Memory};
use super::drawing::Turn;
use super::runner::Lent;
use super::sequence::Sequence;
use super::serving::Desk;
use super::session::Begun;
use crate::kv::Tables;
use crate::ops::clock::Stage;
use crate::ops::memory::{Meter, Purpose};
use crate::ops::{DECODE_ROWS, Ops};
use crate::{Error, Result};
use std::time::Instant;

/// The requests that have their first token.
pub(super) struct Company {
    members: Vec<Member>,
    /// Prompt rows of other requests computed since the last decode step.
    waited: f64,
    predicted_peak: usize,
}

/// One running request.
pub(super) struct Member {
    pub number: usize,
    pub start: Instant,
    pub begun: Begun,
    /// The most pages of each group that it may use; empty if pages are not counted.
    pub pages: Vec<usize>,
    pub failed: Option<Error>,
}

impl Member {
    fn is_over(&self) -> bool {
        self.failed.is_some() || self.begun.sequence.finished.is_some()
    }
}

impl Company {
    pub fn new(predicted_peak: usize) -> Self {
        Self { members: Vec::new(), waited: 0.0, predicted_peak }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The most pages of a group that all members together may use.
    pub fn pages(&self, group: usize) -> usize {
        self.members.iter().filter_map(|member| member.pages.get(group)).sum()
    }

    pub fn join(&mut self, member: Member) {
        self.members.push(member);
    }

    /// Raises the predicted peak memory.
    pub fn predict(&mut self, peak: usize) {
        self.predicted_peak = self.predicted_peak.max(peak);
    }

    /// Called between two layers of another request's prefill, which has computed `rows` more rows. Cancelled members
    /// leave; once the members have waited for `stall` rows they take a decode step. Returns true if they did.
    pub fn between<O: Ops>(
        &mut self,
        lent: &mut Lent<'_, O>,
        desk: &mut dyn Desk<'_>,
        rows: f64,
        stall: Option<usize>,
    ) -> Result<bool> {
        self.leave(lent, desk)?;
        self.waited += rows;
        let is_due = stall.is_some_and(|stall| self.waited >= stall as f64);
        if !is_due || self.is_empty() {
            return Ok(false);
        }
        self.advance(lent, desk)?;
        Ok(true)
    }

    /// Generates one more token for each member and removes those that have ended.
    pub fn advance<O: Ops>(
        &mut self,
        lent: &mut Lent<'_, O>,
        desk: &mut dyn Desk<'_>,
    ) -> Result<()> {
        self.waited = 0.0;
        self.leave(lent, desk)?;
        for group in self.members.chunks_mut(DECODE_ROWS) {
            match step(lent, group) {
                Ok(tokens) => {
                    for (member, token) in group.iter_mut().zip(tokens) {
                        let hear = &mut |event: super::Event<'_>| desk.hear(event);
                        let sequence = &mut member.begun.sequence;
                        let pushed =
                            token.and_then(|token| sequence.push(token, member.start, hear));
                        member.failed = pushed.err();
                    }
                }
                // The failure cannot be attributed to one member, and their progress is unknown.
                Err(error) => {
                    let _ = lent.ops.enter(Stage::Idle);
                    group.iter_mut().for_each(|member| member.failed = Some(error.again()));
                }
            }
        }
        self.leave(lent, desk)
    }

    /// Removes members that have ended or were cancelled: their pages are freed at once and the outcome is reported
    /// to the desk.
    pub fn leave<O: Ops>(&mut self, lent: &mut Lent<'_, O>, desk: &mut dyn Desk<'_>) -> Result<()> {
        let mut index = 0;
        while let Some(member) = self.members.get_mut(index) {
            if !member.is_over() && desk.is_stopped(member.number) {
                let sequence = &mut member.begun.sequence;
                let ended = sequence.finish(FinishReason::Cancelled, &mut |event| desk.hear(event));
                member.failed = ended.err();
            }
            if !member.is_over() {
                index += 1;
                continue;
            }
            let mut member = self.members.remove(index);
            lent.pools.release(std::mem::take(&mut member.begun.sequence.tables));
            desk.pages(lent.pools.count());
            let outcome = match member.failed {
                Some(error) => Err(error),
                None => Ok(told(member.begun, memory(lent.ops.meter(), self.predicted_peak))),
            };
            desk.ended(member.number, outcome)?;
        }
        Ok(())
    }
}

/// The next token of each member of a group.
fn step<O: Ops>(lent: &mut Lent<'_, O>, group: &mut [Member]) -> Result<Vec<Result<u32>>> {
    let mut rows: Vec<(u32, &mut Tables)> = group
        .iter_mut()
        .map(|member| {
            let Sequence { tokens, tables, .. } = &mut member.begun.sequence;
            (*tokens.last().expect("begun with a token"), tables)
        })
        .collect();
    let logits = lent.step(&mut rows)?;
    let turns: Vec<Turn<'_>> = group.iter().map(|member| member.begun.sequence.turn()).collect();
    lent.draw_each(&logits, &turns)
}

/// The memory that an executor has allocated.
pub(super) fn memory(meter: &Meter, predicted_peak: usize) -> Memory {
    Memory {
        weights: meter.held(Purpose::Weights),
        mapped: meter.mapped(),
        kv: meter.held(Purpose::Kv),
        workspace: meter.most(Purpose::Workspace),
        other: 0,
        peak: meter.peak(),
        predicted_peak,
    }
}

/// The answer of a request that has ended.
fn told(begun: Begun, memory: Memory) -> Answer {
    let Begun { sequence, prompt_tokens, visuals, host_round_trip, mut timings, stages, reused } =
        begun;
    timings.decode = sequence.decode_time().as_secs_f64();
    let more = sequence.tokens.len() - 1;
    timings.decode_tokens_per_second =
        (more > 0 && timings.decode > 0.0).then(|| more as f64 / timings.decode);
    Answer {
        text: sequence.text,
        finish_reason: sequence.finished.unwrap_or(FinishReason::Cancelled),
        token_ids: sequence.tokens,
        prompt_tokens,
        cached_tokens: reused.rows,
        cached_images: reused.known_images,
        visual: visuals.first().cloned(),
        visuals,
        host_round_trip,
        timings,
        memory,
        stages,
    }
}
