"""Folders of LLaVA's own code (liuhaotian/…, ShareGPT4V, their fine-tunes), of LLaVA-Phi's and of MobileVLM V2's in the
layout of transformers' classes.

Their configuration is flat and names the vision tower by a path (LLaVA-Phi describes it); what it does not tell is read off
the tensors.
"""

import json
import re

from .tensors import Failed, opened, with_rows

MULTIPLE = 64  # rows of the embedding, as transformers' conversion pads them

TEXT_KEYS = (
    "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "max_position_embeddings rms_norm_eps rope_theta rope_scaling sliding_window bos_token_id "
    "layer_norm_eps partial_rotary_factor qk_layernorm hidden_act"
).split()
DECODERS = {"llama": "llama", "llava_llama": "llama", "llava": "llama", "share4v": "llama"}
DECODERS |= {"llava_mistral": "mistral", "mistral": "mistral", "llava_phi": "phi", "mobilevlm": "llama"}
# The projector's type, as the folder and as hired's configuration name it, by what is not LLaVA's own.
PROJECTORS = {"mobilevlm": ("ldpnetv2", "ldpv2")}
POOLED_SIDE = 24  # patches along the side of the square that LDPv2 pools to 12 x 12
OTHERS = {
    "llava_mpt": "its decoder is MPT",
    "llava_qwen": "its towers and decoders differ from release to release",
}

# Stored names, in what they begin with, and the names on the hub.
NAMES = [
    (r"model\.vision_tower\.vision_tower\.vision_model\.", "vision_tower.vision_model."),
    (r"model\.mm_projector\.0\.", "multi_modal_projector.linear_1."),
    (r"model\.mm_projector\.2\.", "multi_modal_projector.linear_2."),
    (r"model\.vision_tower\.vision_model\.", "vision_tower.vision_model."),  # LLaVA-Phi
    (r"model\.mm_projector\.mlp\.mlp\.0\.", "multi_modal_projector.linear_1."),  # MobileVLM V2
    (r"model\.mm_projector\.mlp\.mlp\.2\.", "multi_modal_projector.linear_2."),
    (r"model\.mm_projector\.peg\.peg\.0\.", "multi_modal_projector.peg."),
    (r"model\.image_newline$", "image_newline"),
    (r"model\.(layers|embed_tokens|norm|final_layernorm)\.", r"language_model.model.\1."),
    (r"lm_head\.", "language_model.lm_head."),
    (r"(vision_model\.)", r"vision_tower.\1"),  # of a tower's own folder
]
# Buffers that no release computes with, and the half of CLIP that reads text.
UNUSED = re.compile(
    r"rotary_emb\.inv_freq$|position_ids$|^text_model\.|^logit_scale$|^(text|visual)_projection\."
)


def is_original(config):
    return "mm_vision_tower" in config or config.get("model_type") in (DECODERS.keys() | OTHERS) - {"llava"}


def hub_name(stored):
    for begin, name in NAMES:
        renamed, count = re.subn(f"^{begin}", name, stored)
        if count:
            return renamed
    return None


