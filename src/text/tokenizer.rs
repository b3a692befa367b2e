//! Encodes text to token ids and decodes them, according to the folder's `tokenizer.json`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokenizers::tokenizer::pre_tokenizer::OffsetType;
use tokenizers::{AddedToken, Model, ModelWrapper, PreTokenizer};

use super::stream::Streaming;
use super::{SpecialTokens, parts, read_text};
use crate::error::{Error, Result, excerpt};
use crate::guard::guarded;

/// Largest `tokenizer.json` in bytes; those in use have less than 40 MB.
const LIMIT: u64 = 64 << 20;

/// Limit on the bytes that a text may become while it is encoded.
const GROWN_LIMIT: usize = 128 << 20;

/// The tokenizer of a model folder. Clones share it.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    path: PathBuf,
    crate_tokenizer: tokenizers::Tokenizer,
    bos: Option<String>,
    clean_up: bool,
    streaming: Streaming,
    /// The most bytes that one byte of text may become while it is encoded.
    growth: usize,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` and applies what transformers takes from `tokenizer_config.json`: added tokens and
    /// `clean_up_tokenization_spaces` (not `add_bos_token`, because `tokenizer.json` determines the tokens around a
    /// text).
    ///
    /// # Errors
    /// If the file is missing, damaged or needs something that is not supported.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let Some(json) = read_text(&path, LIMIT)? else {
            let what = "is missing; take it from the model's repository, or make it with transformers: \
                        AutoTokenizer.from_pretrained(…).save_pretrained(…)";
            return Err(Error::model(&path, what));
        };
        Self::parse(&json, &path, &SpecialTokens::read(dir)?)
    }

    /// Creates a tokenizer from the text of a `tokenizer.json`. `file` is named in errors.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn parse(json: &str, file: &Path, special: &SpecialTokens) -> Result<Self> {
        let fail = |what: String| Error::model(file, what);
        // Parsed separately first, because the tokenizers crate panics on a truncated decoder or model.
        let value: Value = serde_json::from_str(json)
            .map_err(|e| fail(format!("is not valid JSON ({e}); download it again")))?;
        let growth = parts::check(&value).map_err(fail)?;
        let built = guarded(|| build(json, &value["decoder"], special));
        let (tokenizer, streaming) =
            built.unwrap_or_else(|| Err(PANICKED.into())).map_err(|said| {
                fail(format!("is not a supported tokenizer ({said}); download it again"))
            })?;
        let bpe = matches!(tokenizer.get_model(), ModelWrapper::BPE(_));
        let clean_up = if bpe { special.clean_up_bpe } else { special.clean_up };
        Ok(Self(Arc::new(Inner {
            path: file.to_owned(),
            crate_tokenizer: tokenizer,
            bos: special.get("bos_token").map(str::to_owned),
            clean_up,
            streaming: if clean_up { Streaming::Whole } else { streaming },
            growth,
        })))
    }

    /// The ids of a text. Special tokens in it are recognised. With `add_special`, the tokens that the tokenizer puts
    /// around a text (BOS) are added.
    ///
    /// # Errors
    /// If the vocabulary cannot express the text (never with byte fallback).
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        self.check_length(text)?;
        let encode = || self.0.crate_tokenizer.encode_fast(text, add_special);
        let encoding = guarded(encode).ok_or_else(|| self.fail("encode", &PANICKED))?;
        Ok(encoding.map_err(|e| self.fail("encode", &*e))?.get_ids().to_vec())
    }

    /// The ids of a rendered chat template. Special tokens are added unless the template has written the BOS token
    /// itself, as in transformers.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, rendered: &str) -> Result<Vec<u32>> {
        self.encode(rendered, !self.has_bos(rendered))
    }

    /// Marks texts such that [`encode_marked`](Self::encode_marked) recognises no special token and no `<image>` in
    /// them after they were inserted into a template. Returns the marked texts and the mark.
    ///
    /// # Errors
    /// If the texts contain all characters that could serve as a mark.
    pub(crate) fn mark(&self, texts: &[&str]) -> Result<(Vec<String>, char)> {
        // Noncharacters, to which Unicode will never assign a meaning.
        let mut marks = '\u{fdd0}'..='\u{fdef}';
        let is_free = |mark: &char| !texts.iter().any(|text| text.contains(*mark));
        let mark = marks.find(is_free).ok_or_else(|| {
            Error::Request(
                "the prompt contains all characters from U+FDD0 to U+FDEF: leave one out".into(),
            )
        })?;
        Ok((texts.iter().map(|text| self.marked(text, mark)).collect(), mark))
    }

    fn marked(&self, words: &str, mark: char) -> String {
        let added = self.0.crate_tokenizer.get_added_vocabulary();
        let tokens = added.get_vocab().keys().map(String::as_str);
        // `<image>` is included even if it is not a token, because it may be rewritten to the model's image token.
        let tokens = tokens.filter(|token| added.is_special_token(token)).chain([IMAGE]);
        // Marks are inserted after the first character of each match.
        let mut places: Vec<usize> = tokens
            .filter(|token| !token.is_empty())
            .flat_map(|token| {
                let first = token.chars().next().map_or(0, char::len_utf8);
                let starts = words.char_indices().map(|(at, _)| at);
                starts.filter(move |&at| words[at..].starts_with(token)).map(move |at| at + first)
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        let mut marked = String::with_capacity(words.len() + 3 * places.len());
        let mut copied = 0;
        for place in places {
            marked.push_str(&words[copied..place]);
            marked.push(mark);
            copied = place;
        }
        marked + &words[copied..]
    }

    /// As [`encode_prompt`](Self::encode_prompt), but removes the marks, which kept special tokens from being
    /// recognised.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn encode_marked(&self, rendered: &str, mark: char) -> Result<Vec<u32>> {
        self.check_length(rendered)?;
        let add_special = !self.has_bos(rendered);
        let tokenizer = &self.0.crate_tokenizer;
        let encode = || -> tokenizers::Result<Vec<u32>> {
            let added = tokenizer.get_added_vocabulary();
            let mut pieces = added.extract_and_normalize(tokenizer.get_normalizer(), rendered);
            pieces.normalize(|piece| {
                piece.filter(|c| c != mark);
                Ok(())
            })?;
            if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            pieces.tokenize(|piece| tokenizer.get_model().tokenize(piece.get()))?;
            let encoding = pieces.into_encoding(None, 0, OffsetType::None)?;
            Ok(tokenizer.post_process(encoding, None, add_special)?.get_ids().to_vec())
        };
        let ids = guarded(encode).ok_or_else(|| self.fail("encode", &PANICKED))?;
        ids.map_err(|e| self.fail("encode", &*e))
    }

    fn has_bos(&self, rendered: &str) -> bool {
        self.0.bos.as_ref().is_some_and(|bos| rendered.starts_with(bos.as_str()))
    }

    fn check_length(&self, text: &str) -> Result<()> {
        let longest = GROWN_LIMIT / self.0.growth;
        if text.len() <= longest {
            return Ok(());
        }
        Err(Error::Request(format!(
            "the prompt has {} bytes, this model's tokenizer supports up to {longest}; shorten it",
            text.len()
        )))
    }

    /// The text of ids, without special tokens and ids outside the vocabulary.
    ///
    /// # Errors
    /// If the folder's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let decode = || self.0.crate_tokenizer.decode(ids, true);
        let text = guarded(decode).ok_or_else(|| self.fail("decode", &PANICKED))?;
        let text = text.map_err(|e| self.fail("decode", &*e))?;
        Ok(if self.0.clean_up { clean_up(text) } else { text })
    }

    /// The id of a token given by its exact text, such as `<image>`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.0.crate_tokenizer.token_to_id(token)
    }

    /// The number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.0.crate_tokenizer.get_vocab_size(true)
    }

    /// The text of an id in the vocabulary's spelling, if it is part of [`decode`](Self::decode)'s output.
    pub(super) fn visible(&self, id: u32) -> Option<String> {
        let token = self.0.crate_tokenizer.id_to_token(id)?;
        let special = self.0.crate_tokenizer.get_added_vocabulary().is_special_token(&token);
        (!special).then_some(token)
    }

    pub(super) fn streaming(&self) -> Streaming {
        self.0.streaming
    }

    fn fail(&self, doing: &str, error: &dyn fmt::Display) -> Error {
        let said = excerpt(error, 200);
        let what = format!("cannot {doing} ({said}); check that the file belongs to this model");
        Error::model(&self.0.path, what)
    }
}

/// The placeholder of an image in a prompt.
const IMAGE: &str = "<image>";

/// The message for a panic of the library.
const PANICKED: &str = "the tokenizers library failed on it";

/// Creates the library's tokenizer with the tokens of the folder's other files, and determines how its text can be
/// streamed.
fn build(
    json: &str,
    decoder: &Value,
    special: &SpecialTokens,
) -> std::result::Result<(tokenizers::Tokenizer, Streaming), String> {
    let said = |error: tokenizers::Error| excerpt(error, 200);
    let mut tokenizer: tokenizers::Tokenizer = json.parse().map_err(said)?;
    // These are for training batches; transformers switches both off for a single prompt.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(said)?;
    tokenizer.add_tokens(&special.added);
    // A token that is special already keeps its own flags, which determine the treatment of spaces around it.
    let named = special.named.iter().map(|(_, text)| text).chain(&special.extra);
    let vocabulary = tokenizer.get_added_vocabulary();
    let tokens: Vec<AddedToken> = named
        .filter(|text| !vocabulary.is_special_token(text))
        .map(|text| AddedToken::from(text, true))
        .collect();
    tokenizer.add_special_tokens(&tokens);
    let streaming = Streaming::of(decoder, &tokenizer);
    Ok((tokenizer, streaming))
}

/// transformers' `clean_up_tokenization`.
fn clean_up(mut text: String) -> String {
    for (from, to) in [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ] {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    text
}
