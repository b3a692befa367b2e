//! Pinned memory from which copies to the device leave.
//!
//! A copy from a program's own memory may read it after the call has returned, where the driver need not copy it first;
//! whoever enqueued it would have to keep it until then. So every copy leaves from here. The two halves take turns: one
//! is filled again when the device has fetched what was in it, or as soon as the queue has been waited for, which each
//! decode step does anyway: its copies cost no event.

use crate::Result;
use crate::ops::cuda::driver::error::refused;
use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, event};
use cudarc::driver::sys::{CUevent, CUevent_flags, CUstream};
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes of a half: more than a decode step or a prompt uploads; pictures go in pieces.
const HALF: usize = 512 << 10;

/// Pieces begin at multiples of this, whatever they hold.
const ALIGN: usize = 64;

/// The two halves.
#[derive(Debug)]
pub struct Ring {
    context: Arc<CudaContext>,
    halves: Vec<Half>,
    /// The one that is being filled, and how far.
    current: usize,
    filled: usize,
}

#[derive(Debug)]
struct Half {
    memory: *mut c_void,
    /// When the device has fetched all of it.
    fetched: CUevent,
    waiting: bool,
}

// SAFETY: pinned memory and events belong to the context, not to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Takes the pinned memory; the context must be current.
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
                    // SAFETY: allocated above, used by nobody.
                    let _ = unsafe { result::free_host(memory) };
                    return Err(refused("an event", error));
                }
            };
            ring.halves.push(Half { memory, fetched, waiting: false });
        }
        Ok(ring)
    }

    /// Enqueues a copy of bytes to the device, which the caller may then change or drop.
    ///
    /// # Safety
    /// `to` must have room for them on the device; all copies must be of one stream of the context, which is current.
    ///
    /// # Errors
    /// When the driver refuses.
    pub unsafe fn copy(&mut self, mut to: u64, bytes: &[u8], stream: CUstream) -> Result<()> {
        for piece in bytes.chunks(HALF) {
            let place = self.place(piece, stream)?;
            // SAFETY: `to` is upheld by this function's own contract; the place stays as it is until the device has fetched it.
            unsafe { result::memcpy_htod_async(to, place, stream) }
                .map_err(|e| refused("a copy to the device", e))?;
            to += piece.len() as u64;
        }
        Ok(())
    }

    /// A copy of a piece that stays until the device has fetched it.
    fn place(&mut self, piece: &[u8], stream: CUstream) -> Result<&[u8]> {
        if self.filled + piece.len() > HALF {
            self.turn(stream)?;
        }
        let start = self.filled;
        self.filled = (start + piece.len()).next_multiple_of(ALIGN);
        let memory = self.halves[self.current].memory;
        // SAFETY: the half has HALF bytes, of which the device fetches none from `start` on; it lives as long as `self`.
        let place =
            unsafe { std::slice::from_raw_parts_mut(memory.cast::<u8>().add(start), piece.len()) };
        place.copy_from_slice(piece);
        Ok(place)
    }

    /// To the other half, when the device has fetched what was in it.
    fn turn(&mut self, stream: CUstream) -> Result<()> {
        let full = &mut self.halves[self.current];
        // Also where a turn before has recorded it and then failed: more may have been put in since.
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

    /// The stream has been waited for: nothing is fetched any more.
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
            // SAFETY: made by `new`; freeing waits until the device has done with it. An error here was one before.
            unsafe {
                let _ = event::destroy(half.fetched);
                let _ = result::free_host(half.memory);
            }
        }
    }
}
