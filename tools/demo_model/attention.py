#!/usr/bin/env python3
"""Which partitions the decoder's most attended visual tokens come from: the paper's Table 2, over many scenes.

    target/venv/bin/python tools/demo_model/attention.py --model demo/model --questions DIR/questions.jsonl \\
        [--limit N] [--json FILE]

transformers answers every question about an image of the 2×2 grid with all visual tokens. Counted is attention
in the decoding phase: the rows of the queries that choose a token of the answer, its end included (the last token
of the prompt, then each generated token but the last), over the columns of the visual tokens, averaged over
queries, heads and layers. Newlines are no visual tokens. The 10% and 20% are of all patches of the partitions,
padding included, as HiRED's budgets are: so every image of the grid has as many. Those of the highest attention
are counted by the partition they come from, for each question by itself.

Means and their intervals (95%) are over images, after the mean over an image's questions. `blind` is what as many
visual tokens drawn without looking give; sub-images in the order of their counts differ by chance alone, so there
blind draws are put in order too.

HiRED's allocation is what its rule `exact` gives each sub-image at the same budget (alpha 0.5) by the CLS attention
of layer 0, from transformers' own vision tower. It is correlated over the four sub-images with the counts of one
question, and with the counts of an image's questions added up; where either side has no differences there is no
correlation, and the case is left out.
"""

import argparse
import json
import sys
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor

import questions

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fixtures import models, reference  # noqa: E402
from fixtures.selection import (  # noqa: E402
    allocate_exact,
    budget_count,
    geometry,
    millionths,
    select,
)

GRID, ALPHA = (2, 2), "0.5"
BUDGETS = ["10%", "20%"]
DRAWS = 20  # blind draws a question
POSITIONS = ["full image", "(0, 0)", "(0, 1)", "(1, 0)", "(1, 1)"]
ORDERED = ["full image", "most", "second", "third", "least"]


def shape(model, image):
    config = model.config
    vision = config.vision_config
    pinpoints = config.image_grid_pinpoints
    return geometry(*image.size, vision.image_size, vision.patch_size, pinpoints)


def content(model, pixels):
    """CLS attention of layer 0 over the full image's patches, heads summed: f32 [T]."""
    tower = model.model.vision_tower(pixels[0, :1], output_attentions=True)
    return tower.attentions[0][0, :, 0, 1:].sum(0).numpy()


def received(model, inputs):
    """Attention that each image position [K], newlines included, receives while the answer is made."""
    out = model.generate(
        **inputs,
        max_new_tokens=16,
        do_sample=False,
        output_attentions=True,
        return_dict_in_generate=True,
    )
    ids = inputs["input_ids"][0]
    steps = [
        torch.stack([layer[0, :, -1, : len(ids)] for layer in step]).mean((0, 1))
        for step in out.attentions
    ]
    return torch.stack(steps).mean(0)[ids == model.config.image_token_index].numpy()


def ordered(counts):
    """Full image first, then the sub-images from the highest count down: [..., P]."""
    return np.concatenate([counts[..., :1], -np.sort(-counts[..., 1:], -1)], -1)


def count(g, init, attention, rng):
    """Of one question, for each budget: counts by partition, what blindness gives, HiRED's allocation."""
    order = select(g, None, None, None, "full", None).order(g, True)
    if len(order) != len(attention):
        raise ValueError(f"{len(attention)} image positions, expected {len(order)}")
    patches = [i for i, at in enumerate(order) if at is not None]
    owner = np.array([order[i][0] for i in patches])
    attention = attention[patches]
    by_attention = np.argsort(-attention, kind="stable")
    valid = g.valid().sum(1)
    out = {}
    for budget in BUDGETS:
        taken = budget_count(budget, g)
        top = by_attention[:taken]
        counts = np.bincount(owner[top], minlength=g.partitions)
        blind = rng.multivariate_hypergeometric(valid, taken, size=DRAWS)
        out[budget] = dict(
            tokens=taken,
            counts=counts.tolist(),
            ordered=ordered(counts).tolist(),
            blind=(taken * valid / valid.sum()).tolist(),
            blind_ordered=ordered(blind).mean(0).tolist(),
            attention=float(attention[top].sum() / attention.sum()),
            allocation=allocate_exact(g, init, taken, millionths(ALPHA), 0),
        )
    return out


def pearson(a, b):
    """None where one side has no differences."""
    a, b = np.asarray(a, float) - np.mean(a), np.asarray(b, float) - np.mean(b)
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else None


def ranks(values):
    """From 0; equal values share the mean of their ranks."""
    values = np.asarray(values)
    return [(np.sum(values < v) + np.sum(values <= v) - 1) / 2 for v in values]


