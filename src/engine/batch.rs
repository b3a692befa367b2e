//! Serves a batch whose memory is already allocated: all its requests are prefilled before decoding begins.

use super::admission::Forecast;
use super::answer::{Answer, Event};
use super::company;
use super::prepare::Prepared;
use super::serving::{Desk, Job, Next};
use super::session::{Listener, Session};
use crate::model::vit::Survey;
use crate::ops::Ops;
use crate::{Error, Result};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Instant;

/// Which requests end when one of them fails or is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// All requests of the batch.
    Shared,
    /// Only the one that failed.
    Own,
}

impl Fate {
    /// Returns true if a failure of this kind leaves the other requests intact.
    fn spares_others(self, error: &Error) -> bool {
        let is_its_own = matches!(
            error,
            Error::Cancelled
                | Error::Numeric(_)
                | Error::Request(_)
                | Error::Context { .. }
                | Error::Image { .. }
        );
        self == Self::Own && is_its_own
    }
}

struct Batch<'p, 'l> {
    batch: &'p [Prepared],
    begun: usize,
    start: Instant,
    fate: Fate,
    on_event: &'l mut Listener<'l>,
    is_stopped: bool,
    outcomes: Vec<Option<Result<Answer>>>,
}

impl<'p> Desk<'p> for Batch<'p, '_> {
    fn next(&mut self, _: usize, _: &dyn Fn(&Forecast) -> bool) -> Result<Next<'p>> {
        let Some(prepared) = self.batch.get(self.begun) else { return Ok(Next::Over) };
        if self.is_stopped {
            return Err(Error::Cancelled);
        }
        let number = self.begun;
        self.begun += 1;
        let (prepared, start) = (Cow::Borrowed(prepared), self.start);
        Ok(Next::Begin(Box::new(Job { number, prepared, start, forecast: None })))
    }

    fn hear(&mut self, event: Event<'_>) -> ControlFlow<()> {
        let flow = (self.on_event)(event);
        self.is_stopped |= flow.is_break() && self.fate == Fate::Shared;
        flow
    }

    fn is_stopped(&self, _: usize) -> bool {
        self.is_stopped
    }

    fn ended(&mut self, number: usize, outcome: Result<Answer>) -> Result<()> {
        match outcome {
            Err(error) if !self.fate.spares_others(&error) => Err(error),
            outcome => {
                self.outcomes[number] = Some(outcome);
                Ok(())
            }
        }
    }

    fn stall(&self) -> Option<usize> {
        None
    }
}

impl<O: Ops> Session<O> {
    /// Runs a planned batch to its end and returns the outcomes in the order of the requests. A single request can
    /// only fail on its own with [`Fate::Own`].
    pub(super) fn serve(
        &mut self,
        batch: &[Prepared],
        survey: Option<&Survey<O>>,
        start: Instant,
        fate: Fate,
        predicted_peak: usize,
        on_event: &mut Listener<'_>,
    ) -> Result<Vec<Result<Answer>>> {
        let outcomes = batch.iter().map(|_| None).collect();
        let mut hear = |event: Event<'_>| on_event(event);
        let mut desk = Batch {
            batch,
            begun: 0,
            start,
            fate,
            on_event: &mut hear,
            is_stopped: false,
            outcomes,
        };
        self.run(&mut desk, survey, predicted_peak)?;
        // The memory of the whole batch.
        let memory = company::memory(self.runner.ops.meter(), predicted_peak);
        let outcomes = desk.outcomes.into_iter().flatten();
        Ok(outcomes.map(|outcome| outcome.map(|answer| Answer { memory, ..answer })).collect())
    }
}
