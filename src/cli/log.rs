//! The amount of output on standard error.

use super::Stop;
use super::args::heading;
use super::values::one_of;
use clap::Args;
use std::sync::OnceLock;

/// Levels of output on standard error; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only the reason why a command failed.
    Error,
    /// Also notes and progress bars.
    Note,
    /// Also the model, the device and a line of statistics for each answer.
    Info,
}

#[derive(Debug, Args)]
#[command(next_help_heading = heading::MESSAGES)]
pub struct LogArgs {
    /// Also print the model, the device and a line of statistics for each answer, as --log-level info; without it
    /// statistics are printed only in a terminal
    #[arg(short, long, global = true, conflicts_with_all = ["quiet", "log_level"])]
    verbose: bool,
    /// Print no notes, progress bars or statistics, as --log-level error
    #[arg(short, long, global = true, conflicts_with = "log_level")]
    quiet: bool,
    /// Output on standard error: error (only the reason for a failure), note (also notes and progress bars) or info
    /// (also the model, the device and a line of statistics for each answer) [env: HIRED_LOG] [default: note]
    #[arg(hide_short_help = true, long, global = true, value_name = "LEVEL", value_parser = one_of(&LEVELS))]
    log_level: Option<Level>,
}

const LEVELS: [(&str, Level); 3] =
    [("error", Level::Error), ("note", Level::Note), ("info", Level::Info)];

/// The variable that sets the level if no option does. It is not read by clap, which would treat it as conflicting
/// with the options.
const VARIABLE: &str = "HIRED_LOG";

static LEVEL: OnceLock<Level> = OnceLock::new();

impl LogArgs {
    /// Applies the level to the whole program.
    pub fn apply(&self) -> Result<(), Stop> {
        let level = match (self.verbose, self.quiet, self.log_level) {
            (true, ..) => Level::Info,
            (_, true, _) => Level::Error,
            (.., Some(level)) => level,
            _ => Self::by_variable()?,
        };
        // It can only be set once, because a program has one command line.
        let _ = LEVEL.set(level);
        Ok(())
    }

    fn by_variable() -> Result<Level, Stop> {
        let value = std::env::var_os(VARIABLE).unwrap_or_default();
        let value = value.to_string_lossy();
        match LEVELS.iter().find(|(name, _)| *name == value) {
            Some((_, level)) => Ok(*level),
            None if value.is_empty() => Ok(Level::Note),
            None => Err(Stop::Usage(format!(
                "the environment variable {VARIABLE} is '{value}': set it to error, note or info"
            ))),
        }
    }
}

/// Returns true if messages of this level are written.
pub fn shows(level: Level) -> bool {
    level <= *LEVEL.get().unwrap_or(&Level::Note)
}
