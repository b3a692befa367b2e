//! The program: results go to stdout, everything else to stderr.
//!
//! Exit status: 0 success, 1 the request failed, 2 the command line is wrong, 130 after Ctrl-C. A failure is one line
//! on stderr.

mod args;
mod attention;
mod bench;
mod chart;
mod chat;
mod device;
mod devices;
mod dump;
mod eval;
mod fidelity;
pub mod files;
mod idle;
mod images;
mod inspect;
mod interrupt;
mod journal;
mod log;
mod manual;
mod messages;
mod output;
pub mod overlay;
mod plan;
mod plan_all;
mod plan_models;
mod progress;
mod prompt;
mod quantize;
#[cfg(test)]
mod reference;
pub mod report;
mod run;
pub mod select;
mod selection;
#[cfg(feature = "serve")]
mod serve;
mod synth;
mod table;
mod threads;
mod values;
mod version;

use args::{Cli, Command};
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use idle::Given;
use interrupt::Interrupt;
use std::io::{self, Write};
use std::process::ExitCode;

/// The reason why a command ended without its result.
#[derive(Debug)]
pub enum Stop {
    /// The request failed; the message says why and what to do.
    Failed(String),
    /// The command line is wrong; the message says how.
    Usage(String),
    /// No command was given; holds the help text.
    Help(String),
    /// The user pressed Ctrl-C.
    Interrupted,
    /// Standard output was closed by its reader, so there is nothing left to do.
    Closed,
}

impl Stop {
    /// Interprets a failed write to standard output.
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
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A panic that the library catches is reported as an error like any other.
        if !hired::panic_is_caught() {
            report(panic);
        }
    }));
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli, matches))
    });
    let outcome = match &parsed {
        Ok((cli, matches)) => cli.log.apply().and_then(|()| dispatch(&cli.command, matches)),
        Err(error) => refuse(error),
    };
    let (status, message) = match outcome {
        Ok(()) | Err(Stop::Closed) => (0, None),
        Err(Stop::Failed(message)) => (1, Some(message)),
        Err(Stop::Usage(message)) => (2, Some(format!("{message}; {}", help_hint()))),
        Err(Stop::Help(text)) => {
            let _ = io::stderr().write_all(text.as_bytes());
            (2, None)
        }
        Err(Stop::Interrupted) => (130, None),
    };
    if let Some(message) = message {
        // If stderr is closed too, nothing can be reported.
        let _ = writeln!(io::stderr(), "hired: {}", one_line(&message));
    }
    ExitCode::from(status)
}

fn dispatch(command: &Command, matches: &ArgMatches) -> Result<(), Stop> {
    threads::set(command.threads())?;
    let interrupt = Interrupt::watch()?;
    let (_, options) = matches.subcommand().expect("clap demands a command");
    let given = Given(options);
    match command {
        Command::Run(args) => run::run(args, &given, &interrupt),
        Command::Chat(args) => chat::chat(args, &given, &interrupt),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::serve(args, &given, &interrupt),
        Command::Select(args) => select::select(args, &given),
        Command::Inspect(args) => inspect::inspect(args, &given),
        Command::Bench(args) => bench::bench(args, &interrupt),
        Command::Attention(args) => attention::attention(args, &given, &interrupt),
        Command::Eval(args) => eval::eval(args, &interrupt),
        Command::Fidelity(args) => fidelity::fidelity(args, &interrupt),
        Command::Plan(args) => plan::plan(args, &given),
        Command::Synth(args) => synth::synth(args, &interrupt),
        Command::Quantize(args) => quantize::quantize(args, &interrupt),
        Command::Devices(args) => devices::devices(args),
        Command::Completions(args) => manual::completions(args),
        Command::Man(args) => manual::man(args),
    }
}

/// Handles clap's errors: help and version are printed as results, everything else is a usage error.
fn refuse(error: &clap::Error) -> Result<(), Stop> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return error.print().map_err(|e| Stop::stdout(&e));
        }
        // Without a command the help is printed, but as a usage error, so that scripts notice.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Err(Stop::Help(error.render().to_string()));
        }
        _ => {}
    }
    // clap renders the error, tips, the usage and a pointer to the help; our hint replaces the last two.
    let text = error.render().to_string();
    let end =
        ["\n\nUsage: ", "\n\nFor more information"].iter().filter_map(|end| text.rfind(end)).min();
    let what = &text[..end.unwrap_or(text.len())];
    let what = what.strip_prefix("error: ").unwrap_or(what);
    // clap puts a tip on its own line; here it goes into brackets.
    let (what, tips) = what.split_once("\n\n  tip: ").unwrap_or((what, ""));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let tips = tips.split("\n  tip: ").map(words).collect::<Vec<_>>().join("; ");
    Err(Stop::Usage(match tips.as_str() {
        "" => words(what),
        tips => format!("{} ({tips})", words(what)),
    }))
}

/// A hint at the help of the given subcommand.
fn help_hint() -> String {
    let typed = std::env::args_os().nth(1).and_then(|typed| typed.into_string().ok());
    match typed.filter(|typed| Cli::command().find_subcommand(typed).is_some()) {
        Some(name) => format!("try 'hired {name} --help'"),
        None => "try 'hired --help'".into(),
    }
}

/// A message on one line, without control characters that file names or foreign messages may contain.
pub fn one_line(message: &str) -> String {
    message.chars().map(|c| if output::steers(c) { ' ' } else { c }).collect()
}
