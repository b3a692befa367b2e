//! Lets several threads write different columns of one buffer.

use super::buffer::Buffer;

/// The base address of a buffer in which each thread writes its own columns.
#[derive(Clone, Copy)]
pub(super) struct Columns(*mut f32);

// SAFETY: holding the address does nothing; every write through it states why no other thread writes there.
unsafe impl Sync for Columns {}
// SAFETY: as for `Sync`.
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
