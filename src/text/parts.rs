//! The components of a `tokenizer.json` that are allowed: those that the tokenizers of LLaVA's language models use
//! (LLaMA, Mistral, Qwen, Phi, Yi, Gemma and similar), with parameters that limit the growth of a text.
//!
//! The tokenizers crate has more components. Some of them panic on unusual parameters (`FixedLength`, `Precompiled`),
//! and chains of others turn a few letters into gigabytes (`Replace`).

use serde_json::Value;

use crate::error::excerpt;

/// Largest token id, far above any vocabulary.
const MAX_ID: u64 = u32::MAX as u64 / 2;
/// Longest token in bytes; those in use have at most a few hundred.
const MAX_TOKEN: usize = 4096;
/// Largest number of steps of one kind; those in use have up to five.
const MAX_STEPS: usize = 16;
/// Largest growth, in bytes per byte of text; LLaMA's tokenizer has 12 by this count.
const MAX_GROWTH: usize = 256;

/// A kind of component: its key in the file, the key of the steps of a `Sequence`, and the allowed types.
struct Kind {
    key: &'static str,
    steps: &'static str,
    types: &'static [&'static str],
}

const NORMALIZER: Kind = Kind {
    key: "normalizer",
    steps: "normalizers",
    types: &[
        "Prepend",
        "Replace",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Lowercase",
        "Strip",
        "StripAccents",
        "BertNormalizer",
    ],
};
const PRE_TOKENIZER: Kind = Kind {
    key: "pre_tokenizer",
    steps: "pretokenizers",
    types: &[
        "ByteLevel",
        "Metaspace",
        "Split",
        "Digits",
        "Punctuation",
        "Whitespace",
        "WhitespaceSplit",
        "BertPreTokenizer",
    ],
};
const POST_PROCESSOR: Kind = Kind {
    key: "post_processor",
    steps: "processors",
    types: &["TemplateProcessing", "ByteLevel", "RobertaProcessing", "BertProcessing"],
};
const DECODER: Kind = Kind {
    key: "decoder",
    steps: "decoders",
    types: &["Replace", "ByteFallback", "Fuse", "Strip", "ByteLevel", "Metaspace", "WordPiece"],
};

/// Checks the content of the file. Returns the most bytes that one byte of text can become while it is encoded.
///
/// # Errors
/// A message for the user that names what is not supported.
pub(super) fn check(json: &Value) -> Result<usize, String> {
    check_model(&json["model"])?;
    check_tokens(json)?;
    for step in NORMALIZER.steps_of(json)?.iter().chain(&DECODER.steps_of(json)?) {
        check_replace(step)?;
    }
    if DECODER.steps_of(json)?.iter().any(|step| step["type"] == "Strip" && step["stop"] != 0) {
        return Err(
            "a `Strip` decoder with `stop` is not supported; use the tokenizer of a LLaVA model"
                .into(),
        );
    }
    for step in POST_PROCESSOR.steps_of(json)? {
        check_processor(step)?;
    }
    let encoding = [NORMALIZER.steps_of(json)?, PRE_TOKENIZER.steps_of(json)?].concat();
    for (what, steps) in [("normalizer", encoding), ("decoder", DECODER.steps_of(json)?)] {
        if growth(&steps) > MAX_GROWTH {
            return Err(format!(
                "the `{what}` can make a text more than {MAX_GROWTH} times as long; use the tokenizer of a LLaVA model"
            ));
        }
    }
    let encoding = [NORMALIZER.steps_of(json)?, PRE_TOKENIZER.steps_of(json)?].concat();
    Ok(growth(&encoding))
}

impl Kind {
    /// The steps of this kind in order, all of an allowed type.
    fn steps_of<'a>(&self, json: &'a Value) -> Result<Vec<&'a Value>, String> {
        let mut steps = Vec::new();
        self.collect(&json[self.key], &mut steps)?;
        match steps.len() {
            0..=MAX_STEPS => Ok(steps),
            n => Err(format!(
                "the `{}` has {n} steps, at most {MAX_STEPS} are read; use the tokenizer of a LLaVA model",
                self.key
            )),
        }
    }

    fn collect<'a>(&self, part: &'a Value, steps: &mut Vec<&'a Value>) -> Result<(), String> {
        if part.is_null() {
            return Ok(());
        }
        match part["type"].as_str() {
            Some("Sequence") => {
                let nested = part[self.steps].as_array();
                let nested = nested.ok_or_else(|| {
                    format!(
                        "the `{}` is a sequence without `{}`; download it again",
                        self.key, self.steps
                    )
                })?;
                nested.iter().try_for_each(|part| self.collect(part, steps))
            }
            Some(known) if self.types.contains(&known) => {
                steps.push(part);
                Ok(())
            }
            Some(other) => Err(format!(
                "the `{}` has a step of the type {}, which LLaVA models do not use and this engine does \
                 not support; supported are Sequence, {}",
                self.key,
                excerpt(other, 60),
                self.types.join(", ")
            )),
            None => Err(format!("the `{}` has a step without `type`; download it again", self.key)),
        }
    }
}

