//! Time on the device, by stage and by kernel or copy.

use crate::Result;
use crate::ops::MeasureOps;
use crate::ops::ceiling::Ceiling;
use crate::ops::clock::{Clock, Stage};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::profile::ceiling;
use crate::ops::profile::Entry;

impl MeasureOps for Cuda {
    fn enter(&mut self, stage: Stage) -> Result<()> {
        self.queue.place(stage, None);
        self.watch.enter(&self.queue, stage)
    }

    fn layer(&mut self, index: Option<usize>) {
        self.queue.place(self.watch.stage(), index);
        self.watch.ranges.layer(index);
    }

    fn profile(&mut self) -> Result<()> {
        self.queue.profile()
    }

    fn profiled(&mut self) -> Result<Vec<Entry>> {
        self.queue.profiled()
    }

    fn record_attention(&mut self) {
        self.attended = Some(Vec::new());
    }

    fn recorded_attention(&mut self) -> Vec<Vec<f32>> {
        self.attended.take().unwrap_or_default()
    }

    fn ceiling(&mut self) -> Result<Ceiling> {
        ceiling::measure(self)
    }

    fn clock(&mut self) -> Result<&mut Clock> {
        self.watch.read(&self.queue)
    }
}