def mean(images):
    """Mean and interval over images of numbers or lists of them; an image is a list, one of each question."""
    each = [np.mean(values, 0) for values in images if values]
    if not each:
        return dict(images=0, mean=None, interval=None)
    middle = np.mean(each, 0)
    if len(each) == 1:
        return dict(images=1, mean=middle.tolist(), interval=None)
    reach = 1.96 * np.std(each, 0, ddof=1) / len(each) ** 0.5
    ends = [(middle - reach).tolist(), (middle + reach).tolist()]
    return dict(images=len(each), mean=middle.tolist(), interval=ends)


def summarise(rows, budget):
    """The means over `rows`, one of each question."""
    images = defaultdict(list)
    for row in rows:
        images[row["image"]].append(row[budget])
    images = list(images.values())
    keys = ("counts", "ordered", "blind", "blind_ordered", "attention")
    out = {key: mean([[row[key] for row in image] for image in images]) for key in keys}
    together = [
        [dict(image[0], counts=np.sum([row["counts"] for row in image], 0))] for image in images
    ]
    out["correlation"] = {}
    for unit, groups in (("question", images), ("image", together)):
        for name, of in (("pearson", list), ("spearman", ranks)):
            found = [
                [pearson(of(row["counts"][1:]), of(row["allocation"][1:])) for row in group]
                for group in groups
            ]
            told = mean([[v for v in group if v is not None] for group in found])
            out["correlation"][f"{name}, {unit}"] = told
    return out


def measure(options):
    asked = questions.read(options.questions, options.limit)
    model = models.read(options.model)
    processor = AutoProcessor.from_pretrained(options.model, backend="pil")
    rng = np.random.default_rng(0)
    rows = []
    for line in asked:
        image = Image.open(options.questions.parent / line["image"])
        g = shape(model, image)
        if g.grid != GRID:
            continue
        rendered = reference.render(processor, line["prompt"], True)
        inputs = processor(images=image, text=rendered, return_tensors="pt")
        with torch.no_grad():
            init, attention = content(model, inputs["pixel_values"]), received(model, inputs)
        rows.append({**line, **count(g, init, attention, rng)})
        if sys.stderr.isatty():
            print(f"\r{len(rows)} questions", end="", file=sys.stderr)
    if not rows:
        raise ValueError(f"{options.questions}: no question about an image of the 2×2 grid")
    return rows


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def cells(told, digits=1):
    """Means as text; with intervals as mean ± half of them."""
    if told["mean"] is None:
        return ["–"]
    middle = np.atleast_1d(told["mean"])
    if told["interval"] is None:
        return [f"{m:.{digits}f}" for m in middle]
    reach = np.atleast_1d(told["interval"][1]) - middle
    return [f"{m:.{digits}f} ± {r:.{digits}f}" for m, r in zip(middle, reach, strict=True)]


def show(rows, summaries):
    images = len({row["image"] for row in rows})
    print(f"{len(rows)} questions about {images} images of the 2×2 grid, all visual tokens.\n")
    named = {b: f"{b} (= {rows[0][b]['tokens']} tokens)" for b in BUDGETS}
    for title, head, key in (
        ("by position", POSITIONS, "counts"),
        ("sub-images by their count", ORDERED, "ordered"),
    ):
        blind = "blind" if key == "counts" else "blind_ordered"
        lines = []
        for budget, told in summaries.items():
            lines.append([named[budget], *cells(told[key])])
            lines.append(["expected by chance", *[f"{v:.1f}" for v in told[blind]["mean"]]])
        table([title, *head], lines)
    units = summaries[BUDGETS[0]]["correlation"]
    lines = []
    for budget, told in summaries.items():
        values = (cells(told["correlation"][unit], 2) for unit in units)
        lines.append([named[budget], *(cell for value in values for cell in value)])
    table(["correlation with HiRED's allocation", *units], lines)
    for budget, told in summaries.items():
        share = cells(told["attention"], 3)[0]
        print(f"The top {budget} receive {share} of the attention to visual tokens.")
    print()
    row = rows[0]
    lines = []
    for budget in BUDGETS:
        lines.append([named[budget], *map(str, row[budget]["counts"])])
        lines.append(["HiRED's allocation", *map(str, row[budget]["allocation"])])
    print(f"The first of them, {Path(row['image']).name}, “{row['prompt']}” ({questions.answers(row)[0]}):\n")
    table(["", *POSITIONS], lines)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--questions", type=Path, required=True)
    arguments.add_argument("--limit", type=questions.count, help="use only the first N questions")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to FILE")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    try:
        rows = measure(options)
    except (OSError, ValueError) as failure:
        sys.exit(f"attention.py: {failure}")
    summaries = {budget: summarise(rows, budget) for budget in BUDGETS}
    show(rows, summaries)
    if options.json:
        options.json.write_text(json.dumps(dict(schema=1, budgets=summaries, rows=rows)) + "\n")


if __name__ == "__main__":
    main()
