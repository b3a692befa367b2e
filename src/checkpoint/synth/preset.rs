//! Known architectures, described by the files of published checkpoints.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::config::{self, ModelConfig, Tower};
use crate::{Error, Result};

/// A known architecture, of which [`write`](super::write) can create a checkpoint with random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// A LLaVA-NeXT that answers within seconds on a CPU: 112-pixel sub-images in the published grids, with all parts
    /// and grouped key/value heads.
    Tiny,
    /// LLaVA-v1.6 on Vicuna 7B.
    Next7b,
    /// LLaVA-v1.6 on Vicuna 13B.
    Next13b,
    /// LLaVA-v1.6 on Mistral 7B.
    NextMistral7b,
    /// LLaVA-NeXT on LLaMA-3 8B.
    NextLlama8b,
    /// LLaVA-NeXT on Qwen2 7B, as in Pangea.
    NextQwen7b,
    /// LLaVA-v1.6 on Yi 34B.
    Next34b,
    /// LLaVA-OneVision on Qwen2 0.5B.
    OneVision05b,
    /// LLaVA-OneVision on Qwen2 7B.
    OneVision7b,
    /// LLaVA-Interleave on Qwen1.5 0.5B, with SigLIP.
    Interleave05b,
    /// JoyCaption on LLaMA-3.1 8B, with SigLIP.
    JoyCaption,
    /// LLaVA-1.5 on TinyLlama 1.1B.
    LlavaTinyLlama,
    /// LLaVA-1.5 on Vicuna 7B.
    Llava7b,
    /// LLaVA-1.5 on Vicuna 13B.
    Llava13b,
    /// LLaVA-Phi on Phi-2, as `tools/convert` makes it.
    LlavaPhi,
    /// MobileVLM V2 on MobileLLaMA 1.4B, as `tools/convert` makes it.
    MobileVlm17b,
    /// InternVL3 on Qwen2.5 0.5B.
    InternVl3x1b,
    /// InternVL3 on Qwen2.5 1.5B.
    InternVl3x2b,
    /// InternVL3 on Qwen2.5 7B.
    InternVl3x8b,
    /// InternVL3.5 on Qwen3 1.7B.
    InternVl35x2b,
    /// InternVL3.5 on Qwen3 4B.
    InternVl35x4b,
    /// InternVL3.5 on Qwen3 8B.
    InternVl35x8b,
}

use Preset::{
    Interleave05b, InternVl3x1b, InternVl3x2b, InternVl3x8b, InternVl35x2b, InternVl35x4b,
    InternVl35x8b, JoyCaption, Llava7b, Llava13b, LlavaPhi, LlavaTinyLlama, MobileVlm17b, Next7b,
    Next13b, Next34b, NextLlama8b, NextMistral7b, NextQwen7b, OneVision05b, OneVision7b, Tiny,
};

