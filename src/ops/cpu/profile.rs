//! What the executor has computed, operation by operation.

use super::Cpu;
use crate::Result;
use crate::ops::clock::Stage;
use crate::ops::cost::Cost;
use crate::ops::profile::Entry;
use std::time::Instant;

/// Operations since somebody wants to know.
#[derive(Debug)]
pub struct Profile {
    start: Instant,
    entries: Vec<Entry>,
}

impl Cpu {
    /// Notes every operation from now on.
    pub(super) fn begin_profile(&mut self) {
        self.profile = Some(Profile { start: Instant::now(), entries: Vec::new() });
    }

    /// The operations noted; from now on none are.
    pub(super) fn end_profile(&mut self) -> Vec<Entry> {
        self.profile.take().map_or_else(Vec::new, |profile| profile.entries)
    }

    /// Does some work, and notes it if somebody wants to know.
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
