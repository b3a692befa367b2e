//! Turns panics of dependencies into errors where the dependency is called.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a dependency's code on untrusted data; `None` if it panics.
///
/// Values that the code was modifying when it panicked must not be used afterwards.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    outcome.ok()
}

/// Returns true while a panic on this thread would be turned into an [`Error`](crate::Error) by this library. The
/// panic hook of a program can use it to keep such a panic out of its log.
pub fn panic_is_caught() -> bool {
    GUARDED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_none_and_the_guard_ends_with_it() {
        assert_eq!(guarded(panic_is_caught), Some(true));
        assert!(!panic_is_caught());
        let nested = guarded(|| {
            assert!(guarded(|| -> () { panic!("inside") }).is_none());
            panic_is_caught()
        });
        assert_eq!((nested, panic_is_caught()), (Some(true), false));
    }
}
