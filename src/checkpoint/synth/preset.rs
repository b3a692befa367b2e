//! The architectures there are checkpoints of, as their published files describe them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Value, json};

use super::super::write::pretty;
use super::internvl;
use crate::config::{self, ModelConfig, Tower};
use crate::{Error, Result};

/// An architecture of [`write`](super::write).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// A LLaVA-NeXT that answers within seconds on a CPU: 112-pixel sub-images in the published
    /// grids, every part present, keys and values shared among heads.
    Tiny,
    /// LLaVA-v1.6 on Vicuna 7B.
    Next7b,
    /// LLaVA-v1.6 on Vicuna 13B.
    Next13b,
    /// LLaVA-v1.6 on Mistral 7B.
    NextMistral7b,
    /// LLaVA-NeXT on LLaMA-3 8B.
    NextLlama8b,
    /// LLaVA-NeXT on Qwen2 7B, as Pangea has it.
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
    InternVl35x8b, JoyCaption, Llava7b, Llava13b, LlavaTinyLlama, Next7b, Next13b, Next34b,
    NextLlama8b, NextMistral7b, NextQwen7b, OneVision05b, OneVision7b, Tiny,
};

impl Preset {
    /// All of them.
    pub const ALL: [Self; 20] = [
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
        InternVl3x1b,
        InternVl3x2b,
        InternVl3x8b,
        InternVl35x2b,
        InternVl35x4b,
        InternVl35x8b,
    ];

