#!/usr/bin/env python3
"""Makes everything under tests/fixtures from nothing: pictures, tiny checkpoints, golden data.

    python3 -m venv target/venv && target/venv/bin/pip install -r tools/requirements-fixtures.txt
    python3 -m venv target/venv12 && target/venv12/bin/pip install Pillow==12.1.1 numpy==2.4.6
    target/venv/bin/python tools/make_fixtures.py --pillow12 target/venv12/bin/python

The second environment only shows what an older Pillow resizes to. A run takes about two minutes on
one core and gives the same bytes every time with the pinned versions. `--out DIR` writes elsewhere.

Weights are random but fixed by a seed; the seeds in the tables that fixtures/checkpoints.py lists are the first with which no
case hangs on a near tie (the bounds are in fixtures/reference.py and in the manifest). After a change
to a model or a picture the search goes on from there by itself: put the seed it prints into the table.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers.models.llava_next.image_processing_llava_next import get_patch_output_size
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape,
    unpad_image,
)

from fixtures import (
    attention,
    checkpoints,
    conversations,
    fastv,
    images,
    integers,
    methods,
    pixels,
    reference,
    scores,
    synthetic,
    text,
)
from fixtures.selection import geometry

TOOLS = Path(__file__).resolve().parent
PACKAGES = ("torch", "torchvision", "transformers", "Pillow", "tokenizers", "safetensors", "numpy")


def check_geometry(sizes, side, patch, pinpoints):
    """Grid, fit and valid patches must be transformers' own."""
    for width, height in sizes:
        g = geometry(width, height, side, patch, pinpoints)
        if tuple(get_anyres_image_grid_shape((height, width), pinpoints, side)) != g.grid:
            raise ValueError(f"{width}x{height}: other grid")
        canvas = (g.grid[0] * side, g.grid[1] * side)
        fit = get_patch_output_size(np.zeros((3, height, width)), canvas, "channels_first")
        if tuple(fit) != g.fit:
            raise ValueError(f"{width}x{height}: fit {g.fit}, transformers {fit}")
        rows, columns = g.grid[0] * g.side, g.grid[1] * g.side
        index = torch.arange(rows * columns).view(1, rows, columns)
        ours = index[:, slice(*g.rows), slice(*g.columns)]
        if not torch.equal(unpad_image(index, (height, width)), ours):
            raise ValueError(f"{width}x{height}: other valid patches")


def check_many_sizes():
    rng = random.Random(1)
    length = lambda: max(1, round(2 ** rng.uniform(0, 11)))
    for side, patch in synthetic.GEOMETRIES:
        sizes = [(length(), length()) for _ in range(400)]
        check_geometry(sizes, side, patch, checkpoints.pinpoints(side))


def write_images(out):
    """The pictures, and for each its size and the hash of its pixels as read."""
    folder = out / "images"
    shutil.rmtree(folder, ignore_errors=True)
    images.write(folder)
    entries = {}
    for path in sorted(folder.iterdir()):
        picture = reference.load_image(str(path))
        if np.asarray(picture).tobytes() != np.asarray(pixels.load(path)).tobytes():
            raise ValueError(f"{path.name}: read differently")
        entry = {"width": picture.width, "height": picture.height}
        entry["rgb_sha256"] = pixels.sha256(np.asarray(picture))
        if path.name in images.LOSSY:
            # Other decoders may differ slightly: the pixels themselves, to compare within a bound.
            entry["lossy"] = True
            entry["decoded"] = f"{path.stem}.decoded.png"
            picture.save(out / "golden" / entry["decoded"], optimize=True)
        entries[path.name] = entry
    return entries


def prompts(model, folder):
    """Rendered prompts and ids, by the processor and again by the bare tokenizer."""
    processor, _ = reference.processors(folder)
    bare = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = []
    for question in text.QUESTIONS[:13:4] + text.ODD_PROMPTS:
        for image in (True, False):
            rendered = reference.render(processor, question, image)
            ids = processor.tokenizer(rendered).input_ids
            if ids != bare.encode(rendered).ids:
                raise ValueError(f"{model.name}: {rendered!r} tokenizes in two ways")
            rows.append(
                dict(
                    model=model.name, prompt=question, image=image, rendered=rendered, input_ids=ids
                )
            )
    return rows


def hashed(model, processor, picture):
    """Hash of `pixel_values`: [1, P, 3, S, S], [1, 3, S, S] for LLaVA-1.5, [P, 3, S, S] for InternVL, whose full
    image is put first."""
    values = processor.image_processor(picture, return_tensors="np", **reference.crops(model))
    values = values["pixel_values"]
    return pixels.sha256(np.roll(values, 1, axis=0) if model.internvl else values)


def make_model(model, out):
    """A checkpoint with its cases, and the highest score noise seen."""
    folder = out / "models" / model.name
    seed, found = reference.search(model, folder, out / "images")
    pil, fast = reference.processors(folder)
    golden = out / "golden" / model.name
    golden.mkdir(parents=True)
    cases, noise = [], 0.0
    for name, (case, question, tensors) in zip(model.images, found, strict=True):
        g = case.geometry
        noise = max(noise, case.noise())
        if model.next:
            check_geometry([case.image.size], model.side, model.patch, model.pinpoints)
        file = f"{Path(name).stem}.safetensors"
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, golden / file)
        cases.append(
            dict(
                model=model.name,
                image=name,
                prompt=question,
                golden=f"{model.name}/{file}",
                grid=list(g.grid) if g.grid else None,
                partitions=g.partitions,
                tokens_per_partition=g.tokens,
                valid=int(g.valid().sum()),
                pixels={n: hashed(model, p, case.image) for n, p in (("pillow", pil), ("torchvision", fast))},
            )
        )
    print(f"{model.name}: seed {seed}, score noise {noise:.1e}", flush=True)
    return cases, noise


