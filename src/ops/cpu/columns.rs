//! Writing columns of one buffer from several threads.

use super::buffer::Buffer;

/// The base address of a buffer of which each thread writes columns of its own.
#[derive(Clone, Copy)]
pub(super) struct Columns(*mut f32);

// SAFETY: an address alone does nothing; each write through it shows at its place that no other thread writes there.
unsafe impl Sync for Columns {}
// SAFETY: as above.
unsafe impl Send for Columns {}

impl Columns {
    pub(super) fn of(buffer: &mut Buffer) -> Self {
        Self(buffer.data.as_mut_ptr())
    }

    /// The address; a method, so that closures capture the whole wrapper.
    pub(super) fn get(self) -> *mut f32 {
        self.0
    }
}
