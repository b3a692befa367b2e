//! How much is said on standard error.

use super::args::heading;
use clap::{Args, ValueEnum};
use std::sync::OnceLock;

/// What is written to standard error, each level with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    /// Why a command failed, and nothing else
    Error,
    /// Also notes and progress bars
    Note,
    /// Also the model, the device and a line of statistics for each answer
    Info,
}

#[derive(Debug, Args)]
#[command(next_help_heading = heading::MESSAGES)]
pub struct LogArgs {
    /// Also tell the model, the device and a line of statistics for each answer, as --log-level info does; without it
    /// statistics appear on a terminal only
    #[arg(short, long, global = true, conflicts_with_all = ["quiet", "log_level"])]
    verbose: bool,
    /// No notes, progress bars or statistics, as --log-level error
    #[arg(short, long, global = true, conflicts_with = "log_level")]
    quiet: bool,
    /// What to write to standard error
    #[arg(hide_short_help = true, long, global = true, value_name = "LEVEL", value_enum, default_value_t = Level::Note, env = "HIRED_LOG", hide_env_values = true)]
    log_level: Level,
}

static LEVEL: OnceLock<Level> = OnceLock::new();

impl LogArgs {
    /// Holds from now on, for the whole program.
    pub fn apply(&self) {
        let level = match (self.verbose, self.quiet) {
            (true, _) => Level::Info,
            (_, true) => Level::Error,
            _ => self.log_level,
        };
        // The first one holds: a program has one command line.
        let _ = LEVEL.set(level);
    }
}

/// Whether messages of this level are written.
pub fn shows(level: Level) -> bool {
    level <= *LEVEL.get().unwrap_or(&Level::Note)
}
