//! `generation_config.json`: the end-of-sequence ids, and settings that would change greedy answers in transformers.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Files;
use super::json::{self, Section, quote};
use crate::Result;

pub(super) const GENERATION: &str = "generation_config.json";

/// Settings that change transformers' greedy answers, each with the values that have no effect.
const CHANGING: [(&str, &[Neutral]); 23] = [
    ("bad_words_ids", &[]),
    ("begin_suppress_tokens", &[Neutral::Empty]),
    ("constraints", &[]),
    ("dola_layers", &[]),
    ("encoder_no_repeat_ngram_size", &[Neutral::Is(0.0)]),
    ("encoder_repetition_penalty", &[Neutral::Is(1.0)]),
    ("exponential_decay_length_penalty", &[]),
    ("force_words_ids", &[]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("guidance_scale", &[Neutral::Is(1.0)]),
    ("min_length", &[Neutral::Is(0.0)]),
    ("min_new_tokens", &[Neutral::Is(0.0)]),
    ("no_repeat_ngram_size", &[Neutral::Is(0.0)]),
    ("num_beam_groups", &[Neutral::Is(1.0)]),
    ("num_beams", &[Neutral::Is(1.0)]),
    ("penalty_alpha", &[Neutral::Is(0.0)]),
    ("repetition_penalty", &[Neutral::Is(1.0)]),
    ("sequence_bias", &[]),
    ("stop_strings", &[Neutral::Empty]),
    ("suppress_tokens", &[Neutral::Empty]),
    ("token_healing", &[Neutral::Off]),
    ("watermarking_config", &[]),
];

/// A value without effect, in addition to `null`.
enum Neutral {
    Is(f64),
    Empty,
    Off,
}

impl Neutral {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Is(number) => value.as_f64() == Some(*number),
            Self::Empty => value.as_array().is_some_and(Vec::is_empty),
            Self::Off => value == &Value::Bool(false),
        }
    }
}

/// The content of the file, if it exists.
pub(super) struct Generation {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Generation {
    pub(super) fn read(dir: &Path, files: &Files) -> Result<Self> {
        let path = dir.join(GENERATION);
        let map = match files.generation {
            Some(bytes) => json::parse(&path, bytes)?,
            None => Map::new(),
        };
        Ok(Self { path, map })
    }

    pub(super) fn root(&self) -> Section<'_> {
        Section::root(&self.path, &self.map)
    }

    /// A sentence for each setting that transformers would follow but this engine does not.
    pub(super) fn ignored(&self) -> Vec<String> {
        let root = self.root();
        let set = CHANGING.iter().filter_map(|(key, neutral)| {
            let value = root.get(key)?;
            (!neutral.iter().any(|neutral| neutral.holds(value))).then(|| {
                format!(
                    "{GENERATION} sets {key} to {}, which hired ignores: transformers' answers may differ{}",
                    quote(value),
                    match *key {
                        "repetition_penalty" => " (use --repetition-penalty)",
                        "stop_strings" => " (use --stop)",
                        _ => "",
                    }
                )
            })
        });
        let options = [self.sampling(), self.length()];
        set.chain(options.into_iter().flatten()).collect()
    }

    /// The sampling settings, if transformers would sample its answers.
    fn sampling(&self) -> Option<String> {
        let root = self.root();
        root.get("do_sample").filter(|value| value.as_bool() == Some(true))?;
        let how: Vec<String> = (["temperature", "top_k", "top_p", "min_p"].into_iter())
            .filter_map(|key| Some(format!("{key} {}", quote(root.get(key)?))))
            .collect();
        let how = if how.is_empty() { "temperature 1".into() } else { how.join(", ") };
        Some(format!(
            "{GENERATION} sets do_sample to true ({how}), which hired ignores: decoding is greedy, \
             unless a temperature is set (--temperature)"
        ))
    }

    /// A note if transformers would limit its answers to another length.
    fn length(&self) -> Option<String> {
        let root = self.root();
        let tokens = root.get("max_new_tokens").filter(|value| !value.is_null())?;
        Some(format!(
            "{GENERATION} sets max_new_tokens to {}, which hired ignores: set the length yourself (--max-new-tokens)",
            quote(tokens)
        ))
    }
}
