#!/usr/bin/env python3
"""Draws held-out scenes and questions about them, as the demo model was trained to answer.

    tools/demo_model/generate.py --seed 1 --count 100 --out DIR

Writes DIR/images/NNNN.png and DIR/questions.jsonl: for every scene one question of each kind (number,
colour, shape, where, count), if it has a clear answer. A line has `image` (relative to the file),
`prompt`, `answer`, `kind`, and what the scene is: `grid` (rows, columns of sub-images) and `signs`.

Needs Pillow and numpy. The same seed gives the same scenes everywhere; the pixels of the digits come from
Pillow's own font. train.py draws from another split, so no seed here shows it a scene again.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import scenes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fixtures.selection import geometry  # noqa: E402


def grid(image):
    """Rows and columns of the sub-images that LLaVA-NeXT cuts an image into."""
    return geometry(*image.size, scenes.SIDE, scenes.PATCH, scenes.PINPOINTS).grid


def lines(scene, image, seed, index):
    """The questions of one scene; each kind asks about a sign of its own where there are enough."""
    rng = np.random.default_rng([seed, index, 1])
    turn = rng.permutation(len(scene.signs))
    for i, kind in enumerate(scenes.KINDS):
        asked = [scene.signs[turn[(i + k) % len(turn)]] for k in range(len(turn))]
        found = (scenes.question(kind, scene, sign) for sign in asked)
        pair = next((p for p in found if p), None)
        if pair:
            yield {
                "image": image,
                "prompt": pair[0],
                "answer": pair[1],
                "kind": kind,
                "grid": grid(scene.image),
                "signs": len(scene.signs),
            }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument(
        "--count", type=int, default=100, help="scenes; about five questions each"
    )
    arguments.add_argument("--out", type=Path, required=True)
    options = arguments.parse_args()
    if options.seed < 0 or options.count < 1:
        arguments.error("--seed takes 0 and more, --count 1 and more")
    (options.out / "images").mkdir(parents=True, exist_ok=True)
    with open(options.out / "questions.jsonl", "w", encoding="utf-8") as file:
        for index in range(options.count):
            scene = scenes.scene(scenes.HELD_OUT, options.seed, index)
            image = f"images/{index:04}.png"
            scene.image.save(options.out / image)
            for line in lines(scene, image, options.seed, index):
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
