//! A decode step as the driver recorded it.

use crate::Result;
use crate::ops::cuda::driver::error::refused;
use crate::ops::cuda::driver::queue::Queue;
use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, graph};
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};
use std::sync::Arc;

/// Work that was recorded once and can be repeated: the same kernels at the same addresses.
#[derive(Debug)]
pub struct Graph {
    context: Arc<CudaContext>,
    exec: CUgraphExec,
}

// SAFETY: the handle belongs to the context, not to a thread.
unsafe impl Send for Graph {}

/// A recording that has begun; it must be ended.
#[must_use]
pub struct Recording(());

impl Graph {
    /// Records what is enqueued from now on, which does not run yet.
    ///
    /// # Errors
    /// When the driver refuses the recording.
    pub fn begin(queue: &Queue) -> Result<Recording> {
        let stream = queue.stream()?;
        // Relaxed: the first use of a kernel may load it meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream lives as long as the queue.
        unsafe { result::stream::begin_capture(stream, mode) }
            .map_err(|e| refused("to record a graph", e))?;
        Ok(Recording(()))
    }

    /// Enqueues the recorded work.
    ///
    /// # Safety
    /// The memory that the kernels were recorded with must still be there and free for them.
    ///
    /// # Errors
    /// When the driver refuses.
    pub unsafe fn launch(&self, queue: &Queue) -> Result<()> {
        let stream = queue.stream()?;
        // SAFETY: upheld by this function's own contract.
        unsafe { graph::launch(self.exec, stream) }.map_err(|e| refused("to launch a graph", e))
    }
}

impl Recording {
    /// Ends the recording, whatever came of the work: the stream is of no use before.
    ///
    /// # Errors
    /// The work's own, or when the driver refuses the graph.
    pub fn end<T>(self, queue: &Queue, outcome: Result<T>) -> Result<(Graph, T)> {
        // SAFETY: the capture was begun on this stream.
        let recorded = unsafe { result::stream::end_capture(queue.stream()?) };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                if let Ok(recorded) = recorded {
                    // SAFETY: recorded above and used by nobody.
                    let _ = unsafe { graph::destroy(recorded) };
                }
                return Err(error);
            }
        };
        let recorded = recorded.map_err(|e| refused("to record a graph", e))?;
        // SAFETY: the graph was recorded above; its executable copy lives by itself.
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
            // SAFETY: instantiated by `record`; destroying waits for a launch that runs.
            let _ = unsafe { graph::exec_destroy(self.exec) };
        }
    }
}
