"""The demo model: its shape, its words, and the forward passes that training needs.

The parameters are those of transformers' LlavaNextForConditionalGeneration, built by it; the passes here
compute what its own modules compute, only the parts that a loss sees, and many questions an image at once.
"""

import sys
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import json  # noqa: E402

import scenes  # noqa: E402
from fixtures import checkpoints, models, text  # noqa: E402
from fixtures.selection import geometry  # noqa: E402

SIDE, PATCH = scenes.SIDE, scenes.PATCH
GRID = SIDE // PATCH  # patches a row of a sub-image
WIDTH, HEADS = 128, 4
VOCABULARY = 448
BOS, EOS = 1, 2

# Every word of the prompts and answers becomes one piece; digits stay single characters, as in
# LLaMA's vocabulary.
SAID = (
    "▁USER:▁ What Which Where How Read ▁all ▁signs. ▁number ▁colour ▁shape ▁has ▁is ▁are ▁there? ▁many ▁signs ▁on "
    "▁the ▁sign? ▁sign ▁ASSISTANT: ▁top ▁bottom ▁left ▁right "
    "▁" + " ▁".join([*scenes.NAMES, *scenes.SHAPES])
)


def tokenizer_json():
    words = Counter(SAID.split()) + Counter("0123456789?.,")
    return text.tokenizer_json(words, VOCABULARY)


TOKENIZER = tokenizer_json()
IMAGE_ID = len(TOKENIZER["model"]["vocab"])

MODEL = checkpoints.Model(
    name="demo",
    seed=0,
    config=checkpoints.llava_next(
        checkpoints.vision((WIDTH, 512, 5, HEADS), SIDE, PATCH, vocab_size=32000),
        checkpoints.language(
            (WIDTH, 384, 4, HEADS),
            VOCABULARY,
            architectures=["LlamaForCausalLM"],
            max_position_embeddings=4096,
            model_type="llama",
            pad_token_id=0,
            rms_norm_eps=1e-05,
            torch_dtype="float16",
        ),
        image_token_index=IMAGE_ID,
        tie_word_embeddings=False,
        torch_dtype="float16",
        vocab_size=VOCABULARY,
    ),
    dtype=torch.float16,
    names="hub",
    template=text.LABELLED,
    template_at="chat_template.json",
    images=[],
    tokenizer=TOKENIZER,
)


class Words:
    """Ids as the processor makes them: `before` and `after` the image, questions, answers."""

    def __init__(self):
        self.tokenizer = Tokenizer.from_str(json.dumps(TOKENIZER))
        probe = self.ids("USER: <image>\nWhat shape", bos=True)
        at = probe.index(IMAGE_ID)
        self.before = probe[:at]
        self.after = probe[at + 1 : -len(self.tail("What shape"))]
        self.question = lambda q: self.tail(f"{q} ASSISTANT:")

    def ids(self, string, bos=False):
        return self.tokenizer.encode(string, add_special_tokens=bos).ids

    def tail(self, string):
        """Ids of what follows the line end after the image."""
        ids = self.ids("<image>\n" + string)
        return ids[ids.index(self.newline) + 1 :]

    @property
    def newline(self):
        return TOKENIZER["model"]["vocab"]["<0x0A>"]

    def answer(self, string):
        """A number starts with its first digit, not with the blank before it."""
        ids = self.ids(string)
        blank = TOKENIZER["model"]["vocab"]["▁"]
        return (ids[1:] if ids[0] == blank else ids) + [EOS]


