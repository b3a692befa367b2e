//! The architectures there are checkpoints of, as their published files describe them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Value, json};

use super::super::write::pretty;
use crate::config::{self, ModelConfig};
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
    /// LLaVA-1.5 on TinyLlama 1.1B.
    LlavaTinyLlama,
    /// LLaVA-1.5 on Vicuna 7B.
    Llava7b,
    /// LLaVA-1.5 on Vicuna 13B.
    Llava13b,
}

use Preset::{
    Llava7b, Llava13b, LlavaTinyLlama, Next7b, Next13b, Next34b, NextLlama8b, NextMistral7b,
    NextQwen7b, Tiny,
};

impl Preset {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Tiny,
        Next7b,
        Next13b,
        NextMistral7b,
        NextLlama8b,
        NextQwen7b,
        Next34b,
        LlavaTinyLlama,
        Llava7b,
        Llava13b,
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
            LlavaTinyLlama => "tiny-llava-v1",
            Llava7b => "llava-1.5-7b",
            Llava13b => "llava-1.5-13b",
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
            NextQwen7b => 152_128,
            Next34b => 64064,
            _ => 32064,
        }
    }

    /// Id of `<image>`, the first one after the base vocabulary.
    #[doc(hidden)]
    pub fn image_token(self) -> u32 {
        match self {
            NextLlama8b => 128_256,
            NextQwen7b => 151_646,
            Next34b => 64000,
            _ => 32000,
        }
    }

    fn tiled(self) -> bool {
        !matches!(self, LlavaTinyLlama | Llava7b | Llava13b)
    }

    /// Side of a partition in pixels.
    fn side(self) -> usize {
        if self == Tiny { 112 } else { 336 }
    }

    fn pinpoints(self) -> Value {
        let side = self.side();
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
            NextQwen7b => set(
                &mut text,
                json!({
                    "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584,
                    "intermediate_size": 18944, "max_position_embeddings": 32768,
                    "model_type": "qwen2", "num_attention_heads": 28, "num_hidden_layers": 28,
                    "num_key_value_heads": 4, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
                    "torch_dtype": "bfloat16"
                }),
            ),
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
        let (architecture, model_type) = match self.tiled() {
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
        config
    }

    fn preprocessor_json(self) -> Value {
        let side = self.side();
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
        value
    }

    fn processor_class(self) -> &'static str {
        if self.tiled() { "LlavaNextProcessor" } else { "LlavaProcessor" }
    }

    fn processor_json(self) -> Value {
        json!({
            "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 14,
            "processor_class": self.processor_class(), "vision_feature_select_strategy": "default"
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
        json!({
            "add_bos_token": true, "add_eos_token": false, "bos_token": "<s>",
            "clean_up_tokenization_spaces": false, "eos_token": "</s>",
            "extra_special_tokens": { "image_token": "<image>" }, "image_token": "<image>",
            "pad_token": if self.pad_token() == 0 { "<unk>" } else { "<pad>" },
            "padding_side": "left", "processor_class": self.processor_class(),
            "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>"
        })
    }

    /// Images before text in every turn, whatever their order in the message, as in the published
    /// templates. BOS is the tokenizer's business.
    fn chat_template(self) -> String {
        const CONTENT: &str = "{% for part in turn.content if part.type == 'image' %}\
            {{ '<image>\\n' }}{% endfor %}\
            {% for part in turn.content if part.type == 'text' %}";
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
fn set(object: &mut Value, more: Value) {
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
