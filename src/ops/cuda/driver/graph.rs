//! CUDA graphs: work that was recorded once and is replayed.

use crate::Result;
use crate::ops::cuda::driver::error::refused;
use crate::ops::cuda::driver::queue::Queue;
use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, graph};
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};
use std::sync::Arc;

/// An executable graph: the same kernels with the same parameters at every launch.
#[derive(Debug)]
pub struct Graph {
    context: Arc<CudaContext>,
    exec: CUgraphExec,
}

// SAFETY: the handle belongs to the context, not to a thread.
unsafe impl Send for Graph {}

/// A recording in progress; it must be ended.
#[must_use]
pub struct Recording(());

impl Graph {
    /// Starts to record what is enqueued, instead of running it.
    ///
    /// # Errors
    /// When the driver refuses the recording.
    pub fn begin(queue: &Queue) -> Result<Recording> {
        let stream = queue.stream()?;
        // Relaxed mode, since the first use of a kernel may load it while the driver records.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream lives as long as the queue.
        unsafe { result::stream::begin_capture(stream, mode) }
            .map_err(|e| refused("to record a graph", e))?;
        Ok(Recording(()))
    }

    /// Enqueues the recorded work.
    ///
    /// # Safety
    /// The memory that the recorded kernels use must still be allocated, and free for their use.
    ///
    /// # Errors
    /// When the driver refuses the launch.
    pub unsafe fn launch(&self, queue: &Queue) -> Result<()> {
        let stream = queue.stream()?;
        // SAFETY: upheld by this function's own contract.
        unsafe { graph::launch(self.exec, stream) }.map_err(|e| refused("to launch a graph", e))
    }
}

impl Recording {
    /// Ends the recording, also after failed work: the stream cannot be used before.
    ///
    /// # Errors
    /// The error of `outcome`, or when the driver refuses the graph.
    pub fn end<T>(self, queue: &Queue, outcome: Result<T>) -> Result<(Graph, T)> {
        // SAFETY: the capture was begun on this stream.
        let recorded = unsafe { result::stream::end_capture(queue.stream()?) };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                if let Ok(recorded) = recorded {
                    // SAFETY: recorded above and not used by anyone.
                    let _ = unsafe { graph::destroy(recorded) };
                }
                return Err(error);
            }
        };
        let recorded = recorded.map_err(|e| refused("to record a graph", e))?;
        // SAFETY: the graph was recorded above; its executable copy is independent of it.
        let exec = unsafe {
            let exec = graph::instantiate(recorded, CUgraphInstantiate_flags(0));
            let _ = graph::destroy(recorded);
            exec
        };
        let exec = exec.map_err(|e| refused("to instantiate a graph", e))?;
        Ok((Graph { context: queue.context().clone(), exec }, outcome))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // A context that cannot be bound is lost, and its graphs with it.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: instantiated by `end`; destroying it waits for a running launch.
            let _ = unsafe { graph::exec_destroy(self.exec) };
        }
    }
}
