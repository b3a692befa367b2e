//! Allocator for one block of memory. It manages offsets and sizes only, not the bytes themselves.
//!
//! The planner and a device's executor request the same sizes in the same order from the same kind of arena, so the
//! high-water mark of the plan is the size of the block that the executor allocates.

use super::memory::{Charge, Meter, Purpose};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Regions begin at multiples of this many bytes: the alignment that vector loads and the driver's own blocks have.
pub const ALIGNMENT: usize = 256;

/// Bytes that a region of `bytes` takes in its arena, rounded up to the alignment.
pub fn rounded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGNMENT)
}

/// Free and taken bytes of a block.
#[derive(Debug, Clone)]
pub struct Arena(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Taken regions as (offset, bytes), ascending.
    taken: Vec<(usize, usize)>,
    capacity: usize,
    most: usize,
    /// The meter that a planning arena charges its high-water mark to, and the charge so far.
    planned: Option<(Arc<Meter>, Option<Charge>)>,
}

/// A region of an arena; its bytes are free again when it is dropped.
#[derive(Debug)]
pub struct Region {
    arena: Arena,
    offset: usize,
    bytes: usize,
}

impl Arena {
    /// An arena of `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self::of(State { taken: Vec::new(), capacity, most: 0, planned: None })
    }

    /// An arena of unlimited size, whose high-water mark is charged as workspace.
    pub fn planning(meter: &Arc<Meter>) -> Self {
        let planned = Some((meter.clone(), None));
        Self::of(State { taken: Vec::new(), capacity: usize::MAX, most: 0, planned })
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every update under the lock leaves the lists consistent, so a panic elsewhere does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lowest free place for `bytes`; `None` when there is none.
    pub fn take(&self, bytes: usize) -> Option<Region> {
        let bytes = rounded(bytes);
        let mut state = self.state();
        let mut offset = 0;
        let mut index = 0;
        for &(start, length) in &state.taken {
            if start - offset >= bytes {
                break;
            }
            offset = start + length;
            index += 1;
        }
        self.insert(&mut state, index, offset, bytes)
    }

    /// Takes the bytes from `offset` on, where [`Region::offset`] placed an earlier region; `None` when they are not
    /// free.
    pub fn claim(&self, offset: usize, bytes: usize) -> Option<Region> {
        let bytes = rounded(bytes);
        let mut state = self.state();
        let index = state.taken.partition_point(|&(start, _)| start < offset);
        let before = index.checked_sub(1).map_or(0, |i| state.taken[i].0 + state.taken[i].1);
        let free = before <= offset
            && state.taken.get(index).is_none_or(|&(start, _)| start - offset >= bytes);
        if free { self.insert(&mut state, index, offset, bytes) } else { None }
    }

    fn insert(
        &self,
        state: &mut State,
        index: usize,
        offset: usize,
        bytes: usize,
    ) -> Option<Region> {
        let end = offset.checked_add(bytes).filter(|end| *end <= state.capacity)?;
        state.taken.insert(index, (offset, bytes));
        state.raise(end);
        Some(Region { arena: self.clone(), offset, bytes })
    }

    /// Whether no region is taken.
    pub fn is_empty(&self) -> bool {
        self.state().taken.is_empty()
    }

    /// The high-water mark: the highest end of a region ever taken.
    pub fn most(&self) -> usize {
        self.state().most
    }

    /// Resets the high-water mark of an empty arena to `floor`.
    pub fn restart(&self, floor: usize) {
        let mut state = self.state();
        debug_assert!(state.taken.is_empty());
        state.most = 0;
        if let Some((_, charge)) = &mut state.planned {
            *charge = None;
        }
        state.raise(floor);
    }
}

impl State {
    fn raise(&mut self, end: usize) {
        if end <= self.most {
            return;
        }
        self.most = end;
        if let Some((meter, charge)) = &mut self.planned {
            // The old charge is released first, so that the peak does not count both.
            *charge = None;
            *charge = Some(meter.charge(Purpose::Workspace, end));
        }
    }
}

impl Region {
    /// Offset of its first byte from the start of the block.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let mut state = self.arena.state();
        if let Ok(index) = state.taken.binary_search_by_key(&self.offset, |&(start, _)| start) {
            state.taken.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_fill_the_lowest_gap_and_never_overlap() {
        let arena = Arena::new(5 * ALIGNMENT);
        let a = arena.take(1).unwrap();
        let b = arena.take(2 * ALIGNMENT).unwrap();
        let c = arena.take(ALIGNMENT).unwrap();
        assert_eq!([a.offset(), b.offset(), c.offset()], [0, 256, 768]);
        assert!(arena.take(2 * ALIGNMENT).is_none());
        drop(b);
        let d = arena.take(ALIGNMENT).unwrap();
        let e = arena.take(ALIGNMENT + 1);
        assert_eq!((d.offset(), e.is_none(), arena.most()), (256, true, 4 * ALIGNMENT));
        drop((a, c, d));
        assert!(arena.is_empty());
    }

    #[test]
    fn a_place_is_claimed_only_when_it_is_free() {
        let arena = Arena::new(4 * ALIGNMENT);
        let a = arena.claim(256, 256).unwrap();
        assert!(arena.claim(256, 1).is_none() && arena.claim(0, 512).is_none());
        assert!(arena.claim(512, 3 * ALIGNMENT).is_none());
        let b = arena.claim(512, 512).unwrap();
        drop(a);
        assert!(arena.claim(0, 512).is_some());
        drop(b);
    }

    #[test]
    fn a_plan_charges_its_high_water_mark() {
        let meter = Arc::new(Meter::default());
        let arena = Arena::planning(&meter);
        let a = arena.take(1000).unwrap();
        drop(arena.take(1000));
        assert_eq!((meter.peak(), meter.held(Purpose::Workspace)), (2048, 2048));
        drop(a);
        arena.restart(512);
        meter.restart();
        assert_eq!((meter.peak(), arena.most()), (512, 512));
    }
}