def build():
    """The model with weights ready to train."""
    made = models.build(MODEL).requires_grad_(True)
    torch.manual_seed(MODEL.seed)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if p.dim() >= 2 and "embed" not in name:
                p.normal_(0, p[0].numel() ** -0.5)
        made.model.language_model.embed_tokens.weight.normal_(0, 1)
        made.model.image_newline.normal_(0, 1)
        embeddings = made.model.vision_tower.embeddings
        embeddings.patch_embedding.weight.normal_(0, 588**-0.5)
        embeddings.class_embedding.normal_(0, 0.5)
        # Rows and columns as sines and cosines, 0.7 of the size of what the patches say.
        at = torch.arange(GRID)[:, None] / 8.0 ** (torch.arange(WIDTH // 4) / (WIDTH // 4))[None]
        waves = torch.cat([at.sin(), at.cos()], 1)
        rows = waves[:, None].expand(GRID, GRID, -1)
        position = torch.cat([rows, rows.transpose(0, 1)], -1).reshape(GRID * GRID, WIDTH)
        embeddings.position_embedding.weight[1:] = 0.7 * position / position.std()
        embeddings.position_embedding.weight[0].zero_()
    return made


def split(x):
    """[B, T, width] to heads [B, heads, T, width of a head]."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def merge(x):
    return x.transpose(1, 2).flatten(2)


def vision(tower, pixels, layers=4):
    """Hidden states 1 to `layers` of [N, 3, side, side], each [N, 1 + T, width]."""
    e = tower.embeddings
    n = len(pixels)
    patches = pixels.reshape(n, 3, GRID, PATCH, GRID, PATCH).permute(0, 2, 4, 1, 3, 5)
    x = F.linear(patches.reshape(n, GRID * GRID, -1), e.patch_embedding.weight.flatten(1))
    x = torch.cat([e.class_embedding.expand(n, 1, -1), x], 1) + e.position_embedding.weight
    x = tower.pre_layrnorm(x)
    states = []
    for layer in tower.encoder.layers[:layers]:
        y = layer.layer_norm1(x)
        a = layer.self_attn
        y = F.scaled_dot_product_attention(
            split(a.q_proj(y)), split(a.k_proj(y)), split(a.v_proj(y))
        )
        x = x + a.out_proj(merge(y))
        y = layer.mlp.fc1(layer.layer_norm2(x))
        x = x + layer.mlp.fc2(y * torch.sigmoid(1.702 * y))
        states.append(x)
    return states


def cls_attention(tower, pixels, layer):
    """What HiRED scores by, [N, T]: the CLS row of a layer's attention over patches, heads summed."""
    e = tower.embeddings
    if layer:
        x = vision(tower, pixels, layer)[-1]
    else:
        x = e.patch_embedding(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([e.class_embedding.expand(len(x), 1, -1), x], 1) + e.position_embedding.weight
        x = tower.pre_layrnorm(x)
    a = tower.encoder.layers[layer].self_attn
    y = tower.encoder.layers[layer].layer_norm1(x)
    q, k = split(a.q_proj(y[:, :1])), split(a.k_proj(y))
    return (q @ k.transpose(2, 3) * k.shape[-1] ** -0.5).softmax(-1)[:, :, 0, 1:].sum(1)


def order(width, height):
    """Rows of [partitions × T] features that enter the decoder; −1 is a newline. transformers' packing."""
    g = geometry(width, height, SIDE, PATCH, scenes.PINPOINTS)
    rows = list(range(GRID * GRID))
    for line in g.canvas():
        rows += [partition * GRID * GRID + patch for _, partition, patch in line] + [-1]
    return torch.tensor(rows)


def visual(model, features, rows):
    """[B, P, T, width] features to the decoder's rows [B, K, width]."""
    m = model.model
    picked = features.flatten(1, 2)[:, rows.clamp(min=0)]
    projected = m.multi_modal_projector(picked)
    return torch.where((rows < 0)[None, :, None], m.image_newline, projected)


class Rotary:
    """cos and sin [positions, head size] of LLaMA's rotation."""

    def __init__(self, positions=4096, size=WIDTH // HEADS, theta=10000.0):
        angle = torch.outer(
            torch.arange(positions).float(), theta ** -(torch.arange(0, size, 2).float() / size)
        )
        angle = torch.cat([angle, angle], -1)
        self.cos, self.sin = angle.cos(), angle.sin()

    def __call__(self, x, at):
        if self.cos.device != x.device:
            self.cos, self.sin = self.cos.to(x.device), self.sin.to(x.device)
        a, b = x.chunk(2, -1)
        return x * self.cos[at] + torch.cat([-b, a], -1) * self.sin[at]


ROTARY = Rotary()


def decode(model, prefix, ids, lengths):
    """Logits [B, N, vocabulary] of texts of the given lengths, N in all, each read alone after the
    prefix [B, P, width].

    A text sees the prefix and itself, and its positions go on from the prefix: so each gets what a
    request of its own would give, and the prefix is computed once.
    """
    lm = model.model.language_model
    p = prefix.shape[1]
    before = torch.arange(p, device=prefix.device)
    at = p + torch.cat([torch.arange(n) for n in lengths]).to(prefix.device)
    block = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)]).to(prefix.device)
    own = (block[:, None] == block[None]) & (at[:, None] >= at[None])
    mask = torch.cat([own.new_ones(len(block), p), own], 1)
    mask = torch.zeros_like(mask, dtype=prefix.dtype).masked_fill(~mask, float("-inf"))[None, None]
    x, y = prefix, lm.embed_tokens(ids)
    for i, layer in enumerate(lm.layers):
        a, n = layer.self_attn, layer.input_layernorm
        h, g = n(x), n(y)
        k, v = ROTARY(split(a.k_proj(h)), before), split(a.v_proj(h))
        kk = torch.cat([k, ROTARY(split(a.k_proj(g)), at)], 2)
        vv = torch.cat([v, split(a.v_proj(g))], 2)
        q = ROTARY(split(a.q_proj(g)), at)
        y = y + a.o_proj(merge(F.scaled_dot_product_attention(q, kk, vv, attn_mask=mask)))
        y = y + layer.mlp(layer.post_attention_layernorm(y))
        if i + 1 < len(lm.layers):  # of the last layer's prefix only keys and values are read
            q = ROTARY(split(a.q_proj(h)), before)
            x = x + a.o_proj(merge(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
    return model.lm_head(lm.norm(y))
