//! Text to token ids and back, by the folder's `tokenizer.json`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokenizers::{AddedToken, ModelWrapper};

use super::stream::Streaming;
use super::{SpecialTokens, read_text};
use crate::error::{Error, Result, excerpt};

/// The largest tokenizers in use are below 40 MB.
const LIMIT: u64 = 64 << 20;

/// No vocabulary comes near it.
const MAX_ID: u64 = u32::MAX as u64 / 2;

/// A model folder's tokenizer. Clones share it.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    path: PathBuf,
    crate_tokenizer: tokenizers::Tokenizer,
    bos: Option<String>,
    clean_up: bool,
    streaming: Streaming,
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
        check(&value).map_err(fail)?;
        let mut tokenizer: tokenizers::Tokenizer = json.parse().map_err(|e| {
            let said = excerpt(e, 200);
            fail(format!("is not a tokenizer this engine reads ({said}); download it again"))
        })?;
        // Meant for training batches; transformers switches both off for a single prompt.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| fail(format!("has truncation that cannot be switched off ({e})")))?;
        tokenizer.add_tokens(&special.added);
        // One that is special already keeps its own flags: they say what becomes of the spaces around it.
        let named = special.named.iter().map(|(_, text)| text).chain(&special.extra);
        let vocabulary = tokenizer.get_added_vocabulary();
        let tokens: Vec<AddedToken> = named
            .filter(|text| !vocabulary.is_special_token(text))
            .map(|text| AddedToken::from(text, true))
            .collect();
        tokenizer.add_special_tokens(&tokens);
        let bpe = matches!(tokenizer.get_model(), ModelWrapper::BPE(_));
        let clean_up = if bpe { special.clean_up_bpe } else { special.clean_up };
        let streaming =
            if clean_up { Streaming::Whole } else { Streaming::of(&value["decoder"], &tokenizer) };
        Ok(Self(Arc::new(Inner {
            path: file.to_owned(),
            crate_tokenizer: tokenizer,
            bos: special.get("bos_token").map(str::to_owned),
            clean_up,
            streaming,
        })))
    }

    /// Ids of a text. Special tokens written in it are recognised. `add_special`: with the tokens that the
    /// tokenizer puts around a text (BOS).
    ///
    /// # Errors
    /// The vocabulary cannot express the text (never with byte fallback).
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.0.crate_tokenizer.encode_fast(text, add_special);
        Ok(encoding.map_err(|e| self.fail("encode", &*e))?.get_ids().to_vec())
    }

    /// Ids of a rendered chat template. Special tokens are added unless the template has written the BOS token
    /// itself, which is transformers' rule.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, rendered: &str) -> Result<Vec<u32>> {
        let has_bos = self.0.bos.as_ref().is_some_and(|bos| rendered.starts_with(bos.as_str()));
        self.encode(rendered, !has_bos)
    }

    /// Text of ids; special tokens, and ids outside the vocabulary, have none.
    ///
    /// # Errors
    /// The folder's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let text =
            self.0.crate_tokenizer.decode(ids, true).map_err(|e| self.fail("decode", &*e))?;
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

/// Refuses what the tokenizers crate would panic on.
fn check(json: &Value) -> std::result::Result<(), String> {
    if json["model"]["continuing_subword_prefix"].as_str().is_some_and(|prefix| !prefix.is_empty())
        && json["model"]["type"] != "WordPiece"
    {
        return Err(
            "`continuing_subword_prefix` is not supported; use the tokenizer of a LLaVA model"
                .into(),
        );
    }
    let vocab = json["model"]["vocab"].as_object().into_iter().flat_map(|vocab| vocab.values());
    let added = json["added_tokens"].as_array().into_iter().flatten().map(|token| &token["id"]);
    if let Some(id) = vocab.chain(added).find(|id| id.as_u64().is_none_or(|id| id > MAX_ID)) {
        return Err(format!(
            "has the token id {}, not one between 0 and {MAX_ID}; download it again",
            excerpt(id, 60)
        ));
    }
    if let Some(token) = undefined_token(&json["post_processor"]) {
        return Err(format!(
            "`post_processor` uses the token `{}` that its `special_tokens` lack; download it again",
            excerpt(token, 60)
        ));
    }
    if has_right_strip(&json["decoder"]) {
        return Err(
            "a `Strip` decoder with `stop` is not supported; use the tokenizer of a LLaVA model"
                .into(),
        );
    }
    Ok(())
}

/// A token that a template of special tokens uses but does not define.
fn undefined_token(processor: &Value) -> Option<&str> {
    let nested = processor["processors"].as_array().into_iter().flatten().find_map(undefined_token);
    let templates =
        [&processor["single"], &processor["pair"]].into_iter().filter_map(Value::as_array);
    let used = templates.flatten().filter_map(|piece| piece["SpecialToken"]["id"].as_str());
    nested
        .or_else(|| used.into_iter().find(|token| processor["special_tokens"].get(token).is_none()))
}

fn has_right_strip(decoder: &Value) -> bool {
    match decoder {
        Value::Object(map) => {
            map.get("stop").is_some_and(|stop| stop != 0) || map.values().any(has_right_strip)
        }
        Value::Array(list) => list.iter().any(has_right_strip),
        _ => false,
    }
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
