"""The LLaVA-NeXT architectures of `hired synth`: their config.json and preprocessor_config.json.

src/checkpoint/synth/preset.rs has them first; tests/compare.rs holds these against it.
"""

NAMES = ("tiny", "llava-v1.6-vicuna-7b", "llava-v1.6-vicuna-13b", "llava-v1.6-mistral-7b")
VOCAB, IMAGE_TOKEN = 32064, 32000

VISION = {
    "hidden_size": 1024,
    "image_size": 336,
    "intermediate_size": 4096,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}
# The rest is LLaMA's or Mistral's default, as in published files.
TEXT = {
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCAB,
}
# What differs: of the vision tower, of the language model.
OWN = {
    "tiny": (
        {
            "hidden_size": 64,
            "image_size": 112,
            "intermediate_size": 256,
            "num_attention_heads": 4,
            "num_hidden_layers": 5,
            "projection_dim": 32,
        },
        {
            "hidden_size": 128,
            "intermediate_size": 352,
            "num_attention_heads": 8,
            "num_hidden_layers": 4,
            "num_key_value_heads": 4,
        },
    ),
    "llava-v1.6-vicuna-7b": ({}, {}),
    "llava-v1.6-vicuna-13b": (
        {},
        {
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_attention_heads": 40,
            "num_hidden_layers": 40,
            "num_key_value_heads": 40,
        },
    ),
    "llava-v1.6-mistral-7b": (
        {},
        {
            "intermediate_size": 14336,
            "max_position_embeddings": 32768,
            "model_type": "mistral",
            "num_key_value_heads": 8,
            "rope_theta": 1e6,
            "sliding_window": None,
        },
    ),
}


def config(name):
    vision, text = OWN[name]
    vision = {**VISION, **vision}
    return {
        "architectures": ["LlavaNextForConditionalGeneration"],
        "image_grid_pinpoints": pinpoints(vision["image_size"]),
        "image_token_index": IMAGE_TOKEN,
        "model_type": "llava_next",
        "projector_hidden_act": "gelu",
        "text_config": {**TEXT, **text},
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vision_config": vision,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }


def preprocessor(name):
    side = config(name)["vision_config"]["image_size"]
    return {
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_grid_pinpoints": pinpoints(side),
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "LlavaNextImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": side},
    }


def pinpoints(side):
    grids = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]]
    return [[rows * side, columns * side] for rows, columns in grids]