    /// Its name on the command line.
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
            InternVl3x1b => "internvl3-1b",
            InternVl3x2b => "internvl3-2b",
            InternVl3x8b => "internvl3-8b",
            InternVl35x2b => "internvl3.5-2b",
            InternVl35x4b => "internvl3.5-4b",
            InternVl35x8b => "internvl3.5-8b",
        }
    }

    /// Its configuration, read from the files it is written with.
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

    /// The template and the tokenizer's settings that it is written with.
    pub(crate) fn prompt_files(self) -> (String, Value) {
        (self.chat_template(), self.tokenizer_json())
    }

    /// Rows of the embedding.
    #[doc(hidden)]
    pub fn vocab(self) -> usize {
        match self {
            NextLlama8b => 128_320,
            NextQwen7b | OneVision7b => 152_128,
            OneVision05b | Interleave05b => 152_000,
            JoyCaption => 128_256,
            Next34b => 64064,
            InternVl3x1b | InternVl3x2b | InternVl3x8b => 151_674,
            InternVl35x2b | InternVl35x4b | InternVl35x8b => 151_936,
            _ => 32064,
        }
    }

    /// Id of the token that marks an image, the first one after the base vocabulary but for those of
    /// [`Preset::image_tokens`] before it.
    #[doc(hidden)]
    pub fn image_token(self) -> u32 {
        match self {
            NextLlama8b => 128_256,
            NextQwen7b | OneVision05b | OneVision7b | Interleave05b => 151_646,
            JoyCaption => 128_077,
            Next34b => 64000,
            InternVl3x1b | InternVl3x2b | InternVl3x8b => 151_667,
            InternVl35x2b | InternVl35x4b | InternVl35x8b => 151_671,
            _ => 32000,
        }
    }

    /// Texts of the tokens that end with the one that marks an image.
    #[doc(hidden)]
    pub fn image_tokens(self) -> &'static [&'static str] {
        if self.is_internvl() { &["<img>", "</img>", "<IMG_CONTEXT>"] } else { &["<image>"] }
    }

    fn is_internvl(self) -> bool {
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

    /// Its vision tower.
    pub(crate) fn tower(self) -> Tower {
        if self.is_internvl() { Tower::InternVit } else { Tower::Clip }
    }

    fn tiled(self) -> bool {
        !self.is_internvl()
            && !matches!(self, LlavaTinyLlama | Llava7b | Llava13b | Interleave05b | JoyCaption)
    }

    fn one_vision(self) -> bool {
        matches!(self, OneVision05b | OneVision7b)
    }

    /// With SigLIP's tower instead of CLIP's.
    fn siglip(self) -> bool {
        self.one_vision() || matches!(self, Interleave05b | JoyCaption)
    }

    /// Side of a partition in pixels.
    fn side(self) -> usize {
        match self {
            Tiny => 112,
            _ if self.is_internvl() => 448,
            _ if self.siglip() => 384,
            _ => 336,
        }
    }

    fn pinpoints(self) -> Value {
        let side = self.side();
        if self.one_vision() {
            let grids = (0..36).map(|i| [i / 6 + 1, i % 6 + 1]);
            return grids.map(|[rows, cols]| json!([rows * side, cols * side])).collect();
        }
        let grids = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]];
        json!(grids.map(|[rows, cols]| [rows * side, cols * side]))
    }

    /// Names and contents of the small files, the tokenizer's own left out.
    pub(super) fn files(self) -> Vec<(&'static str, String)> {
        let template = json!({ "chat_template": self.chat_template() });
        [
            ("config.json", self.config_json()),
            ("preprocessor_config.json", self.preprocessor_json()),
            ("processor_config.json", self.processor_json()),
            ("generation_config.json", self.generation_json()),
            ("tokenizer_config.json", self.tokenizer_json()),
            ("chat_template.json", template),
        ]
        .map(|(name, value)| (name, pretty(&value)))
        .into()
    }

    /// `config.json`. As in published ones `text_config` leaves out what is LLaMA's or Mistral's default.
    fn config_json(self) -> Value {
        let mut vision = json!({
            "hidden_size": 1024, "image_size": self.side(), "intermediate_size": 4096,
            "model_type": "clip_vision_model", "num_attention_heads": 16,
            "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768, "vocab_size": 32000
        });
        let mut text = json!({
            "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096,
            "model_type": "llama", "rms_norm_eps": 1e-5, "torch_dtype": "float16",
            "vocab_size": self.vocab()
        });
        match self {
            Next7b | Llava7b => {}
            Next13b | Llava13b => set(
                &mut text,
                json!({
                    "hidden_size": 5120, "intermediate_size": 13824, "num_attention_heads": 40,
                    "num_hidden_layers": 40, "num_key_value_heads": 40
                }),
            ),
            NextMistral7b => set(
                &mut text,
                json!({
                    "architectures": ["MistralForCausalLM"], "intermediate_size": 14336,
                    "max_position_embeddings": 32768, "model_type": "mistral",
                    "num_key_value_heads": 8, "rope_theta": 1e6, "sliding_window": null,
                    "torch_dtype": "bfloat16"
                }),
            ),
            NextLlama8b => set(
                &mut text,
                json!({
                    "intermediate_size": 14336, "max_position_embeddings": 8192,
                    "num_key_value_heads": 8, "rope_theta": 500_000.0
                }),
            ),
            OneVision05b => set(
                &mut text,
                json!({
                    "architectures": ["Qwen2ForCausalLM"], "hidden_size": 896,
                    "intermediate_size": 4864, "max_position_embeddings": 32768,
                    "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
                    "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
                    "tie_word_embeddings": true
                }),
            ),
            Interleave05b => set(
                &mut text,
                json!({
                    "architectures": ["Qwen2ForCausalLM"], "hidden_size": 1024,
                    "intermediate_size": 2816, "max_position_embeddings": 32768,
                    "model_type": "qwen2", "num_attention_heads": 16, "num_hidden_layers": 24,
                    "num_key_value_heads": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
                    "tie_word_embeddings": true
                }),
            ),
            JoyCaption => set(
                &mut text,
                json!({
                    "intermediate_size": 14336, "max_position_embeddings": 131_072,
                    "num_key_value_heads": 8, "rope_theta": 500_000.0,
                    "rope_scaling": {
                        "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                        "original_max_position_embeddings": 8192, "rope_type": "llama3"
                    }
                }),
            ),
            NextQwen7b | OneVision7b => set(&mut text, internvl::qwen2([3584, 18944, 28, 28, 4])),
            Next34b => set(
                &mut text,
                json!({
                    "hidden_size": 7168, "intermediate_size": 20480, "num_attention_heads": 56,
                    "num_hidden_layers": 60, "num_key_value_heads": 8, "rope_theta": 5e6
                }),
            ),
            LlavaTinyLlama => set(
                &mut text,
                json!({
                    "hidden_size": 2048, "intermediate_size": 5632, "max_position_embeddings": 2048,
                    "num_hidden_layers": 22, "num_key_value_heads": 4
                }),
            ),
            InternVl3x1b => set(&mut text, internvl::qwen2([896, 4864, 24, 14, 2])),
            InternVl3x2b => set(&mut text, internvl::qwen2([1536, 8960, 28, 12, 2])),
            InternVl3x8b => set(&mut text, internvl::qwen2([3584, 18944, 28, 28, 4])),
            InternVl35x2b => set(&mut text, internvl::qwen3([2048, 6144, 28, 16, 8])),
            InternVl35x4b => set(&mut text, internvl::qwen3([2560, 9728, 36, 32, 8])),
            InternVl35x8b => set(&mut text, internvl::qwen3([4096, 12288, 36, 32, 8])),
            Tiny => {
                set(
                    &mut text,
                    json!({
                        "hidden_size": 128, "intermediate_size": 352, "num_attention_heads": 8,
                        "num_hidden_layers": 4, "num_key_value_heads": 4
                    }),
                );
                set(
                    &mut vision,
                    json!({
                        "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4,
                        "num_hidden_layers": 5, "projection_dim": 32
                    }),
                );
            }
        }
        if self.is_internvl() {
            return internvl::config(self.image_token(), self.side(), text);
        }
        if self.siglip() {
            vision = json!({
                "hidden_size": 1152, "image_size": 384, "intermediate_size": 4304,
                "model_type": "siglip_vision_model", "num_attention_heads": 16,
                "num_hidden_layers": if self == JoyCaption { 27 } else { 26 }, "patch_size": 14,
                "vision_use_head": self == JoyCaption
            });
        }
        let (architecture, model_type) = match self.tiled() {
            _ if self.one_vision() => ("LlavaOnevisionForConditionalGeneration", "llava_onevision"),
            true => ("LlavaNextForConditionalGeneration", "llava_next"),
            false => ("LlavaForConditionalGeneration", "llava"),
        };
        let mut config = json!({
            "architectures": [architecture], "ignore_index": -100,
            "image_token_index": self.image_token(), "model_type": model_type,
            "projector_hidden_act": "gelu", "text_config": text, "tie_word_embeddings": false,
            "torch_dtype": "float16", "vision_config": vision, "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default", "vocab_size": self.vocab()
        });
        if self.tiled() {
            set(
                &mut config,
                json!({
                    "image_grid_pinpoints": self.pinpoints(), "use_image_newline_parameter": true
                }),
            );
        } else {
            set(&mut config, json!({ "pad_token_id": self.pad_token() }));
        }
        if self.siglip() {
            let tied = matches!(self, OneVision05b | Interleave05b);
            set(
                &mut config,
                json!({
                    "tie_word_embeddings": tied,
                    "vision_feature_layer": if self == JoyCaption { -2 } else { -1 },
                    "vision_feature_select_strategy": "full"
                }),
            );
        }
        if self.one_vision() {
            set(
                &mut config,
                json!({ "video_token_index": 151_647, "vision_aspect_ratio": "anyres_max_9" }),
            );
        }
        config
    }

    fn preprocessor_json(self) -> Value {
        let side = self.side();
        if self.is_internvl() {
            return internvl::preprocessor(side);
        }
        let mut value = json!({
            "crop_size": { "height": side, "width": side }, "do_center_crop": true,
            "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "CLIPImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "processor_class": self.processor_class(), "resample": 3,
            "rescale_factor": 0.00392156862745098, "size": { "shortest_edge": side }
        });
        if self.tiled() {
            set(
                &mut value,
                json!({
                    "aspect_ratio_setting": "anyres", "do_pad": true,
                    "image_grid_pinpoints": self.pinpoints(),
                    "image_processor_type": "LlavaNextImageProcessor"
                }),
            );
        }
        if self.siglip() {
            value = json!({
                "do_convert_rgb": true, "do_normalize": true, "do_rescale": true,
                "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
                "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5],
                "processor_class": self.processor_class(), "resample": 3,
                "rescale_factor": 0.00392156862745098, "size": { "height": side, "width": side }
            });
        }
        if self.one_vision() {
            set(
                &mut value,
                json!({
                    "do_pad": true, "image_grid_pinpoints": self.pinpoints(),
                    "image_processor_type": "LlavaOnevisionImageProcessor"
                }),
            );
        }
        value
    }

    fn processor_class(self) -> &'static str {
        match self.tiled() {
            _ if self.one_vision() => "LlavaOnevisionProcessor",
            true => "LlavaNextProcessor",
            false if self.is_internvl() => "InternVLProcessor",
            false => "LlavaProcessor",
        }
    }

    fn processor_json(self) -> Value {
        if self.is_internvl() {
            return json!({ "image_seq_length": 256, "processor_class": self.processor_class() });
        }
        if self.one_vision() {
            return json!({
                "num_image_tokens": 729, "processor_class": self.processor_class(),
                "vision_aspect_ratio": "anyres_max_9", "vision_feature_select_strategy": "full"
            });
        }
        json!({
            "image_token": "<image>", "num_additional_image_tokens": u8::from(!self.siglip()),
            "patch_size": 14, "processor_class": self.processor_class(),
            "vision_feature_select_strategy": if self.siglip() { "full" } else { "default" }
        })
    }

    /// Vicuna 1.6 pads with `<unk>`, the others with the `<pad>` that follows `<image>`.
    fn pad_token(self) -> u32 {
        if matches!(self, Next7b | Next13b) { 0 } else { self.image_token() + 1 }
    }

    fn generation_json(self) -> Value {
        json!({
            "_from_model_config": true, "bos_token_id": 1, "eos_token_id": 2,
            "pad_token_id": self.pad_token()
        })
    }

    fn tokenizer_json(self) -> Value {
        let own = match self.image_tokens() {
            [open, close, context] => json!({
                "context_image_token": context, "end_image_token": close, "start_image_token": open
            }),
            _ => json!({ "image_token": "<image>" }),
        };
        let mut settings = json!({
            "add_bos_token": true, "add_eos_token": false, "bos_token": "<s>",
            "clean_up_tokenization_spaces": false, "eos_token": "</s>",
            "extra_special_tokens": own.clone(),
            "pad_token": if self.pad_token() == 0 { "<unk>" } else { "<pad>" },
            "padding_side": "left", "processor_class": self.processor_class(),
            "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>"
        });
        set(&mut settings, own);
        settings
    }

    /// Images before text in every turn, whatever their order in the message, as in the published
    /// templates. BOS is the tokenizer's business.
    fn chat_template(self) -> String {
        const CONTENT: &str = "{% for part in turn.content if part.type == 'image' %}\
            {{ '<image>\\n' }}{% endfor %}\
            {% for part in turn.content if part.type == 'text' %}";
        if self.is_internvl() {
            return internvl::CHAT_TEMPLATE.into();
        }
        match self {
            NextMistral7b => format!(
                "{{% for turn in messages %}}\
                 {{% if turn.role == 'system' %}}\
                 {{{{ '<<SYS>>\\n' ~ turn.content[0].text ~ '\\n<</SYS>>\\n\\n' }}}}\
                 {{% elif turn.role == 'user' %}}{{{{ '[INST] ' }}}}{CONTENT}\
                 {{{{ part.text }}}}{{% endfor %}}{{{{ ' [/INST]' }}}}\
                 {{% elif turn.role == 'assistant' %}}\
                 {{% generation %}}{{{{ ' ' ~ turn.content[0].text ~ '</s> ' }}}}{{% endgeneration %}}\
                 {{% else %}}\
                 {{{{ raise_exception('a turn is by system, user or assistant') }}}}\
                 {{% endif %}}{{% endfor %}}"
            ),
            _ => format!(
                "{{% for turn in messages %}}\
                 {{% if turn.role == 'system' %}}{{{{ turn.content[0].text }}}}\
                 {{% else %}}{{{{ (turn.role | upper) ~ ': ' }}}}{CONTENT}\
                 {{% if turn.role == 'assistant' %}}\
                 {{% generation %}}{{{{ part.text ~ ' ' }}}}{{% endgeneration %}}\
                 {{% else %}}{{{{ part.text ~ ' ' }}}}{{% endif %}}{{% endfor %}}\
                 {{% endif %}}{{% endfor %}}\
                 {{% if add_generation_prompt %}}{{{{ 'ASSISTANT:' }}}}{{% endif %}}"
            ),
        }
    }
}

/// Adds the keys of `more` to an object.
pub(super) fn set(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
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
            Error::Request(format!("there is no preset {name:?}; there are {known}"))
        })
    }
}
