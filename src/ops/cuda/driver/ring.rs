//! Pinned host memory for copies to the device.
//!
//! An asynchronous copy from ordinary memory may still read it after the call has returned, so its source would have to
//! be kept until the copy is done. Therefore every copy goes through a pinned buffer with two halves. A half is filled
//! again when the device has fetched its content, or when the queue has been synchronized. Each decode step does the
//! latter anyway, so its copies need no event.

use crate::Result;
use crate::ops::cuda::driver::error::refused;
use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, event};
use cudarc::driver::sys::{CUevent, CUevent_flags, CUstream};
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes of a half: more than a decode step or a prompt uploads; images are copied in pieces.
const HALF: usize = 512 << 10;

/// Alignment of each copied piece.
const ALIGN: usize = 64;

/// The two halves.
#[derive(Debug)]
pub struct Ring {
    context: Arc<CudaContext>,
    halves: Vec<Half>,
    /// The half that is being filled, and how far.
    current: usize,
    filled: usize,
}

#[derive(Debug)]
struct Half {
    memory: *mut c_void,
    /// Event after the last copy from it.
    fetched: CUevent,
    waiting: bool,
}

// SAFETY: pinned memory and events belong to the context, not to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Allocates the pinned memory; the context must be current.
    ///
    /// # Errors
    /// When the driver refuses it.
    pub fn new(context: Arc<CudaContext>) -> Result<Self> {
        let mut ring = Self { context, halves: Vec::with_capacity(2), current: 0, filled: 0 };
        for _ in 0..2 {
            // SAFETY: a plain allocation.
            let memory = unsafe { result::malloc_host(HALF, 0) }
                .map_err(|e| refused(&format!("{HALF} bytes of pinned memory"), e))?;
            let fetched = match event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING) {
                Ok(fetched) => fetched,
                Err(error) => {
                    // SAFETY: allocated above, not used by anyone.
                    let _ = unsafe { result::free_host(memory) };
                    return Err(refused("an event", error));
                }
            };
            ring.halves.push(Half { memory, fetched, waiting: false });
        }
        Ok(ring)
    }

    /// Enqueues a copy of bytes to the device. The caller may then change or drop them.
    ///
    /// # Safety
    /// `to` must have space for them on the device; all copies must go to one stream of the context, which must be
    /// current.
    ///
    /// # Errors
    /// When the driver refuses.
    pub unsafe fn copy(&mut self, mut to: u64, bytes: &[u8], stream: CUstream) -> Result<()> {
        for piece in bytes.chunks(HALF) {
            let place = self.place(piece, stream)?;
            // SAFETY: `to` is upheld by this function's own contract; the place is not reused before the device has
            // fetched it.
            unsafe { result::memcpy_htod_async(to, place, stream) }
                .map_err(|e| refused("a copy to the device", e))?;
            to += piece.len() as u64;
        }
        Ok(())
    }

    /// Copies a piece to the ring, where it stays until the device has fetched it.
    fn place(&mut self, piece: &[u8], stream: CUstream) -> Result<&[u8]> {
        if self.filled + piece.len() > HALF {
            self.turn(stream)?;
        }
        let start = self.filled;
        self.filled = (start + piece.len()).next_multiple_of(ALIGN);
        let memory = self.halves[self.current].memory;
        // SAFETY: the half has HALF bytes, of which the device fetches none from `start` on; it lives as long as
        // `self`.
        let place =
            unsafe { std::slice::from_raw_parts_mut(memory.cast::<u8>().add(start), piece.len()) };
        place.copy_from_slice(piece);
        Ok(place)
    }

    /// Changes to the other half, once the device has fetched its content.
    fn turn(&mut self, stream: CUstream) -> Result<()> {
        let full = &mut self.halves[self.current];
        // Also after a change that recorded the event and then failed: more may have been copied since.
        // SAFETY: both handles are alive.
        unsafe { event::record(full.fetched, stream) }
            .map_err(|e| refused("to record an event", e))?;
        full.waiting = true;
        let other = (self.current + 1) % self.halves.len();
        let next = &mut self.halves[other];
        if next.waiting {
            // SAFETY: the event lives as long as `self`.
            unsafe { event::synchronize(next.fetched) }
                .map_err(|e| refused("to wait for a copy", e))?;
            next.waiting = false;
        }
        (self.current, self.filled) = (other, 0);
        Ok(())
    }

    /// Marks both halves as fetched, after the stream has been synchronized.
    pub fn fetched(&mut self) {
        self.halves.iter_mut().for_each(|half| half.waiting = false);
        self.filled = 0;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // A context that cannot be bound is lost, and its memory with it.
        if self.context.bind_to_thread().is_err() {
            return;
        }
        for half in &self.halves {
            // SAFETY: allocated by `new`; freeing waits until the device is done with it. An error here was reported
            // before.
            unsafe {
                let _ = event::destroy(half.fetched);
                let _ = result::free_host(half.memory);
            }
        }
    }
}
