//! `hired completions` and `hired man`: the command line's definition as shell completions and manual pages.

use super::Stop;
use super::args::Cli;
use super::output::print;
use clap::Args;
use clap::CommandFactory;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command to describe [default: hired itself]
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

pub fn completions(args: &CompletionsArgs) -> Result<(), Stop> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hired", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub fn man(args: &ManArgs) -> Result<(), Stop> {
    let mut hired = Cli::command();
    // Propagates global options to all commands, and sets the names of the pages.
    hired.build();
    let page = match &args.command {
        None => hired,
        Some(name) => match hired.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                let names: Vec<&str> = hired.get_subcommands().map(|c| c.get_name()).collect();
                let names = names.join(", ");
                return Err(Stop::Usage(format!(
                    "there is no command '{name}': give one of {names}"
                )));
            }
        },
    };
    let mut roff = Vec::new();
    let rendered = clap_mangen::Man::new(page).render(&mut roff);
    rendered.map_err(|error| Stop::Failed(format!("the manual page: {error}")))?;
    print(&String::from_utf8_lossy(&roff))
}
