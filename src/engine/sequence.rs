//! One answer while it is generated.

use super::answer::{Event, FinishReason};
use super::drawing::Turn;
use super::prepare::Prepared;
use super::stops::Stops;
use crate::Result;
use crate::kv::Tables;
use crate::ops::sample::Sampling;
use crate::text::{Detokenizer, Tokenizer};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The state of an answer that is being generated.
pub struct Sequence {
    pub request: usize,
    pub tables: Tables,
    pub tokens: Vec<u32>,
    pub text: String,
    pub finished: Option<FinishReason>,
    pub ttft: Duration,
    pub sampling: Sampling,
    /// The distinct tokens of the prompt, if they affect the sampling.
    before: Vec<u32>,
    max_new_tokens: usize,
    eos: Vec<u32>,
    stops: Stops,
    detokenizer: Option<Detokenizer>,
    first: Instant,
    last: Instant,
}

impl Sequence {
    /// A sequence before its first token. Any token of `eos` ends it; `before` is passed on as [`Turn::before`].
    pub fn new(
        request: usize,
        tables: Tables,
        tokenizer: &Tokenizer,
        prepared: &Prepared,
        before: Vec<u32>,
        eos: Vec<u32>,
    ) -> Self {
        let now = Instant::now();
        Self {
            request,
            tables,
            tokens: Vec::new(),
            text: String::new(),
            finished: None,
            ttft: Duration::ZERO,
            sampling: prepared.sampling,
            before,
            max_new_tokens: prepared.max_new_tokens,
            eos,
            stops: Stops::new(prepared.stop.clone()),
            detokenizer: Some(Detokenizer::new(tokenizer)),
            first: now,
            last: now,
        }
    }

    /// The sampling state for the next token.
    pub fn turn(&self) -> Turn<'_> {
        Turn { sampling: self.sampling, before: &self.before, tokens: &self.tokens }
    }

    /// Appends a generated token, reports it, and checks whether the answer ends.
    pub fn push(
        &mut self,
        id: u32,
        start: Instant,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        self.last = Instant::now();
        if self.tokens.is_empty() {
            self.first = self.last;
            self.ttft = self.last - start;
        }
        self.tokens.push(id);
        let text = match &mut self.detokenizer {
            Some(detokenizer) => detokenizer.push(id)?,
            None => String::new(),
        };
        let (text, stopped) = self.stops.push(&text);
        if stopped {
            // Text after a stop text is not part of the answer.
            self.detokenizer = None;
        }
        self.text.push_str(&text);
        let flow = on_event(Event::Token { request: self.request, id, text: &text });
        let reason = if stopped || self.eos.contains(&id) {
            Some(FinishReason::Stop)
        } else if self.tokens.len() == self.max_new_tokens {
            Some(FinishReason::Length)
        } else if flow.is_break() {
            Some(FinishReason::Cancelled)
        } else {
            None
        };
        let ended = match reason {
            Some(reason) => self.finish(reason, on_event)?,
            None => ControlFlow::Continue(()),
        };
        Ok(if flow.is_break() { flow } else { ended })
    }

    /// Ends the answer.
    pub fn finish(
        &mut self,
        reason: FinishReason,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let rest = match self.detokenizer.take() {
            Some(detokenizer) => detokenizer.finish()?,
            None => String::new(),
        };
        // A detokenizer that returns its text only at the end returns it here.
        let (mut rest, stopped) = self.stops.push(&rest);
        if !stopped {
            rest += &self.stops.finish();
        }
        self.text.push_str(&rest);
        self.finished = Some(reason);
        Ok(on_event(Event::Finished { request: self.request, text: &rest, reason }))
    }

    /// Time from the first token to the last.
    pub fn decode_time(&self) -> Duration {
        self.last - self.first
    }
}
