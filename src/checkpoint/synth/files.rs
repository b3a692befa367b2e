//! The small files of a synthetic checkpoint, modelled on those of published ones.

use serde_json::{Value, json};

use super::super::write::pretty;
use super::internvl;
use super::preset::Preset::{self, *};

impl Preset {
    /// Names and contents of the small files, except `tokenizer.json`.
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

    /// `config.json`. As in published files, `text_config` leaves out LLaMA's or Mistral's defaults.
    pub(super) fn config_json(self) -> Value {
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
            LlavaPhi => set(
                &mut text,
                json!({
                    "architectures": ["PhiForCausalLM"], "hidden_act": "gelu_new",
                    "hidden_size": 2560, "intermediate_size": 10240, "layer_norm_eps": 1e-5,
                    "max_position_embeddings": 2048, "model_type": "phi",
                    "num_hidden_layers": 32, "partial_rotary_factor": 0.4
                }),
            ),
            MobileVlm17b => set(
                &mut text,
                json!({
                    "hidden_size": 2048, "intermediate_size": 5632, "max_position_embeddings": 2048,
                    "num_attention_heads": 16, "num_hidden_layers": 24, "num_key_value_heads": 16,
                    "rms_norm_eps": 1e-6
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
        if self == MobileVlm17b {
            set(&mut config, json!({ "projector_type": "ldpv2" }));
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

    pub(super) fn preprocessor_json(self) -> Value {
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
            "patch_size": if self == MobileVlm17b { 28 } else { 14 },
            "processor_class": self.processor_class(),
            "vision_feature_select_strategy": if self.siglip() { "full" } else { "default" }
        })
    }

    /// Vicuna 1.6 uses `<unk>` for padding, the others the `<pad>` after `<image>`.
    fn pad_token(self) -> u32 {
        if matches!(self, Next7b | Next13b) { 0 } else { self.image_token() + 1 }
    }

    fn generation_json(self) -> Value {
        json!({
            "_from_model_config": true, "bos_token_id": 1, "eos_token_id": 2,
            "pad_token_id": self.pad_token()
        })
    }

    pub(super) fn tokenizer_json(self) -> Value {
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

    /// Images before text in every message, whatever their order, as in the published templates. The tokenizer adds
    /// BOS.
    pub(super) fn chat_template(self) -> String {
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
