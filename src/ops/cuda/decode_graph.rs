//! Decode steps that are recorded once as a CUDA graph and replayed.

use crate::format::Dtype;
use crate::ops::Work;
use crate::ops::cuda::buffer::{Batch, Buffer, Cache};
use crate::ops::cuda::driver::graph::Graph;
use crate::ops::cuda::executor::Cuda;
use crate::{Error, Result};

/// A recorded decode step, and the buffer that receives its logits.
#[derive(Debug)]
pub(super) struct Recorded {
    pub graph: Graph,
    pub offset: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Cuda {
    /// Runs a decode step of this layout, replaying a recording where possible. The first step with its number of rows
    /// runs directly, because a driver may load a kernel at its first launch and must not do that while it records;
    /// later steps are recorded when their layout is new. Without graphs every step runs directly.
    pub(super) fn replay(
        &mut self,
        batches: &[Batch],
        caches: &mut [Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<Buffer> {
        // A graph contains addresses. They are the same in every step only if the workspace is empty before it.
        if !self.records() {
            return work(self, caches);
        }
        let layout = Layout::of(batches);
        if !self.graphs.contains_key(&layout) {
            if !self.graphs.keys().any(|known| known.rows == layout.rows) {
                let logits = work(self, caches)?;
                self.graphs.insert(layout, None);
                return Ok(logits);
            }
            self.graphs.insert(layout.clone(), None);
        }
        if let Some(None) = self.graphs.get(&layout) {
            self.record(&layout, caches, work)?;
        }
        let Some(Some(recorded)) = self.graphs.get(&layout) else {
            return Err(Error::Device("the recording of a decode step is missing".into()));
        };
        let Recorded { offset, rows, cols, .. } = *recorded;
        let (place, address) =
            self.claim(offset, rows * cols * size_of::<f32>()).ok_or_else(|| {
                Error::Device("the workspace of a recorded decode step is in use".into())
            })?;
        // SAFETY: weights, cache and workspace have not moved: whatever moves one of them clears the graphs.
        unsafe { recorded.graph.launch(&self.queue)? };
        let (stride, dtype, of_integers, coded) = (cols, Dtype::F32, false, None);
        Ok(Buffer { _place: place, address, rows, cols, stride, dtype, of_integers, coded })
    }

    fn record(
        &mut self,
        layout: &Layout,
        caches: &mut [Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<()> {
        let recording = Graph::begin(&self.queue)?;
        let outcome = work(self, caches);
        let (graph, logits) = recording.end(&self.queue, outcome)?;
        let recorded =
            Recorded { graph, offset: self.offset(&logits), rows: logits.rows, cols: logits.cols };
        drop(logits);
        self.graphs.insert(layout.clone(), Some(recorded));
        Ok(())
    }
}

/// What determines the launches of a step: steps of one layout run the same kernels on the same grids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Layout {
    /// One row of each sequence.
    rows: usize,
    /// Entries of a block table, for each cache.
    strides: Vec<usize>,
}

impl Layout {
    fn of(batches: &[Batch]) -> Self {
        let rows = batches.first().map_or(0, |batch| batch.spans.len());
        Self { rows, strides: batches.iter().map(|batch| batch.stride).collect() }
    }
}
