//! The files of InternVL presets, and of Qwen decoders.

use super::files::set;
use serde_json::{Value, json};

/// A template that keeps images at their positions in the messages.
pub(super) const CHAT_TEMPLATE: &str = "{% for turn in messages %}{{ '<|im_start|>' ~ turn.role ~ '\\n' }}\
    {% for part in turn.content %}\
    {% if part.type == 'image' %}{{ '<IMG_CONTEXT>\\n' }}{% else %}{{ part.text }}{% endif %}\
    {% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// `config.json` with this decoder and tiles of `side` pixels.
pub(super) fn config(image_token: u32, side: usize, text: Value) -> Value {
    json!({
        "architectures": ["InternVLForConditionalGeneration"], "downsample_ratio": 0.5,
        "image_seq_length": 256, "image_token_id": image_token, "model_type": "internvl",
        "projector_hidden_act": "gelu", "text_config": text, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16",
        "vision_config": {
            "attention_bias": true, "hidden_act": "gelu", "hidden_size": 1024,
            "image_size": [side, side], "intermediate_size": 4096, "layer_norm_eps": 1e-6,
            "layer_scale_init_value": 0.1, "model_type": "internvl_vision",
            "norm_type": "layer_norm", "num_attention_heads": 16, "num_hidden_layers": 24,
            "patch_size": [14, 14], "use_mean_pooling": true, "use_qk_norm": false
        },
        "vision_feature_layer": -1, "vision_feature_select_strategy": "default"
    })
}

/// `preprocessor_config.json`.
pub(super) fn preprocessor(side: usize) -> Value {
    json!({
        "crop_to_patches": false, "do_convert_rgb": true, "do_normalize": true, "do_rescale": true,
        "do_resize": true, "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "GotOcr2ImageProcessorFast", "image_std": [0.229, 0.224, 0.225],
        "max_patches": 12, "min_patches": 1, "processor_class": "InternVLProcessor", "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": { "height": side, "width": side }
    })
}

/// A Qwen2.5 decoder: hidden size, MLP size, layers, heads, and key/value heads.
pub(super) fn qwen2([hidden, intermediate, layers, heads, kv_heads]: [usize; 5]) -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "hidden_size": hidden,
        "intermediate_size": intermediate, "max_position_embeddings": 32768, "model_type": "qwen2",
        "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "torch_dtype": "bfloat16"
    })
}

/// A Qwen3 decoder, likewise.
pub(super) fn qwen3(shape: [usize; 5]) -> Value {
    let mut text = qwen2(shape);
    set(
        &mut text,
        json!({
            "architectures": ["Qwen3ForCausalLM"], "head_dim": 128, "max_position_embeddings": 40960,
            "model_type": "qwen3"
        }),
    );
    text
}
