//! Text to token ids and back, by the folder's `tokenizer.json`.

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

/// The largest tokenizers in use are below 40 MB.
const LIMIT: u64 = 64 << 20;

/// Most bytes that a text may become while it is encoded.
const GROWN_LIMIT: usize = 128 << 20;

/// A model folder's tokenizer. Clones share it.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    path: PathBuf,
    crate_tokenizer: tokenizers::Tokenizer,
    bos: Option<String>,
    clean_up: bool,
    streaming: Streaming,
    /// Most bytes that a byte of a text may become while it is encoded.
    growth: usize,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` and applies what transformers takes from `tokenizer_config.json`: tokens it adds and
    /// `clean_up_tokenization_spaces` (not `add_bos_token`: what stands around a text is `tokenizer.json`'s).
    ///
    /// # Errors
    /// The file is missing, damaged, or asks for something that cannot be done.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let Some(json) = read_text(&path, LIMIT)? else {
            let what = "is missing; take it from the model's repository, or make it with transformers: \
                        AutoTokenizer.from_pretrained(…).save_pretrained(…)";
            return Err(Error::model(&path, what));
        };
        Self::parse(&json, &path, &SpecialTokens::read(dir)?)
    }

    /// Makes a tokenizer from the text of a `tokenizer.json`. `file` is named in errors.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn parse(json: &str, file: &Path, special: &SpecialTokens) -> Result<Self> {
        let fail = |what: String| Error::model(file, what);
        // Parsed first on its own: the tokenizers crate panics on a decoder or model cut short.
        let value: Value = serde_json::from_str(json)
            .map_err(|e| fail(format!("is not valid JSON ({e}); download it again")))?;
        let growth = parts::check(&value).map_err(fail)?;
        let built = guarded(|| build(json, &value["decoder"], special));
        let (tokenizer, streaming) =
            built.unwrap_or_else(|| Err(PANICKED.into())).map_err(|said| {
                fail(format!("is not a tokenizer this engine reads ({said}); download it again"))
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

    /// Ids of a text. Special tokens written in it are recognised. `add_special`: with the tokens that the
    /// tokenizer puts around a text (BOS).
    ///
    /// # Errors
    /// The vocabulary cannot express the text (never with byte fallback).
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        self.check_length(text)?;
        let encode = || self.0.crate_tokenizer.encode_fast(text, add_special);
        let encoding = guarded(encode).ok_or_else(|| self.fail("encode", &PANICKED))?;
        Ok(encoding.map_err(|e| self.fail("encode", &*e))?.get_ids().to_vec())
    }

    /// Ids of a rendered chat template. Special tokens are added unless the template has written the BOS token
    /// itself, which is transformers' rule.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, rendered: &str) -> Result<Vec<u32>> {
        self.encode(rendered, !self.has_bos(rendered))
    }

    /// Texts in which no special token, and no `<image>`, is recognised once a template that has them is encoded by
    /// [`encode_marked`](Self::encode_marked); and the mark that was put into them.
    ///
    /// # Errors
    /// The texts hold every character that could serve as a mark.
    pub(crate) fn mark(&self, texts: &[&str]) -> Result<(Vec<String>, char)> {
        // Characters that Unicode promises never to give a meaning.
        let mut marks = '\u{fdd0}'..='\u{fdef}';
        let is_free = |mark: &char| !texts.iter().any(|text| text.contains(*mark));
        let mark = marks.find(is_free).ok_or_else(|| {
            Error::Request(
                "the prompt holds every character from U+FDD0 to U+FDEF: leave one out".into(),
            )
        })?;
        Ok((texts.iter().map(|text| self.marked(text, mark)).collect(), mark))
    }

    fn marked(&self, words: &str, mark: char) -> String {
        let added = self.0.crate_tokenizer.get_added_vocabulary();
        let tokens = added.get_vocab().keys().map(String::as_str);
        // Also where `<image>` is no token: it may be spelled as the one that the model has for images.
        let tokens = tokens.filter(|token| added.is_special_token(token)).chain([IMAGE]);
        // Behind the first character of each place.
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

    /// As [`encode_prompt`](Self::encode_prompt), without the marks, which keep special tokens from being recognised.
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
            "the prompt has {} bytes, this model's tokenizer takes up to {longest}; shorten it",
            text.len()
        )))
    }

    /// Text of ids; special tokens, and ids outside the vocabulary, have none.
    ///
    /// # Errors
    /// The folder's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let decode = || self.0.crate_tokenizer.decode(ids, true);
        let text = guarded(decode).ok_or_else(|| self.fail("decode", &PANICKED))?;
        let text = text.map_err(|e| self.fail("decode", &*e))?;
        Ok(if self.0.clean_up { clean_up(text) } else { text })
    }

    /// Id of a token given by its exact text, such as `<image>`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.0.crate_tokenizer.token_to_id(token)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.0.crate_tokenizer.get_vocab_size(true)
    }

    /// The text of an id as the vocabulary spells it, if it takes part in [`decode`](Self::decode).
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

/// Where the image goes in a prompt.
const IMAGE: &str = "<image>";

/// What is said of a panic.
const PANICKED: &str = "the tokenizers library failed on it";

/// The library's tokenizer with the tokens of the folder's other files, and how its text can be streamed.
fn build(
    json: &str,
    decoder: &Value,
    special: &SpecialTokens,
) -> std::result::Result<(tokenizers::Tokenizer, Streaming), String> {
    let said = |error: tokenizers::Error| excerpt(error, 200);
    let mut tokenizer: tokenizers::Tokenizer = json.parse().map_err(said)?;
    // Meant for training batches; transformers switches both off for a single prompt.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(said)?;
    tokenizer.add_tokens(&special.added);
    // One that is special already keeps its own flags: they say what becomes of the spaces around it.
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
