//! Options of `hired attention`.

use crate::cli::Stop;
use crate::cli::args::{DeviceArgs, ModelArgs};
use crate::cli::selection::SelectionArgs;
use crate::cli::values::{self, PromptArg};
use clap::Args;
use hired::select::Budget;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct AttentionArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Image: PNG, JPEG, WebP, BMP, first frame of a GIF, - (standard input) or a data: URL
    #[arg(short, long, value_name = "FILE")]
    pub image: PathBuf,
    /// Question about the image: TEXT, @FILE or @- (standard input)
    #[arg(short, long, value_name = "TEXT", value_parser = values::prompt)]
    pub prompt: PromptArg,
    /// Number of image tokens to keep: a count (576), a share of all patches (20%) or full
    #[arg(short, long, value_name = "B", default_value = "full", allow_hyphen_values = true)]
    pub budget: Budget,
    /// Largest number of tokens to generate
    #[arg(long, value_name = "N", default_value = "32", allow_hyphen_values = true, value_parser = values::count)]
    pub max_new_tokens: usize,
    /// Layers of the language model to evaluate; negative counts from the end [default: all]
    #[arg(long, value_name = "L,…", value_delimiter = ',', allow_hyphen_values = true, value_parser = values::layer)]
    layers: Vec<i32>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    /// Plot attention by kind of token and layer, and its cumulative distribution over the image's patches
    #[arg(long, value_name = "OUT.svg")]
    pub plot: Option<PathBuf>,
    /// Draw heat maps of the vision tower's class attention to the full image, one for each of --vision-layers
    #[arg(long, value_name = "OUT.png")]
    pub heatmap: Option<PathBuf>,
    /// Layers of the vision tower for --heatmap; negative counts from the end
    #[arg(long, value_name = "L,…", value_delimiter = ',', default_value = "0,1,2,-3,-2", allow_hyphen_values = true, value_parser = values::layer)]
    pub vision_layers: Vec<i32>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl AttentionArgs {
    /// The requested layers of a model with `count` layers.
    pub fn decoder_layers(&self, count: usize) -> Result<Vec<usize>, Stop> {
        if self.layers.is_empty() {
            return Ok((0..count).collect());
        }
        let all = count as i64;
        let place = |&layer: &i32| {
            let index = i64::from(layer) + if layer < 0 { all } else { 0 };
            usize::try_from(index).ok().filter(|&index| index < count).ok_or_else(|| {
                let what =
                    format!("--layers {layer}: the language model has layers 0 to {}", count - 1);
                Stop::Usage(what)
            })
        };
        self.layers.iter().map(place).collect()
    }
}
