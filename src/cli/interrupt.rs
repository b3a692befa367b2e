//! Ctrl-C.

use super::Stop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Exit status after Ctrl-C, as shells have it: 128 and the signal's number.
const STATUS: i32 = 130;

/// Whether the user pressed Ctrl-C (or asked the process to end in another way).
#[derive(Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. If the work `can_stop`, the first Ctrl-C only asks for it; any other ends the process.
    pub fn watch(can_stop: bool) -> Result<Self, Stop> {
        let raised = Arc::new(AtomicBool::new(false));
        let shared = raised.clone();
        let on_signal = move || {
            if shared.swap(true, Relaxed) || !can_stop {
                std::process::exit(STATUS);
            }
        };
        match ctrlc::set_handler(on_signal) {
            Ok(()) => Ok(Self(raised)),
            Err(error) => Err(Stop::Failed(format!("cannot listen for Ctrl-C: {error}"))),
        }
    }

    /// Whether it was pressed.
    pub fn raised(&self) -> bool {
        self.0.load(Relaxed)
    }
}
