//! The command line's definition: every option, its default and its unit, once.

use clap::{Args, Parser, Subcommand};
use hired::checkpoint::synth::Preset;
use std::path::PathBuf;

/// Answers questions about images with LLaVA models, keeping only the visual tokens worth their cost.
#[derive(Debug, Parser)]
#[command(name = "hired", version, arg_required_else_help = false, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a random-weight checkpoint of a real architecture
    Synth(SynthArgs),
    /// Show what this machine can run on
    Devices(DevicesArgs),
}

#[derive(Debug, Args)]
pub struct SynthArgs {
    /// tiny, llava-v1.6-vicuna-7b, llava-v1.6-vicuna-13b, llava-v1.6-mistral-7b, llava-1.5-7b or llava-1.5-13b
    #[arg(long, value_name = "NAME")]
    pub preset: Preset,
    /// Folder to write, new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Same preset and seed, same bytes
    #[arg(long, value_name = "S", default_value = "0", allow_hyphen_values = true)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
