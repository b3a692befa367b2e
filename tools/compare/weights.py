"""Models to measure: a folder's, or random weights made where they are used.

The random ones are those that `hired synth` writes and `hired bench --synthetic` makes, number for
number.
"""

import json
import tempfile
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    LlavaNextConfig,
)

from compare import presets

# SplitMix64's numbers, as torch has them: 64 bits with a sign.
STEP, FIRST, SECOND = (
    n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
# Counters that are drawn from at a time.
BLOCK = 1 << 22


def check(path):
    """Refuses a folder of another architecture before anything is read from it."""
    kind = AutoConfig.from_pretrained(path).model_type
    if kind != "llava_next":
        raise ValueError(f"{path}: the model is a {kind}: give a LLaVA-NeXT")


def folder(path, device, dtype):
    """Model and image processor of a Hugging Face folder."""
    made = AutoModelForImageTextToText.from_pretrained(
        path, dtype=dtype, attn_implementation="sdpa"
    )
    return made.to(device).eval(), AutoImageProcessor.from_pretrained(path)


def synthetic(preset, device, dtype, seed=0):
    """Model and image processor of a preset, without any file."""
    config = LlavaNextConfig(**presets.config(preset))
    with torch.device(device):
        made = AutoModelForImageTextToText.from_config(
            config, dtype=dtype, attn_implementation="sdpa"
        )
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            fill(parameter, stored_name(name), seed)
    with tempfile.TemporaryDirectory() as temporary:
        text = json.dumps(presets.preprocessor(preset))
        (Path(temporary) / "preprocessor_config.json").write_text(text, encoding="utf-8")
        return made.eval(), AutoImageProcessor.from_pretrained(temporary)


def stored_name(name):
    """What published checkpoints call the parameter of this name in memory."""
    if name.startswith("lm_head."):
        return "language_model." + name
    name = name.removeprefix("model.")
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1)
    name = name.replace("vision_tower.vision_model.", "vision_tower.", 1)
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1)


def fill(parameter, name, seed):
    """Sets every element by its place: uniform around a mean, rounded to f16 as in a file."""
    mean, deviation = moments(name, parameter.shape)
    reach = (torch.tensor(deviation) * torch.tensor(3.0).sqrt()).item()
    start = key(name, seed)
    flat = parameter.view(-1)
    for begin in range(0, flat.numel(), 4 * BLOCK):
        part = flat[begin : begin + 4 * BLOCK]
        counters = torch.arange(
            begin // 4, (begin + part.numel() + 3) // 4, device=parameter.device
        )
        # Four signed 16-bit draws a counter, the lowest bits first.
        draws = mix(counters + start).view(torch.int16)[: part.numel()].float()
        part.copy_(((draws + 0.5) / 32768.0 * reach + mean).half())


def moments(name, shape):
    """Mean and standard deviation in f32; src/checkpoint/synth/weights.rs explains them."""
    # Of two tensors: a number over a tensor is a product with the reciprocal, which rounds twice.
    inputs = torch.tensor(float(shape[1:].numel()))
    by_inputs = lambda gain: (torch.tensor(gain) / inputs.sqrt()).item()
    if name.endswith(".bias"):
        return 0.0, 0.05
    if "norm" in name:
        return 1.0, 0.1
    if ("embedding." in name and "patch" not in name) or len(shape) == 1:
        return 0.0, 0.5
    if "embed_tokens" in name:
        return 0.0, 1.0
    if "q_proj" in name or "k_proj" in name:
        return 0.0, by_inputs(1.5)
    return 0.0, by_inputs(1.0)


def key(name, seed):
    """Where a tensor's sequence begins."""
    hash = 0xCBF29CE484222325
    for byte in name.encode():
        hash = (hash ^ byte) * 0x100000001B3 % 2**64
    begin = mix(torch.tensor([seed])).item() + hash
    return mix(torch.tensor([signed(begin)])).item()


def signed(number):
    """A number modulo 2⁶⁴ as torch has it."""
    return (number + 2**63) % 2**64 - 2**63


def mix(x):
    """SplitMix64 at places x of its sequence: a step and the finaliser, on 64 bits that wrap."""
    shifted = lambda x, bits: (x >> bits) & ((1 << (64 - bits)) - 1)
    x = x * STEP + STEP
    x = (x ^ shifted(x, 30)) * FIRST
    x = (x ^ shifted(x, 27)) * SECOND
    return x ^ shifted(x, 31)
