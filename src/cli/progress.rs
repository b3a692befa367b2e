//! Progress bars, on stderr and only when it is a terminal.

use super::log::{Level, shows};
use hired::ops::clock::Stage;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};

/// A bar for work of `all` steps, or nothing when nobody looks.
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
    /// Ended, whether they were made or not.
    planned: u64,
}

pub fn steps(all: usize) -> Steps {
    Steps { bar: bar(all as u64, "{msg} {wide_bar} {pos}/{len} {eta}"), planned: 0 }
}

impl Steps {
    /// Names the one that begins.
    pub fn begin(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    /// One more is done.
    pub fn end(&self) {
        self.bar.inc(1);
    }

    /// Does something that prints, with the bar out of its way.
    pub fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }

    /// A row of so many is over, also if some of them were not made.
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

/// The way of a batch to its first tokens, block by block.
#[derive(Debug)]
pub struct Blocks {
    bar: ProgressBar,
    requests: usize,
}

impl Blocks {
    pub fn new(requests: usize) -> Self {
        Self { bar: bar(1, "{msg} {wide_bar} {pos}/{len}"), requests }
    }

    /// Shows that `done` of `all` blocks are done.
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
        // Together, or the bar shows the old position in the new length.
        self.bar.update(|state| {
            state.set_len(all as u64);
            state.set_pos(done as u64);
        });
    }

    /// Gives the line back.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
