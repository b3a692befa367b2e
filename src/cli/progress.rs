//! Progress bars on stderr, shown only in a terminal.

use super::log::{Level, shows};
use hired::ops::clock::Stage;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};

/// A bar for work of `all` steps; hidden if stderr is not a terminal.
fn bar(all: u64, template: &str) -> ProgressBar {
    if !(shows(Level::Note) && stderr().is_terminal()) {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(all).with_style(style)
}

/// A bar that counts bytes.
pub fn bytes(what: String) -> ProgressBar {
    bar(0, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}").with_message(what)
}

/// A bar that counts measurements.
#[derive(Debug)]
pub struct Steps {
    bar: ProgressBar,
    /// Steps that are over, whether they were done or skipped.
    planned: u64,
}

pub fn steps(all: usize) -> Steps {
    Steps { bar: bar(all as u64, "{msg} {wide_bar} {pos}/{len} {eta}"), planned: 0 }
}

impl Steps {
    /// Shows the name of the step that begins.
    pub fn begin(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    /// Counts one finished step.
    pub fn end(&self) {
        self.bar.inc(1);
    }

    /// Runs `work`, which prints something, with the bar hidden.
    pub fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }

    /// Ends a row of `steps` steps, even if some of them were skipped.
    pub fn skip_to_row_end(&mut self, steps: usize) {
        self.planned += steps as u64;
        self.bar.set_position(self.planned);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar for a batch up to its first tokens, layer by layer.
#[derive(Debug)]
pub struct Blocks {
    bar: ProgressBar,
    requests: usize,
}

impl Blocks {
    pub fn new(requests: usize) -> Self {
        Self { bar: bar(1, "{msg} {wide_bar} {pos}/{len}"), requests }
    }

    /// Shows that `done` of `all` layers are done.
    pub fn show(&self, request: usize, stage: Stage, done: usize, all: usize) {
        let what = match stage {
            Stage::Vision => "vision",
            Stage::Prefill => "prefill",
            _ => return,
        };
        let message = match self.requests {
            1 => what.into(),
            requests => format!("{}/{requests} {what}", request + 1),
        };
        self.bar.set_message(message);
        // Both values are updated together, otherwise the bar would show the old position in the new length.
        self.bar.update(|state| {
            state.set_len(all as u64);
            state.set_pos(done as u64);
        });
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