fn check_model(model: &Value) -> Result<(), String> {
    let wordpiece = model["type"] == "WordPiece";
    // The earliest files have no type.
    let bpe = model["type"] == "BPE" || (model["type"].is_null() && model["merges"].is_array());
    if !bpe && !wordpiece {
        let found = model["type"].as_str().map_or("without `type`".into(), |t| excerpt(t, 60));
        return Err(format!(
            "the `model` is {found}; only BPE and WordPiece are read, which LLaVA models use"
        ));
    }
    // The tokenizers crate panics if BPE has one.
    if !wordpiece && model["continuing_subword_prefix"].as_str().is_some_and(|p| !p.is_empty()) {
        return Err(
            "`continuing_subword_prefix` is not supported; use the tokenizer of a LLaVA model"
                .into(),
        );
    }
    if model["dropout"].as_f64().is_some_and(|share| share != 0.0) {
        return Err(
            "`dropout` makes the ids of a text random, and is meant for training; set it to null"
                .into(),
        );
    }
    Ok(())
}

fn check_tokens(json: &Value) -> Result<(), String> {
    let added = || json["added_tokens"].as_array().into_iter().flatten();
    let vocab = || json["model"]["vocab"].as_object().into_iter().flatten();
    let ids = vocab().map(|(_, id)| id).chain(added().map(|token| &token["id"]));
    if let Some(id) = ids.into_iter().find(|id| id.as_u64().is_none_or(|id| id > MAX_ID)) {
        return Err(format!(
            "has the token id {}, not one between 0 and {MAX_ID}; download it again",
            excerpt(id, 60)
        ));
    }
    let texts = vocab().map(|(text, _)| text.as_str());
    let added = added().filter_map(|token| token["content"].as_str());
    if let Some(long) = texts.chain(added).find(|text| text.len() > MAX_TOKEN) {
        return Err(format!(
            "has a token of {} bytes ({}), at most {MAX_TOKEN} are read; download it again",
            long.len(),
            excerpt(long, 60)
        ));
    }
    Ok(())
}

/// Checks that a replacement is of a fixed text. With a pattern that matches the empty text the tokenizers crate
/// panics.
fn check_replace(step: &Value) -> Result<(), String> {
    if step["type"] != "Replace"
        || step["pattern"]["String"].as_str().is_some_and(|p| !p.is_empty())
    {
        return Ok(());
    }
    Err("a `Replace` step needs a fixed text to replace (`pattern` with a non-empty `String`); use the tokenizer of a \
         LLaVA model"
        .into())
}

/// Checks a template of special tokens: all must be defined, and there must be few.
fn check_processor(step: &Value) -> Result<(), String> {
    let pieces = || {
        let templates = [&step["single"], &step["pair"]];
        templates.into_iter().filter_map(Value::as_array).flatten()
    };
    let specials = &step["special_tokens"];
    let used = pieces().filter_map(|piece| piece["SpecialToken"]["id"].as_str());
    if let Some(token) = used.into_iter().find(|token| specials.get(token).is_none()) {
        return Err(format!(
            "`post_processor` uses the token `{}` that its `special_tokens` lack; download it again",
            excerpt(token, 60)
        ));
    }
    let ids = specials.as_object().into_iter().flatten().map(|(_, token)| &token["ids"]);
    let ids = ids.filter_map(Value::as_array).map(Vec::len).max().unwrap_or(0);
    if pieces().count().max(ids) > MAX_STEPS {
        return Err(format!(
            "`post_processor` puts more than {MAX_STEPS} pieces around a text; use the tokenizer of a LLaVA model"
        ));
    }
    Ok(())
}

/// The most bytes that one byte of text becomes in these steps.
fn growth(steps: &[&Value]) -> usize {
    let len = |text: &Value| text.as_str().map_or(0, str::len);
    let factors = steps.iter().map(|step| match step["type"].as_str() {
        Some("Replace") => {
            len(&step["content"]).div_ceil(len(&step["pattern"]["String"]).max(1)).max(1)
        }
        // It is inserted before each piece between two special tokens, and a piece may have one byte.
        Some("Prepend") => 1 + len(&step["prepend"]),
        // Three bytes (U+FDFA) become 33.
        Some("NFKC" | "NFKD") => 11,
        Some("NFD") => 3,
        // A byte becomes a character of two bytes, and a piece may get a leading space.
        Some("ByteLevel") => 3,
        Some("Metaspace") => 2 * len(&step["replacement"]).max(1),
        _ => 1,
    });
    factors.fold(1, usize::saturating_mul)
}
