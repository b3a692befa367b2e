//! Generates `docs/cli.md` from the command line's definition.
//!
//! `HIRED_UPDATE=1 cargo test --bins reference` rewrites it.

use super::args::{Cli, heading};
use clap::{Arg, ArgAction, Command, CommandFactory};
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "\
# Command line

`hired COMMAND --help` says the same in the terminal, `hired COMMAND -h` shows the common options alone.

Results go to standard output, everything else to standard error. Exit status: 0 done, 1 the request failed, 2 the command
line is wrong, 130 after Ctrl-C, SIGTERM or SIGHUP. A failure is one line that says what is wrong and what to do.

`hired completions bash` (also `zsh`, `fish`, `elvish`, `powershell`) prints a completion script, `hired man [COMMAND]` a
manual page.

| variable | effect |
|---|---|
| `HIRED_MODEL` | the model where `--model` is not given (`run`, `serve`, `select`, `inspect`, `eval`) |
| `HIRED_API_KEY` | the key of `serve` where `--api-key` is not given |
| `HIRED_LOG` | what to write to standard error where `--log-level` is not given: `error`, `note`, `info` |
| `RAYON_NUM_THREADS` | threads of the CPU where `--threads` is not given |
| `HF_HUB_CACHE`, `HF_HOME` | where models are looked for that are given by their name on the Hugging Face hub |
";

/// A table cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

fn row(arg: &Arg) -> String {
    let mut names = Vec::new();
    let values = arg.get_value_names().unwrap_or_default();
    let value = match (arg.get_action(), values) {
        (ArgAction::Set | ArgAction::Append, [value]) => format!(" {value}"),
        _ => String::new(),
    };
    names.extend(arg.get_short().map(|short| format!("`-{short}`")));
    names.extend(arg.get_long().map(|long| format!("`--{long}{value}`")));
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    names.extend(aliases.iter().map(|alias| format!("`--{alias}`")));
    if names.is_empty() {
        names.push(format!("`{}`", value.trim()));
    }
    let help = cell(&arg.get_help().map(ToString::to_string).unwrap_or_default());
    // A default that depends on another option is part of the help text.
    let (help, told) = match help.split_once(" [default: ") {
        Some((before, rest)) => match rest.strip_suffix(']') {
            Some(told) => (before.to_owned(), told.to_owned()),
            None => (help.clone(), String::new()),
        },
        None => (help, String::new()),
    };
    let fixed: Vec<String> =
        arg.get_default_values().iter().map(|v| format!("`{}`", v.to_string_lossy())).collect();
    let default = match (fixed.is_empty(), arg.is_required_set(), arg.get_action()) {
        (false, ..) if value.is_empty() => "off".into(),
        (false, ..) => fixed.join(", "),
        (true, true, _) => "required".into(),
        (true, false, ArgAction::SetTrue) => "off".into(),
        _ => told,
    };
    format!("| {} | {help} | {default} |\n", names.join(", "))
}

/// A table of the options under each heading.
fn tables(command: &Command, text: &mut String, shown: impl Fn(&Arg) -> bool) {
    let args: Vec<&Arg> = command.get_arguments().filter(|arg| shown(arg)).collect();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for arg in &args {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    for heading in headings {
        if let Some(heading) = heading {
            write!(text, "\n**{heading}**\n").unwrap();
        }
        *text += "\n| option | meaning | default |\n|---|---|---|\n";
        args.iter()
            .filter(|arg| arg.get_help_heading() == heading)
            .for_each(|arg| *text += &row(arg));
    }
}

fn reference() -> String {
    let mut hired = Cli::command().term_width(usize::MAX);
    hired.build();
    let is_general = |arg: &Arg| arg.get_help_heading() == Some(heading::MESSAGES);
    let is_help = |arg: &Arg| matches!(arg.get_id().as_str(), "help" | "version");
    let mut text = String::from(HEAD);
    text += "\n## Every command\n";
    tables(&hired, &mut text, is_general);
    for command in hired.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let usage = command.render_usage().to_string();
        let usage = one_line(usage.trim_start_matches("Usage: "));
        write!(text, "\n## hired {}\n\n{about}.\n\n    {usage}\n", command.get_name()).unwrap();
        tables(command, &mut text, |arg| !is_general(arg) && !is_help(arg));
    }
    text
}

/// The text on one line, otherwise unchanged.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_reference_is_what_the_definition_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let made = reference();
    if std::env::var("HIRED_UPDATE").as_deref() == Ok("1") {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/cli.md is stale: run HIRED_UPDATE=1 cargo test --bins reference"
    );
}