class Original:
    """One folder, read and checked."""

    def __init__(self, folder, config, tower=None):
        self.folder, self.config = folder, config
        model_type = config.get("model_type", "llava")
        if model_type in OTHERS or model_type not in DECODERS:
            why = OTHERS.get(model_type, "it is none of LLaVA's")
            raise Failed(f"{folder}: model_type \"{model_type}\" is not converted: {why}")
        self.decoder = DECODERS[model_type]
        self.tower_heads = None
        if model_type == "llava_phi":
            self.read_sections()
        stored, self.projector = PROJECTORS.get(model_type, ("mlp2x_gelu", None))
        self.want("mm_projector_type", stored, "linear")
        self.want("mm_vision_select_feature", "patch", "patch")
        if config.get("mm_use_im_start_end") or config.get("mm_use_im_patch_token"):
            raise Failed(f"{folder}: tokens around the image (mm_use_im_…) are not converted")
        self.tiled = "anyres" in str(config.get("image_aspect_ratio")) or "image_grid_pinpoints" in config
        if self.tiled:
            self.want("mm_patch_merge_type", "spatial_unpad", "flat")
        self.tensors = self.renamed(opened(folder))
        if not any(name.startswith("vision_tower.") for name in self.tensors):
            self.add_tower(tower)
        self.check()

    def read_sections(self):
        """LLaVA-Phi has tower and projector in sections of their own."""
        parts = self.config.get("vision_config") or {}
        tower, projector = (parts.get(name) or {} for name in ("vision_tower", "mm_projector"))
        self.tower_heads = tower.get("num_attention_heads")
        keys = ("mm_vision_select_layer", "mm_vision_select_feature")
        found = {key: tower[key] for key in keys if key in tower}
        found["mm_projector_type"] = projector.get("mm_projector_type", "linear")
        self.config = self.config | found

    def want(self, key, value, default):
        found = self.config.get(key, default)
        if found != value:
            raise Failed(f"{self.folder}/config.json: {key} is {found!r}; only {value!r} is converted")

    def renamed(self, stored):
        found = {}
        for name, tensor in stored.items():
            new = hub_name(name)
            if UNUSED.search(name) or (new and UNUSED.search(new)):
                continue
            if new is None:
                raise Failed(f"{self.folder}: tensor {name} is none of LLaVA's: is this a LoRA, or another model?")
            found[new] = tensor
        return found

    def add_tower(self, tower):
        named = self.config.get("mm_vision_tower")
        if tower is None:
            raise Failed(
                f"{self.folder} has no vision tower's weights: download {named} and give its folder as --tower"
            )
        found = self.renamed({n: t for n, t in opened(tower).items() if not UNUSED.search(n)})
        self.tensors |= found
        path = tower / "config.json"
        config = json.loads(path.read_text()) if path.exists() else {}
        config = config.get("vision_config", config)
        self.tower_heads = config.get("num_attention_heads")

    def check(self):
        layers = self.config.get("num_hidden_layers", 0)
        fused = [name for name in self.tensors if ".self_attn.query_key_value." in name]
        if fused:
            raise Failed(
                f"{self.folder}: {fused[0]} holds queries, keys and values together, as transformers 4.36 had Phi: load and save "
                "the model with a newer release first"
            )
        last = "fc2" if self.decoder == "phi" else "down_proj"
        wanted = ["multi_modal_projector.linear_1.weight", "multi_modal_projector.linear_2.weight"]
        wanted += [f"language_model.model.layers.{layers - 1}.mlp.{last}.weight"]
        wanted += ["multi_modal_projector.peg.weight"] if self.projector else []
        wanted += ["language_model.model.embed_tokens.weight", "vision_tower.vision_model.pre_layrnorm.weight"]
        wanted += ["image_newline"] if self.tiled else []
        missing = [name for name in wanted if name not in self.tensors]
        if missing:
            raise Failed(f"{self.folder}: {missing[0]} is missing: is the folder whole?")

    def vision_config(self):
        """The tower's sizes, read off its tensors; heads of 64 numbers, as all of CLIP's, unless its own folder knows."""
        of = lambda name: self.tensors[f"vision_tower.vision_model.{name}"].shape
        hidden, _, patch, _ = of("embeddings.patch_embedding.weight")
        side = round((of("embeddings.position_embedding.weight")[0] - 1) ** 0.5)
        if self.projector and side != POOLED_SIDE:
            raise Failed(f"{self.folder}: LDPv2 pools {POOLED_SIDE} x {POOLED_SIDE} patches, and this tower has {side} x {side}")
        layer = re.compile(r"vision_tower\.vision_model\.encoder\.layers\.(\d+)\.")
        layers = 1 + max(int(m[1]) for m in map(layer.match, self.tensors) if m)
        return {
            "model_type": "clip_vision_model",
            "hidden_size": hidden,
            "intermediate_size": of("encoder.layers.0.mlp.fc1.weight")[0],
            "num_hidden_layers": layers,
            "num_attention_heads": self.tower_heads or max(hidden // 64, 1),
            "patch_size": patch,
            "image_size": side * patch,
            "hidden_act": "quick_gelu",
            "projection_dim": 768,
        }

    def converted(self, vocabulary, heads=None):
        """config.json and the tensors, for a tokenizer of so many words without the image token."""
        vision = self.vision_config()
        if heads:
            vision["num_attention_heads"] = heads
        embedding = self.tensors["language_model.model.embed_tokens.weight"]
        if embedding.shape[0] < vocabulary:
            raise Failed(f"{self.folder}: the tokenizer has {vocabulary} words, the embedding {embedding.shape[0]} rows")
        rows = -(-max(embedding.shape[0], vocabulary + 2) // MULTIPLE) * MULTIPLE
        text = {key: self.config[key] for key in TEXT_KEYS if self.config.get(key) is not None}
        text |= {"model_type": self.decoder, "vocab_size": rows}
        if self.decoder == "mistral":
            text.setdefault("sliding_window", None)
        # New words get the rows of the token that begins a text, which no model says: an image's own row is never
        # looked at, and no answer may drift to the others.
        begin = self.config.get("bos_token_id", 1)
        tensors = dict(self.tensors)
        head = ("language_model.lm_head.weight", "language_model.lm_head.bias")
        for name in ("language_model.model.embed_tokens.weight", *head):
            if name in tensors:
                tensors[name] = with_rows(tensors[name], rows, begin)
        config = {
            "architectures": ["LlavaNextForConditionalGeneration" if self.tiled else "LlavaForConditionalGeneration"],
            "model_type": "llava_next" if self.tiled else "llava",
            "image_token_index": vocabulary,
            "pad_token_id": vocabulary + 1,
            "projector_hidden_act": "gelu",
            "vision_feature_layer": self.config.get("mm_vision_select_layer", -2),
            "vision_feature_select_strategy": "default",
            "tie_word_embeddings": "language_model.lm_head.weight" not in tensors,
            "text_config": text,
            "vision_config": vision,
        }
        if self.projector:
            config["projector_type"] = self.projector
        if self.tiled:
            # LLaVA's own code has width before height.
            config["image_grid_pinpoints"] = [[h, w] for w, h in self.pinpoints(vision["image_size"])]
        return config, dict(sorted(tensors.items()))

    def pinpoints(self, side):
        points = self.config.get("image_grid_pinpoints")
        if isinstance(points, str):
            points = json.loads(points)
        if not points:
            raise Failed(f"{self.folder}/config.json: image_grid_pinpoints is missing")
        for point in points:
            if len(point) != 2 or any(n % side for n in point):
                raise Failed(f"{self.folder}/config.json: pinpoint {point} is no multiple of {side} pixels")
        return points

    def preprocessor(self, config):
        side = config["vision_config"]["image_size"]
        found = {
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": side},
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "resample": 3,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        }
        if self.tiled:
            found |= {"image_processor_type": "LlavaNextImageProcessor", "do_pad": True}
            return found | {"image_grid_pinpoints": config["image_grid_pinpoints"]}
        if self.config.get("image_aspect_ratio") == "pad":
            return found | {"image_processor_type": "LlavaImageProcessor", "do_pad": True}
        return found | {"image_processor_type": "CLIPImageProcessor"}

    def eos(self):
        """Ids that end an answer, as the folder has them."""
        path = self.folder / "generation_config.json"
        generation = json.loads(path.read_text()) if path.exists() else {}
        default = 50256 if self.decoder == "phi" else 2  # Phi-2's <|endoftext|>
        return generation.get("eos_token_id", self.config.get("eos_token_id", default))