def make_fastv(out, names=None):
    """Answers of a decoder that drops tokens on the way: of these models beside what is there, or of all."""
    kinds = {m.name: m for m in checkpoints.MODELS}
    entries = []
    if names is not None:
        known = json.loads((out / "golden" / "fastv.json").read_text())
        entries = [entry for entry in known if entry["model"] not in names]
    for name, *case in fastv.CASES:
        if names is not None and name not in names:
            continue
        folder = out / "models" / name
        entry, tensors = fastv.make_case(kinds[name], folder, out / "images", *case)
        save_file(tensors, out / "golden" / entry["golden"])
        entries.append(entry)
    text.dump(entries, out / "golden" / "fastv.json", indent=1)


def add_pillow_12(cases, out, python):
    """The older Pillow's pixels; our own pipeline must first agree with transformers under this one."""
    kinds = {m.name: m for m in checkpoints.MODELS}
    jobs = []
    for case in cases:
        model, path = kinds[case["model"]], out / "images" / case["image"]
        ours = pixels.sha256(
            pixels.pixel_values(path, model.side, model.pinpoints, model.siglip, model.counts)
        )
        if ours != case["pixels"]["pillow"]:
            raise ValueError(f"{case['golden']}: pixels differ from transformers'")
        job = dict(path=str(path.resolve()), side=model.side, pinpoints=model.pinpoints)
        jobs.append(job | {"siglip": model.siglip, "counts": model.counts})
    run = subprocess.run(
        [python, "-W", "ignore", "-m", "fixtures.pixels"],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=True,
        cwd=TOOLS,
    )
    answer = json.loads(run.stdout)
    if not answer["pillow"].startswith("12.1."):
        raise SystemExit(f"--pillow12 has Pillow {answer['pillow']}, expected 12.1")
    for case, sha in zip(cases, answer["pixels"], strict=True):
        case["pixels"]["pillow-12"] = sha
    differing = sum(c["pixels"]["pillow"] != c["pixels"]["pillow-12"] for c in cases)
    print(f"{differing} of {len(cases)} cases differ between Pillow 12 and 13")
    if differing == 0 and len(cases) > 4:
        raise ValueError("no case tells Pillow 12 from 13")
    return answer["pillow"]


def add(out, names, pillow12):
    """Makes models anew, or new ones, beside what is there: on another kind of CPU the others' sums would differ
    in their last bits."""
    manifest = json.loads((out / "golden" / "manifest.json").read_text())
    kinds = {m.name: m for m in checkpoints.MODELS}
    for name in names:
        for part in ("golden", "models"):
            shutil.rmtree(out / part / name, ignore_errors=True)
        made, seen = make_model(kinds[name], out)
        add_pillow_12(made, out, pillow12)
        keep = lambda rows: [row for row in rows if row["model"] != name]
        manifest["cases"] = keep(manifest["cases"]) + made
        manifest["prompts"] = keep(manifest["prompts"]) + prompts(kinds[name], out / "models" / name)
        noise = max(manifest["measured"]["score_noise"], seen)
        manifest["measured"]["score_noise"] = float(f"{noise:.2g}")
    text.dump(manifest, out / "golden" / "manifest.json", indent=1)
    make_fastv(out, names)
    return 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=Path, default=TOOLS.parent / "tests" / "fixtures")
    arguments.add_argument("--pillow12", required=True, help="a python with Pillow 12.1 and numpy")
    arguments.add_argument("--add", nargs="+", metavar="MODEL", help="create only these models, keep the rest")
    options = arguments.parse_args()
    out = options.out
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")

    if options.add:
        return add(out, options.add, options.pillow12)
    check_many_sizes()
    for part in ("golden", "models"):
        shutil.rmtree(out / part, ignore_errors=True)
        (out / part).mkdir(parents=True)
    entries = write_images(out)
    cases, asked, noise = [], [], 0.0
    for model in checkpoints.MODELS:
        made, seen = make_model(model, out)
        cases += made
        noise = max(noise, seen)
        asked += prompts(model, out / "models" / model.name)
    make_fastv(out)
    conversations.write(out)
    older = add_pillow_12(cases, out, options.pillow12)
    manifest = {
        "images": entries,
        "prompts": asked,
        "cases": cases,
        "bounds": reference.BOUNDS,
        "measured": {"score_noise": float(f"{noise:.2g}")},
        "versions": {p: version(p) for p in PACKAGES} | {"Pillow (pillow-12)": older},
    }
    text.dump(manifest, out / "golden" / "manifest.json", indent=1)
    lines = ",\n".join(synthetic.compact(c) for c in synthetic.cases())
    (out / "golden" / "select.json").write_text(f"[\n{lines}\n]\n")
    (out / "golden" / "methods.json").write_text(methods.text())
    integers.write(out)
    attention.write(out)
    scores.write(out)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(f"{len(cases)} cases, {len(entries)} pictures, {size / 1e6:.1f} MB")
    return 0 if size < 12e6 else 1


if __name__ == "__main__":
    sys.exit(main())
