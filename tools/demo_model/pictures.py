#!/usr/bin/env python3
"""Draws the pictures that the demo asks about, with their questions: one of each grid, in high resolution.

    python3 tools/demo_model/pictures.py --out demo

Writes DIR/images/grid-RxC.png (rows, columns of sub-images) and DIR/questions.jsonl, in the form that generate.py
gives them. Of the first 400 scenes of seed 7 those with at least four signs are drawn at two pixels a point; each
grid gets the one of the smallest file that no grid before it has. No model has a say. Needs Pillow and numpy;
takes some minutes.
"""

import argparse
import io
import json
from pathlib import Path

import generate
import scenes

SEED, FIRST, SIGNS, SCALE = 7, 400, 4, 2.0
SIZES = [(224, 224), (336, 112), (112, 336), (224, 112)]  # points; each fills its grid


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def smallest(size, taken):
    """Index, scene and file of the smallest picture of a size, its number none of those taken."""
    found = []
    for index in set(range(FIRST)) - taken:
        scene = scenes.scene(scenes.HELD_OUT, SEED, index, size=size, scale=SCALE)
        if len(scene.signs) >= SIGNS:
            found.append((index, scene, png(scene.image)))
    return min(found, key=lambda each: (len(each[2]), each[0]))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=Path, required=True)
    options = arguments.parse_args()
    (options.out / "images").mkdir(parents=True, exist_ok=True)
    with open(options.out / "questions.jsonl", "w", encoding="utf-8") as file:
        taken = set()
        for size in SIZES:
            index, scene, content = smallest(size, taken)
            taken.add(index)
            name = "images/grid-{}x{}.png".format(*generate.grid(scene.image))
            (options.out / name).write_bytes(content)
            for line in generate.lines(scene, name, SEED, index):
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
