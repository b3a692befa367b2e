//! Samples the next tokens of a group of sequences.

use super::runner::Lent;
use crate::ops::Ops;
use crate::ops::sample::{self, Sampling};
use crate::{Error, Result};

/// What determines the next token of a sequence, apart from its logits.
pub struct Turn<'a> {
    pub sampling: Sampling,
    /// The distinct tokens of the prompt; only if [`Sampling::penalizes`].
    pub before: &'a [u32],
    /// The answer so far.
    pub tokens: &'a [u32],
}

impl<O: Ops> Lent<'_, O> {
    /// Samples a token for each row of logits: on the executor, or, if any row uses an option that the device kernels
    /// do not support, all of them on the host.
    pub fn draw(&mut self, logits: &O::Buffer, turns: &[Turn<'_>]) -> Result<Vec<u32>> {
        if turns.iter().all(|turn| turn.sampling.is_on_devices()) {
            let how: Vec<_> = turns.iter().map(|turn| (turn.sampling, turn.tokens.len())).collect();
            return self.ops.sample(logits, &how);
        }
        // This call checks that the logits are finite, and tells the executor that the first token is done.
        let likely = vec![(Sampling::default(), 0); turns.len()];
        self.ops.sample(logits, &likely)?;
        let mut numbers = self.ops.download(logits)?;
        let cols = numbers.len() / turns.len();
        Ok(numbers
            .chunks_exact_mut(cols)
            .zip(turns)
            .map(|(row, turn)| on_host(row, turn))
            .collect())
    }
}

impl<O: Ops> Lent<'_, O> {
    /// As [`Lent::draw`], but logits that are not finite only fail their own row.
    pub fn draw_each(
        &mut self,
        logits: &O::Buffer,
        turns: &[Turn<'_>],
    ) -> Result<Vec<Result<u32>>> {
        let what = match self.draw(logits, turns) {
            Ok(tokens) => return Ok(tokens.into_iter().map(Ok).collect()),
            Err(Error::Numeric(what)) => what,
            Err(error) => return Err(error),
        };
        let mut numbers = self.ops.download(logits)?;
        let cols = numbers.len() / turns.len();
        let token = |(row, turn): (&mut [f32], &Turn<'_>)| match row.iter().all(|x| x.is_finite()) {
            true => Ok(on_host(row, turn)),
            false => Err(Error::Numeric(what.clone())),
        };
        Ok(numbers.chunks_exact_mut(cols).zip(turns).map(token).collect())
    }
}

/// Samples the next token from finite logits.
fn on_host(logits: &mut [f32], turn: &Turn<'_>) -> u32 {
    let Turn { sampling, before, tokens } = turn;
    if sampling.penalizes() {
        let mut answer: Vec<u32> =
            tokens.iter().filter(|id| before.binary_search(id).is_err()).copied().collect();
        answer.sort_unstable();
        answer.dedup();
        let all = before.iter().copied().chain(answer);
        sample::penalize(logits, sampling.repetition_penalty, all);
    }
    // A penalty can turn a finite logit into an infinity; clamped, it is either the most likely token or never
    // chosen.
    logits.iter_mut().for_each(|logit| *logit = logit.clamp(f32::MIN, f32::MAX));
    sample::draw(logits, sampling, tokens.len()).expect("all logits are finite")
}
