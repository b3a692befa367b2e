//! Ctrl-C, and the signals that ask a program to end otherwise: SIGTERM, and SIGHUP of a terminal that is closed.

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
        let ignored = signals::hangup_is_ignored();
        ctrlc::set_handler(on_signal)
            .map_err(|error| Stop::Failed(format!("cannot listen for Ctrl-C: {error}")))?;
        if ignored {
            signals::ignore_hangup();
        }
        signals::explain_lost_pages();
        Ok(Self(state))
    }

    /// From now on the first Ctrl-C only asks to stop, a second one ends the process.
    pub fn heed(&self) {
        self.0.heeded.store(true, Relaxed);
    }

    /// From now on Ctrl-C ends the process again.
    pub fn ignore(&self) {
        self.0.heeded.store(false, Relaxed);
    }

    /// Whether it was pressed; from now on it counts as not pressed.
    pub fn take(&self) -> bool {
        self.0.raised.swap(false, Relaxed)
    }

    /// Whether it was pressed.
    pub fn raised(&self) -> bool {
        self.0.raised.load(Relaxed)
    }
}

#[cfg(unix)]
mod signals {
    use libc::{SIG_ERR, SIG_IGN, SIGBUS, SIGHUP, c_int};

    /// Whether whoever started the program had it ignore the end of its terminal, as `nohup` does. SIGINT is listened to
    /// all the same: shells start what runs in the background of a script with that ignored, and a script that sends it
    /// means it.
    pub fn hangup_is_ignored() -> bool {
        // SAFETY: the structure is plain numbers, of which zeros are valid; the call only writes the handler that is set
        // into it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(SIGHUP, std::ptr::null(), &mut action) == 0
                && action.sa_sigaction == SIG_IGN
        }
    }

    /// Ignores it again.
    pub fn ignore_hangup() {
        // SAFETY: no handler of this program is installed by it.
        unsafe { libc::signal(SIGHUP, SIG_IGN) };
    }

    /// What becomes of a mapped file that was cut short: reading the lost pages raises SIGBUS, which would end the
    /// program without a word. Nothing else that is mapped is read.
    pub fn explain_lost_pages() {
        extern "C" fn explain(_: c_int) {
            const WHAT: &str = "hired: a weight file was changed while in use: start again, and replace files by \
                                renaming, or give --no-mmap\n";
            // SAFETY: both calls are allowed in a signal handler, and the text lives for ever.
            unsafe {
                libc::write(libc::STDERR_FILENO, WHAT.as_ptr().cast(), WHAT.len());
                libc::_exit(1);
            }
        }
        let handler = explain as extern "C" fn(c_int);
        // SAFETY: the handler calls nothing but what is allowed in one, and does not return.
        let set = unsafe { libc::signal(SIGBUS, handler as libc::sighandler_t) };
        // Without it the program ends all the same.
        debug_assert_ne!(set, SIG_ERR);
    }
}

#[cfg(not(unix))]
mod signals {
    pub fn hangup_is_ignored() -> bool {
        false
    }
    pub fn ignore_hangup() {}
    pub fn explain_lost_pages() {}
}
