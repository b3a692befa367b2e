//! `hired synth`: a random-weight checkpoint.

use super::args::SynthArgs;
use super::{Stop, progress};
use hired::checkpoint::synth;
use hired::text::synth::tokenizer_json;

pub fn synth(args: &SynthArgs) -> Result<(), Stop> {
    let SynthArgs { preset, out, seed } = args;
    let tokenizer = tokenizer_json(preset.vocab(), preset.image_token());
    let bar = progress::bytes(preset.to_string());
    let outcome = synth::write(*preset, out, *seed, &tokenizer, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(outcome?)
}
