//! `tokenizer_config.json`: the settings that affect ids, text or prompts.

use std::path::Path;

use serde_json::{Map, Value};

use super::read_json;
use crate::{Error, Result};

/// Special tokens of a model folder and how transformers treats them.
///
/// They are read from `tokenizer_config.json`, and from `special_tokens_map.json` in old folders whose
/// `tokenizer_config.json` has no `added_tokens_decoder`. Both may be absent; then only the special tokens of
/// `tokenizer.json` exist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecialTokens {
    /// Name and text of each named token (`bos_token`, `eos_token`, …), as chat templates see them.
    pub named: Vec<(String, String)>,
    /// Special tokens without a name.
    pub extra: Vec<String>,
    /// Remove spaces before punctuation after decoding: for tokenizers other than BPE, and for BPE too.
    pub(super) clean_up: bool,
    pub(super) clean_up_bpe: bool,
    /// `added_tokens_decoder`, by id.
    pub(super) added: Vec<tokenizers::AddedToken>,
}

const LIMIT: u64 = 8 << 20;
const EXTRA: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

impl SpecialTokens {
    /// Reads the special tokens of a model folder.
    ///
    /// # Errors
    /// A file that cannot be read, is not JSON, or has a token that is neither a text nor an object with `content`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer_config.json");
        let config = read_json(&path, LIMIT)?.unwrap_or_else(|| Value::Object(Map::new()));
        let mut special = Self::parse(&config, &path)?;
        if config.get("added_tokens_decoder").is_none() {
            let path = dir.join("special_tokens_map.json");
            if let Some(map) = read_json(&path, LIMIT)? {
                special.take_tokens(&path, object(&path, &map)?)?;
            }
        }
        Ok(special)
    }

    /// Takes the special tokens from a `tokenizer_config.json` alone. `file` is named in errors.
    ///
    /// # Errors
    /// As [`SpecialTokens::read`].
    pub fn parse(config: &Value, file: &Path) -> Result<Self> {
        let mut special = Self::default();
        let config = object(file, config)?;
        special.take_tokens(file, config)?;
        let flag = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
        special.clean_up = flag("clean_up_tokenization_spaces");
        special.clean_up_bpe = special.clean_up
            && flag("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output");
        if let Some(added) = config.get("added_tokens_decoder") {
            special.added = added_tokens(file, added)?;
        }
        Ok(special)
    }

    /// Text of a named token.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str())
    }

    fn take_tokens(&mut self, path: &Path, config: &Map<String, Value>) -> Result<()> {
        for (key, value) in config.iter().filter(|(key, _)| key.ends_with("_token")) {
            // `add_bos_token` is a switch, and an unset token is null.
            if !matches!(value, Value::Bool(_) | Value::Null) {
                self.name(key, content(path, key, value)?);
            }
        }
        // The second key is the old name of the first. Of two lists the first counts; a list and names both count.
        let mut is_listed = false;
        for key in EXTRA {
            match config.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::Array(tokens)) => {
                    if is_listed {
                        continue;
                    }
                    is_listed = !tokens.is_empty();
                    for token in tokens {
                        self.extra.push(content(path, key, token)?);
                    }
                }
                Some(Value::Object(tokens)) => {
                    for (name, token) in tokens {
                        self.name(name, content(path, key, token)?);
                    }
                }
                Some(_) => {
                    let what = format!("`{key}` must be a list or an object of tokens; correct it");
                    return Err(Error::model(path, what));
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, name: &str, text: String) {
        match self.named.iter_mut().find(|(key, _)| key == name) {
            Some(slot) => slot.1 = text,
            None => self.named.push((name.to_owned(), text)),
        }
    }
}

fn object<'a>(path: &Path, value: &'a Value) -> Result<&'a Map<String, Value>> {
    value
        .as_object()
        .ok_or_else(|| Error::model(path, "must hold a JSON object; download it again"))
}

fn content(path: &Path, key: &str, value: &Value) -> Result<String> {
    let text = value.as_str().or_else(|| value.get("content")?.as_str());
    text.map(str::to_owned).ok_or_else(|| {
        let what =
            format!("`{key}` must be a token's text or an object with `content`; correct it");
        Error::model(path, what)
    })
}

fn added_tokens(path: &Path, value: &Value) -> Result<Vec<tokenizers::AddedToken>> {
    let wrong = || Error::model(path, "`added_tokens_decoder` must map ids to tokens; correct it");
    let mut tokens = Vec::new();
    for (id, token) in value.as_object().ok_or_else(wrong)? {
        let id: u32 = id.parse().map_err(|_| wrong())?;
        let text = token.get("content").and_then(Value::as_str).ok_or_else(wrong)?;
        let flag = |key: &str| token.get(key).and_then(Value::as_bool);
        let special = flag("special").unwrap_or(false);
        let added = tokenizers::AddedToken::from(text, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special));
        tokens.push((id, added));
    }
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens.into_iter().map(|(_, token)| token).collect())
}
