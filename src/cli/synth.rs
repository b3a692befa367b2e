//! `hired synth`: writes a model folder with random weights.

use super::interrupt::Interrupt;
use super::values;
use super::{Stop, progress};
use clap::Args;
use hired::checkpoint::synth;
use hired::checkpoint::synth::Preset;
use hired::text::synth::tokenizer_json_with;
use std::ops::ControlFlow;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Architecture: tiny, llava-v1.6-vicuna-7b, llava-v1.6-vicuna-13b, llava-v1.6-mistral-7b, llama3-llava-next-8b, pangea-7b, llava-v1.6-34b, onevision-0.5b, onevision-7b, llava-interleave-qwen-0.5b, joycaption, tiny-llava-v1, llava-1.5-7b, llava-1.5-13b, llava-phi-2.7b or mobilevlm-v2-1.7b
    #[arg(long, value_name = "NAME")]
    pub preset: Preset,
    /// Folder to write, new or empty
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of the weights; the same preset and seed give the same bytes
    #[arg(long, value_name = "S", default_value = "0", allow_hyphen_values = true, value_parser = values::whole::<u64>)]
    pub seed: u64,
}

pub fn synth(args: &SynthArgs, interrupt: &Interrupt) -> Result<(), Stop> {
    let SynthArgs { preset, out, seed } = args;
    let tokenizer =
        tokenizer_json_with(preset.vocab(), preset.image_token(), preset.image_tokens());
    interrupt.heed();
    let bar = progress::bytes(preset.to_string());
    let outcome = synth::write(*preset, out, *seed, &tokenizer, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        if interrupt.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    Ok(outcome?)
}
