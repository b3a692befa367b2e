//! `hired synth`: a random-weight checkpoint.

use super::args::SynthArgs;
use super::interrupt::Interrupt;
use super::{Stop, progress};
use hired::checkpoint::synth;
use hired::text::synth::tokenizer_json;
use std::ops::ControlFlow;

pub fn synth(args: &SynthArgs, interrupt: &Interrupt) -> Result<(), Stop> {
    let SynthArgs { preset, out, seed } = args;
    let tokenizer = tokenizer_json(preset.vocab(), preset.image_token());
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
