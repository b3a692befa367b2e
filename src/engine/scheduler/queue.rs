//! The queue of waiting requests, shared between the engine's thread and its clients.

use super::SchedulerOptions;
use super::statistics::Statistics;
use super::update::{SubmitError, Update};
use crate::Error;
use crate::engine::admission::Forecast;
use crate::engine::prepare::Prepared;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many later requests may overtake one that does not fit yet, so that it cannot starve.
const OVERTAKING: usize = 4;

/// A request in the queue.
pub struct Waiting {
    pub prepared: Prepared,
    pub forecast: Forecast,
    pub came: Instant,
    pub cancelled: Arc<AtomicBool>,
    pub on_update: Box<dyn FnMut(Update) + Send>,
    /// How many later requests have overtaken it.
    pub overtaken: usize,
}

impl Waiting {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// The phases of a scheduler's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Requests are accepted.
    Open,
    /// No requests are accepted; those present are answered.
    Draining,
    /// No requests are accepted; those present are cancelled.
    Stopping,
    /// The thread has ended.
    Ended,
}

/// The queue of a scheduler.
pub struct Queue {
    pub options: SchedulerOptions,
    state: Mutex<State>,
    /// Signals every change of the state.
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Waiting>,
    phase: Phase,
    statistics: Statistics,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

impl Queue {
    pub fn new(options: SchedulerOptions) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            phase: Phase::Open,
            statistics: Statistics::default(),
        };
        Self { options, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code under the lock can panic halfway, so a poisoned state is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an error if a request would not be accepted now.
    pub fn check(&self) -> Result<(), SubmitError> {
        self.room(&mut self.state())
    }

    fn room(&self, state: &mut State) -> Result<(), SubmitError> {
        if state.phase != Phase::Open {
            return Err(SubmitError::Stopping);
        }
        // Cancelled requests leave at the next layer or token, so they do not count.
        let waiting = state.waiting.iter().filter(|job| !job.is_cancelled()).count();
        if waiting >= self.options.max_waiting {
            state.statistics.refused += 1;
            return Err(SubmitError::Full { waiting });
        }
        Ok(())
    }

    pub fn push(&self, job: Waiting) -> Result<(), SubmitError> {
        let mut state = self.state();
        self.room(&mut state)?;
        state.waiting.push_back(job);
        state.statistics.accepted += 1;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// The next request that is not cancelled and fits next to the `live` running ones: the first in the queue, or
    /// one of the next few if the first does not fit and has not been overtaken too often. If none is running, waits
    /// for one. `None`: no request fits now, or none will come any more.
    pub fn take(&self, live: usize, fits: &dyn Fn(&Forecast) -> bool) -> Option<Waiting> {
        let mut state = self.state();
        loop {
            let over = state.phase >= Phase::Stopping;
            let leaving = take_cancelled(&mut state, over);
            if !leaving.is_empty() {
                drop(state);
                self.tell_cancelled(leaving);
                state = self.state();
                continue;
            }
            let may = live < self.options.max_running.max(1);
            let fits = |job: &Waiting| live == 0 || fits(&job.forecast);
            if may && let Some(job) = next(&mut state.waiting, fits, |job| &mut job.overtaken) {
                state.statistics.running += 1;
                return Some(job);
            }
            if state.phase != Phase::Open || live > 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends waiting requests that are cancelled.
    pub fn sweep(&self) {
        let mut state = self.state();
        let over = state.phase >= Phase::Stopping;
        let leaving = take_cancelled(&mut state, over);
        drop(state);
        self.tell_cancelled(leaving);
    }

    fn tell_cancelled(&self, leaving: Vec<Waiting>) {
        for mut job in leaving {
            self.count(|statistics| statistics.cancelled += 1);
            (job.on_update)(Update::Failed(Error::Cancelled));
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.state().phase >= Phase::Stopping
    }

    /// Moves to a later phase.
    pub fn close(&self, phase: Phase) {
        let mut state = self.state();
        state.phase = state.phase.max(phase);
        drop(state);
        self.changed.notify_all();
    }

    /// Refuses further requests.
    pub fn close_now(&self) {
        self.close(Phase::Stopping);
    }

    /// Ends the queue: requests that still wait fail with the error that `why` returns.
    pub fn end(&self, why: impl Fn() -> Error) {
        let mut state = self.state();
        state.phase = Phase::Ended;
        let left = std::mem::take(&mut state.waiting);
        state.statistics.failed += left.len() as u64;
        state.statistics.running = 0;
        drop(state);
        self.changed.notify_all();
        for mut job in left {
            (job.on_update)(Update::Failed(why()));
        }
    }

    /// Waits until the thread has ended, unless `not` returns true.
    pub fn wait_for_end(&self, not: impl Fn() -> bool) {
        if not() {
            return;
        }
        let mut state = self.state();
        while state.phase != Phase::Ended {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn wake(&self) {
        // Taking the lock once guarantees that a thread about to wait sees the change first.
        drop(self.state());
        self.changed.notify_all();
    }

    pub fn statistics(&self) -> Statistics {
        let state = self.state();
        let waiting = state.waiting.iter().filter(|job| !job.is_cancelled()).count();
        Statistics { waiting, ..state.statistics }
    }

    pub fn count(&self, change: impl FnOnce(&mut Statistics)) {
        change(&mut self.state().statistics);
    }
}

/// The first request that fits, unless it would overtake one that was overtaken too often.
fn next<T>(
    waiting: &mut VecDeque<T>,
    fits: impl Fn(&T) -> bool,
    overtaken: impl Fn(&mut T) -> &mut usize,
) -> Option<T> {
    for index in 0..waiting.len() {
        if fits(&waiting[index]) {
            waiting.iter_mut().take(index).for_each(|job| *overtaken(job) += 1);
            return waiting.remove(index);
        }
        if *overtaken(&mut waiting[index]) >= OVERTAKING {
            return None;
        }
    }
    None
}

/// Removes the cancelled requests, or all of them.
fn take_cancelled(state: &mut State, all: bool) -> Vec<Waiting> {
    let mut leaving = Vec::new();
    let mut index = 0;
    while index < state.waiting.len() {
        if all || state.waiting[index].is_cancelled() {
            leaving.extend(state.waiting.remove(index));
        } else {
            index += 1;
        }
    }
    leaving
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A large request waits for a few smaller ones and no longer, however many come.
    #[test]
    fn overtaking_has_a_bound() {
        let small = |number: usize| (number, 1, 0);
        let mut waiting: VecDeque<(usize, usize, usize)> = VecDeque::from([(0, 9, 0), small(1)]);
        let mut begun = Vec::new();
        for number in 2..20 {
            waiting.push_back(small(number));
            let next = next(&mut waiting, |job| job.1 <= 3, |job| &mut job.2);
            begun.extend(next.map(|job| job.0));
        }
        assert_eq!(begun, [1, 2, 3, 4], "those behind it, in their order");
        assert_eq!(waiting[0], (0, 9, OVERTAKING));
        // With room for it, it is the first.
        let next = next(&mut waiting, |job| job.1 <= 9, |job| &mut job.2);
        assert_eq!((next.map(|job| job.0), waiting[0].0), (Some(0), 5));
    }
}