impl Preset {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Tiny,
        Next7b,
        Next13b,
        NextMistral7b,
        NextLlama8b,
        NextQwen7b,
        Next34b,
        OneVision05b,
        OneVision7b,
        Interleave05b,
        JoyCaption,
        LlavaTinyLlama,
        Llava7b,
        Llava13b,
        LlavaPhi,
        MobileVlm17b,
        InternVl3x1b,
        InternVl3x2b,
        InternVl3x8b,
        InternVl35x2b,
        InternVl35x4b,
        InternVl35x8b,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Tiny => "tiny",
            Next7b => "llava-v1.6-vicuna-7b",
            Next13b => "llava-v1.6-vicuna-13b",
            NextMistral7b => "llava-v1.6-mistral-7b",
            NextLlama8b => "llama3-llava-next-8b",
            NextQwen7b => "pangea-7b",
            Next34b => "llava-v1.6-34b",
            OneVision05b => "onevision-0.5b",
            OneVision7b => "onevision-7b",
            Interleave05b => "llava-interleave-qwen-0.5b",
            JoyCaption => "joycaption",
            LlavaTinyLlama => "tiny-llava-v1",
            Llava7b => "llava-1.5-7b",
            Llava13b => "llava-1.5-13b",
            LlavaPhi => "llava-phi-2.7b",
            MobileVlm17b => "mobilevlm-v2-1.7b",
            InternVl3x1b => "internvl3-1b",
            InternVl3x2b => "internvl3-2b",
            InternVl3x8b => "internvl3-8b",
            InternVl35x2b => "internvl3.5-2b",
            InternVl35x4b => "internvl3.5-4b",
            InternVl35x8b => "internvl3.5-8b",
        }
    }

    /// The configuration, read from the preset's files.
    #[doc(hidden)]
    pub fn config(self) -> Result<ModelConfig> {
        let [config, preprocessor] =
            [self.config_json(), self.preprocessor_json()].map(|v| v.to_string());
        let files = config::Files {
            config: config.as_bytes(),
            preprocessor: Some(preprocessor.as_bytes()),
            processor: None,
            generation: None,
        };
        config::from_json(Path::new(self.name()), &files)
    }

    /// The chat template and the tokenizer's settings.
    pub(crate) fn prompt_files(self) -> (String, Value) {
        (self.chat_template(), self.tokenizer_json())
    }

    /// Vocabulary size.
    #[doc(hidden)]
    pub fn vocab(self) -> usize {
        match self {
            NextLlama8b => 128_320,
            NextQwen7b | OneVision7b => 152_128,
            OneVision05b | Interleave05b => 152_000,
            JoyCaption => 128_256,
            Next34b => 64064,
            LlavaPhi => 51200,
            InternVl3x1b | InternVl3x2b | InternVl3x8b => 151_674,
            InternVl35x2b | InternVl35x4b | InternVl35x8b => 151_936,
            _ => 32064,
        }
    }

    /// Id of the image token, which follows the base vocabulary and the other [`Preset::image_tokens`].
    #[doc(hidden)]
    pub fn image_token(self) -> u32 {
        match self {
            NextLlama8b => 128_256,
            NextQwen7b | OneVision05b | OneVision7b | Interleave05b => 151_646,
            JoyCaption => 128_077,
            Next34b => 64000,
            LlavaPhi => 50295,
            InternVl3x1b | InternVl3x2b | InternVl3x8b => 151_667,
            InternVl35x2b | InternVl35x4b | InternVl35x8b => 151_671,
            _ => 32000,
        }
    }

    /// Texts of the special tokens for images; the last one is the image token.
    #[doc(hidden)]
    pub fn image_tokens(self) -> &'static [&'static str] {
        if self.is_internvl() { &["<img>", "</img>", "<IMG_CONTEXT>"] } else { &["<image>"] }
    }

    pub(super) fn is_internvl(self) -> bool {
        matches!(
            self,
            InternVl3x1b
                | InternVl3x2b
                | InternVl3x8b
                | InternVl35x2b
                | InternVl35x4b
                | InternVl35x8b
        )
    }

    /// The vision tower.
    pub(crate) fn tower(self) -> Tower {
        if self.is_internvl() { Tower::InternVit } else { Tower::Clip }
    }

    pub(super) fn tiled(self) -> bool {
        !self.is_internvl()
            && !matches!(
                self,
                LlavaTinyLlama
                    | Llava7b
                    | Llava13b
                    | LlavaPhi
                    | MobileVlm17b
                    | Interleave05b
                    | JoyCaption
            )
    }

    pub(super) fn one_vision(self) -> bool {
        matches!(self, OneVision05b | OneVision7b)
    }

    /// Returns true for presets with SigLIP's tower instead of CLIP's.
    pub(super) fn siglip(self) -> bool {
        self.one_vision() || matches!(self, Interleave05b | JoyCaption)
    }

    /// Side of a partition in pixels.
    pub(super) fn side(self) -> usize {
        match self {
            Tiny => 112,
            _ if self.is_internvl() => 448,
            _ if self.siglip() => 384,
            _ => 336,
        }
    }

    pub(super) fn pinpoints(self) -> Value {
        let side = self.side();
        if self.one_vision() {
            let grids = (0..36).map(|i| [i / 6 + 1, i % 6 + 1]);
            return grids.map(|[rows, cols]| json!([rows * side, cols * side])).collect();
        }
        let grids = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]];
        json!(grids.map(|[rows, cols]| [rows * side, cols * side]))
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::Request(format!("unknown preset {name:?}; known are {known}"))
        })
    }
}
