//! Ctrl-C.

use super::Stop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Exit status after Ctrl-C, as shells have it: 128 and the signal's number.
const STATUS: i32 = 130;

/// Whether the user pressed Ctrl-C.
#[derive(Debug)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Somebody asks [`Interrupt::raised`] from time to time.
    heeded: AtomicBool,
    raised: AtomicBool,
}

impl Interrupt {
    /// Listens from now on. Ctrl-C ends the process, until somebody heeds it.
    pub fn watch() -> Result<Self, Stop> {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let on_signal = move || {
            if shared.raised.swap(true, Relaxed) || !shared.heeded.load(Relaxed) {
                std::process::exit(STATUS);
            }
        };
        match ctrlc::set_handler(on_signal) {
            Ok(()) => Ok(Self(state)),
            Err(error) => Err(Stop::Failed(format!("cannot listen for Ctrl-C: {error}"))),
        }
    }

    /// From now on the first Ctrl-C only asks to stop, a second one ends the process.
    pub fn heed(&self) {
        self.0.heeded.store(true, Relaxed);
    }

    /// Whether it was pressed.
    pub fn raised(&self) -> bool {
        self.0.raised.load(Relaxed)
    }
}
