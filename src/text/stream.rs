//! Incremental detokenization of an answer.

use serde_json::Value;

use super::Tokenizer;
use crate::Result;

/// How the text of tokens can be determined before later tokens are known. It depends on the folder's decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Streaming {
    /// Each token has its own text, but consecutive byte tokens are decoded together, and the first text may lose its
    /// leading space (LLaMA, Mistral). `letter` is a token of `len` bytes of plain text; put before other tokens it
    /// shows that they are not the first.
    Runs { letter: u32, len: usize },
    /// Tokens are pieces of one sequence of bytes (GPT-2, LLaMA-3).
    Bytes,
    /// Any token may affect the text of others, so the text is only returned at the end.
    Whole,
}

impl Streaming {
    pub(super) fn of(decoder: &Value, tokenizer: &tokenizers::Tokenizer) -> Self {
        let mut steps = Vec::new();
        flatten(decoder, &mut steps);
        if let [step] = steps[..]
            && step["type"] == "ByteLevel"
        {
            return Self::Bytes;
        }
        if steps.is_empty() || !token_by_token(&steps) {
            return Self::Whole;
        }
        let text = |ids: &[u32]| tokenizer.decode(ids, true).unwrap_or_default();
        let letters = ('a'..='z').chain('A'..='Z').map(String::from);
        letters
            .filter_map(|letter| Some((tokenizer.token_to_id(&letter)?, letter)))
            .find(|(id, letter)| text(&[*id]) == *letter && text(&[*id, *id]) == letter.repeat(2))
            .map_or(Self::Whole, |(letter, text)| Self::Runs { letter, len: text.len() })
    }
}

fn flatten<'a>(decoder: &'a Value, steps: &mut Vec<&'a Value>) {
    match (decoder["type"].as_str(), decoder["decoders"].as_array()) {
        (Some("Sequence"), Some(list)) => list.iter().for_each(|step| flatten(step, steps)),
        (Some(_), _) => steps.push(decoder),
        (None, _) => {}
    }
}

/// Returns true if each step processes one token at a time, apart from byte runs, up to a final join that only
/// removes leading spaces.
fn token_by_token(steps: &[&Value]) -> bool {
    let mut fused = false;
    steps.iter().all(|step| match step["type"].as_str() {
        Some("Replace") => !fused && step["pattern"]["String"] == "▁" && step["content"] == " ",
        Some("Metaspace") => !fused && step["replacement"] == "▁",
        Some("ByteFallback") => !fused,
        Some("Fuse") => {
            fused = true;
            true
        }
        Some("Strip") => step["content"] == " " && step["stop"] == 0,
        _ => false,
    })
}

/// Turns token ids into text incrementally. All pieces joined, the one of [`finish`](Self::finish) included, equal
/// the result of [`Tokenizer::decode`] for all ids, and no piece ends inside a character.
///
/// A piece is empty while the text is not certain. In particular a byte token waits for the end of its run of byte
/// tokens, because one invalid byte makes the whole run unreadable. The cost per token does not depend on the number
/// of earlier tokens.
#[derive(Debug)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    /// Tokens whose text has not been returned completely, without special tokens.
    pending: Vec<u32>,
    /// Bytes of the text of `pending` that have been returned.
    out: usize,
    /// True if some text has been returned.
    started: bool,
}

impl Detokenizer {
    /// Starts an empty text.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { tokenizer: tokenizer.clone(), pending: Vec::new(), out: 0, started: false }
    }

    /// Takes the next id and returns the text that became certain.
    ///
    /// # Errors
    /// If the folder's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let Some(token) = self.tokenizer.visible(id) else { return Ok(String::new()) };
        let streaming = self.tokenizer.streaming();
        if streaming == Streaming::Bytes && token.is_empty() {
            return Ok(String::new());
        }
        self.pending.push(id);
        match streaming {
            Streaming::Runs { .. } if is_byte(&token) => Ok(String::new()),
            Streaming::Runs { letter, len } => self.settle_run(letter, len),
            Streaming::Bytes => self.settle_bytes(),
            Streaming::Whole => Ok(String::new()),
        }
    }

    /// Ends the text and returns the remainder.
    ///
    /// # Errors
    /// If the folder's decoder fails.
    pub fn finish(mut self) -> Result<String> {
        match self.tokenizer.streaming() {
            Streaming::Runs { letter, len } => self.settle_run(letter, len),
            Streaming::Bytes | Streaming::Whole => {
                Ok(tail(&self.tokenizer.decode(&self.pending)?, self.out))
            }
        }
    }

    fn settle_run(&mut self, letter: u32, len: usize) -> Result<String> {
        if self.pending.is_empty() {
            return Ok(String::new());
        }
        if self.started {
            self.pending.insert(0, letter);
            let text = self.tokenizer.decode(&self.pending)?;
            self.pending.clear();
            return Ok(tail(&text, len));
        }
        let text = self.tokenizer.decode(&self.pending)?;
        // If everything was stripped, the next token may be stripped too, so it must be decoded together with these.
        if !text.is_empty() {
            self.started = true;
            self.pending.clear();
        }
        Ok(text)
    }

    fn settle_bytes(&mut self) -> Result<String> {
        const UNREADABLE: &str = "\u{fffd}";
        let settled = |text: &str| text.strip_suffix(UNREADABLE).unwrap_or(text).len();
        let text = self.tokenizer.decode(&self.pending)?;
        let end = settled(&text);
        let piece = tail(&text[..end], self.out);
        if end == text.len() {
            self.pending.clear();
            self.out = 0;
        } else {
            // An incomplete character has at most three bytes, hence three tokens; the token before them shows where
            // it starts.
            let old = self.pending.len().saturating_sub(4);
            self.pending.drain(..old);
            self.out = settled(&self.tokenizer.decode(&self.pending)?);
        }
        Ok(piece)
    }
}

fn tail(text: &str, from: usize) -> String {
    text.get(from..).unwrap_or_default().to_owned()
}

/// Returns true if a token of the vocabulary stands for one byte (byte fallback).
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}
