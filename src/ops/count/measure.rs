//! Time on the counting executor: there is none.

use super::Counter;
use crate::ops::MeasureOps;
use crate::ops::ceiling::Ceiling;
use crate::ops::clock::{Clock, Stage};
use crate::ops::profile::Entry;
use crate::{Error, Result};

impl MeasureOps for Counter {
    fn enter(&mut self, stage: Stage) -> Result<()> {
        self.clock.enter(stage);
        Ok(())
    }

    fn profile(&mut self) -> Result<()> {
        Ok(())
    }

    fn profiled(&mut self) -> Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn record_attention(&mut self) {}

    fn recorded_attention(&mut self) -> Vec<Vec<f32>> {
        Vec::new()
    }

    fn ceiling(&mut self) -> Result<Ceiling> {
        Err(Error::Device("the counting executor has no speed to measure".into()))
    }

    fn clock(&mut self) -> Result<&mut Clock> {
        Ok(&mut self.clock)
    }
}
