"""HiRED on transformers as its authors' code does it, written from a description of that code.

The rows of CLS attention come from the queries and keys of two layers, caught on their way, with
all of softmax(q·kᵀ) computed again for every partition. The budget is a share of all patches,
padding included, and goes to sub-images by how many of the full image's highest patches fall into
the raster chunk that is credited to each: bands, whatever the grid. All partitions go through all
layers and through the projector; only then is dropped. There are no newline tokens. Unlike that
code of 2024, tiles are stitched the right way round, as transformers has done since then: for grids
that are not square the two differ.
"""

import torch
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape,
    unpad_image,
)


class Watch:
    """Keeps what q_proj and k_proj of some layers of a CLIP tower last gave."""

    def __init__(self, tower, layers):
        blocks = next(m for name, m in tower.named_modules() if name.endswith("encoder.layers"))
        self.kept = {}
        self.handles = []
        self.heads = tower.config.num_attention_heads
        for layer in layers:
            attention = blocks[layer].self_attn
            for name in ("q_proj", "k_proj"):
                module = getattr(attention, name)
                self.handles.append(module.register_forward_hook(self.keeper(layer, name)))

    def keeper(self, layer, name):
        def keep(_module, _inputs, output):
            self.kept[layer, name] = output

        return keep

    def scores(self, layer):
        """[partitions, T]: attention of CLS to every patch, summed over the heads."""
        split = lambda x: x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
        q, k = split(self.kept.pop((layer, "q_proj"))), split(self.kept.pop((layer, "k_proj")))
        whole = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return whole[:, :, 0, 1:].sum(1)

    def close(self):
        for handle in self.handles:
            handle.remove()


def choose(init, final, total, alpha):
    """Which patches stay: [P, T] booleans, from scores [P, T] of the first and the final layer."""
    partitions, tokens = final.shape
    full = min(int(total * alpha), tokens)
    sub = min(total - full, (partitions - 1) * tokens)
    counts = [full]
    if sub > 0:
        marks = torch.zeros(tokens, device=init.device)
        marks[init[0].topk(int(tokens * (1 - alpha))).indices] = 1
        chunks = partitions - 1
        ends = [(i + 1) * tokens // chunks - 1 for i in range(chunks)]
        marked = marks.cumsum(0)[ends]
        marked = torch.cat((marked[:1], marked.diff()))
        shares = (marked / marked.sum() * sub).nan_to_num(0).int().tolist()
        counts += [min(share, tokens) for share in shares]
    mask = torch.zeros_like(final, dtype=torch.bool)
    for i, count in enumerate(counts):
        mask[i, final[i].topk(count).indices] = True
    return mask


def order(size, config):
    """An image's patches as partition·T + patch in transformers' order; rows of the canvas."""
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    pinpoints = config.image_grid_pinpoints
    rows, columns = get_anyres_image_grid_shape(size, pinpoints, vision.image_size)
    patches = torch.arange((1 + rows * columns) * side**2)
    canvas = patches[side**2 :].view(rows, columns, side, side).transpose(1, 2)
    shown = unpad_image(canvas.reshape(1, rows * side, columns * side), size)[0]
    return torch.cat((patches[: side**2], shown.flatten())), len(shown)


def embeddings(model, inputs, before, after, budget, alpha, stages):
    """What enters the decoder for a batch of images: rows [B, n, D], and their mask [B, n].

    `budget` gives the number of patches to keep from that of all; `before` and `after` are the
    prompt's ids around the image.
    """
    tower, config = model.model.vision_tower, model.config
    images = len(inputs["pixel_values"])
    final = tower.config.num_hidden_layers + config.vision_feature_layer
    watch = Watch(tower, (0, final))
    pixels = inputs["pixel_values"].flatten(0, 1)
    features = tower(pixels, output_hidden_states=True).hidden_states[config.vision_feature_layer]
    stages.mark("select")
    scores = [watch.scores(layer).chunk(images) for layer in (0, final)]
    watch.close()
    total = budget(scores[0][0].numel())
    masks = [choose(init, last, total, alpha) for init, last in zip(*scores, strict=True)]
    projected = model.model.multi_modal_projector(features[:, 1:]).chunk(images)
    embed = lambda ids: model.get_input_embeddings()(torch.tensor(ids, device=pixels.device))
    head, tail = embed(before), embed(after)
    sequences = []
    for mask, patches, size in zip(masks, projected, inputs["image_sizes"].tolist(), strict=True):
        rows = order(size, config)[0].to(pixels.device)
        kept = rows[mask.flatten()[rows]]
        sequences.append(torch.cat((head, patches.flatten(0, 1)[kept], tail)))
    longest = max(map(len, sequences))
    whole = sequences[0].new_zeros(images, longest, sequences[0].shape[1])
    attended = torch.zeros(images, longest, dtype=torch.long, device=pixels.device)
    for i, sequence in enumerate(sequences):
        whole[i, longest - len(sequence) :] = sequence
        attended[i, longest - len(sequence) :] = 1
    return whole, attended
