//! Panics of dependencies end where the dependency was called.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a dependency's code on data that nobody vouches for; `None` if it panics.
///
/// What the code was changing when it panicked must not be used afterwards.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    outcome.ok()
}

/// Whether a panic on this thread, now, becomes an [`Error`](crate::Error) of this library: the panic hook of a
/// program need not report it then.
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
