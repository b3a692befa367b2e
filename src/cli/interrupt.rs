//! Handles Ctrl-C and the other signals that ask a program to end: SIGTERM, and SIGHUP from a closed terminal.

use super::Stop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Exit status after Ctrl-C, as in shells: 128 plus the signal's number.
const STATUS: i32 = 130;

/// Tells whether the user pressed Ctrl-C.
#[derive(Debug)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Some code polls [`Interrupt::raised`], so a first Ctrl-C need not end the process.
    heeded: AtomicBool,
    raised: AtomicBool,
}

impl Interrupt {
    /// Installs the handlers. Ctrl-C ends the process until [`Interrupt::heed`] is called.
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

    /// From now on the first Ctrl-C only requests a stop, and a second one ends the process.
    pub fn heed(&self) {
        self.0.heeded.store(true, Relaxed);
    }

    /// From now on Ctrl-C ends the process again.
    pub fn ignore(&self) {
        self.0.heeded.store(false, Relaxed);
    }

    /// Returns true if Ctrl-C was pressed, and resets it.
    pub fn take(&self) -> bool {
        self.0.raised.swap(false, Relaxed)
    }

    /// Returns true if Ctrl-C was pressed.
    pub fn raised(&self) -> bool {
        self.0.raised.load(Relaxed)
    }
}

#[cfg(unix)]
mod signals {
    use libc::{SIG_ERR, SIG_IGN, SIGBUS, SIGHUP, c_int};

    /// Returns true if the program was started with SIGHUP ignored, as by `nohup`. SIGINT is handled even if it is
    /// ignored at the start: shells ignore it for background jobs of scripts, but a script that sends it wants the
    /// program to end.
    pub fn hangup_is_ignored() -> bool {
        // SAFETY: the structure consists of plain numbers, for which zeros are valid; the call only writes the
        // current handler into it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(SIGHUP, std::ptr::null(), &mut action) == 0
                && action.sa_sigaction == SIG_IGN
        }
    }

    /// Ignores SIGHUP again.
    pub fn ignore_hangup() {
        // SAFETY: the call installs no handler of this program.
        unsafe { libc::signal(SIGHUP, SIG_IGN) };
    }

    /// Prints a message if a memory-mapped file was truncated. Reading the lost pages raises SIGBUS, which would
    /// otherwise end the program silently. Only weight files are mapped.
    pub fn explain_lost_pages() {
        extern "C" fn explain(_: c_int) {
            const WHAT: &str = "hired: a weight file was changed while in use: start again, and replace files by \
                                renaming, or give --no-mmap\n";
            // SAFETY: both calls are async-signal-safe, and the text is static.
            unsafe {
                libc::write(libc::STDERR_FILENO, WHAT.as_ptr().cast(), WHAT.len());
                libc::_exit(1);
            }
        }
        let handler = explain as extern "C" fn(c_int);
        // SAFETY: the handler only makes async-signal-safe calls and does not return.
        let set = unsafe { libc::signal(SIGBUS, handler as libc::sighandler_t) };
        // Without the handler the program ends all the same, only silently.
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
