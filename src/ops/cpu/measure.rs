//! Time on the CPU, by stage and by operation.

use super::{Cpu, ceiling};
use crate::Result;
use crate::ops::MeasureOps;
use crate::ops::ceiling::Ceiling;
use crate::ops::clock::{Clock, Stage};
use crate::ops::cost::Cost;
use crate::ops::profile::Entry;
use std::time::Instant;

/// A recording of operations.
#[derive(Debug)]
pub struct Profile {
    start: Instant,
    entries: Vec<Entry>,
}

impl MeasureOps for Cpu {
    fn enter(&mut self, stage: Stage) -> Result<()> {
        self.clock.enter(stage);
        self.layer = None;
        Ok(())
    }

    fn layer(&mut self, index: Option<usize>) {
        self.layer = index;
    }

    fn profile(&mut self) -> Result<()> {
        self.profile = Some(Profile { start: Instant::now(), entries: Vec::new() });
        Ok(())
    }

    fn profiled(&mut self) -> Result<Vec<Entry>> {
        Ok(self.profile.take().map_or_else(Vec::new, |profile| profile.entries))
    }

    fn record_attention(&mut self) {
        self.attended = Some(Vec::new());
    }

    fn recorded_attention(&mut self) -> Vec<Vec<f32>> {
        self.attended.take().unwrap_or_default()
    }

    fn ceiling(&mut self) -> Result<Ceiling> {
        Ok(ceiling::measure())
    }

    fn clock(&mut self) -> Result<&mut Clock> {
        Ok(&mut self.clock)
    }
}

impl Cpu {
    /// Runs an operation, and records it while a recording runs.
    pub(super) fn timed<T>(
        &mut self,
        name: &'static str,
        cost: impl FnOnce() -> Cost,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if self.profile.is_none() {
            return work(self);
        }
        let begun = Instant::now();
        let done = work(self)?;
        let took = begun.elapsed();
        let (stage, layer): (Stage, _) = (self.clock.stage(), self.layer);
        if let Some(Profile { start, entries }) = &mut self.profile {
            let begin = begun - *start;
            entries.push(Entry { name: name.into(), stage, layer, cost: cost(), begin, took });
        }
        Ok(done)
    }
}
