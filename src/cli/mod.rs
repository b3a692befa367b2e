//! The program: arguments in, results on stdout, everything else on stderr.
//!
//! Exit status: 0 done, 1 the request failed, 2 the command line is wrong, 130 after Ctrl-C. A failure
//! is one line on stderr.

mod args;
mod bench;
mod chart;
mod devices;
mod dump;
mod eval;
mod files;
mod inspect;
mod interrupt;
mod output;
mod overlay;
mod plan;
mod progress;
mod quantize;
mod report;
mod run;
mod select;
mod selection;
mod synth;
mod table;
mod values;

use args::{Cli, Command};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use interrupt::Interrupt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command ended without its result.
#[derive(Debug)]
enum Stop {
    /// The request failed; what is wrong and what to do.
    Failed(String),
    /// The command line is wrong, and how.
    Usage(String),
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads standard output any more, so there is nothing left to do.
    Closed,
}

impl Stop {
    /// What a failed write to standard output means.
    fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("standard output: {error}")),
        }
    }
}

impl From<hired::Error> for Stop {
    fn from(error: hired::Error) -> Self {
        match error {
            hired::Error::Cancelled => Self::Interrupted,
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command),
        Err(error) => refuse(&error),
    };
    let (status, message) = match outcome {
        Ok(()) | Err(Stop::Closed) => (0, None),
        Err(Stop::Failed(message)) => (1, Some(message)),
        Err(Stop::Usage(message)) => (2, Some(format!("{message}; {}", help_hint()))),
        Err(Stop::Interrupted) => (130, None),
    };
    if let Some(message) = message {
        // Nobody is left to tell when stderr is closed too.
        let _ = writeln!(io::stderr(), "hired: {}", one_line(&message));
    }
    ExitCode::from(status)
}

fn dispatch(command: Command) -> Result<(), Stop> {
    let interrupt = Interrupt::watch()?;
    match command {
        Command::Run(args) => run::run(&args, &interrupt),
        Command::Select(args) => select::select(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Bench(args) => bench::bench(&args, &interrupt),
        Command::Eval(args) => eval::eval(&args, &interrupt),
        Command::Plan(args) => plan::plan(&args),
        Command::Synth(args) => synth::synth(&args, &interrupt),
        Command::Quantize(args) => quantize::quantize(&args, &interrupt),
        Command::Devices(args) => devices::devices(&args),
    }
}

/// What clap made of arguments that are no command: help and version are results, the rest is wrong.
fn refuse(error: &clap::Error) -> Result<(), Stop> {
    if let ErrorKind::DisplayHelp | ErrorKind::DisplayVersion = error.kind() {
        return error.print().map_err(|e| Stop::stdout(&e));
    }
    // What is wrong, tips, usage, where to read on: our hint stands for the last two.
    let text = error.render().to_string();
    let end =
        ["\n\nUsage: ", "\n\nFor more information"].iter().filter_map(|end| text.rfind(end)).min();
    let what = &text[..end.unwrap_or(text.len())];
    let what = what.strip_prefix("error: ").unwrap_or(what);
    Err(Stop::Usage(what.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// Where to read on, for the subcommand that was typed.
fn help_hint() -> String {
    let typed = std::env::args_os().nth(1).and_then(|typed| typed.into_string().ok());
    match typed.filter(|typed| Cli::command().find_subcommand(typed).is_some()) {
        Some(name) => format!("try 'hired {name} --help'"),
        None => "try 'hired --help'".into(),
    }
}

/// A message as one line, whatever file names and other people's messages hold.
pub fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
