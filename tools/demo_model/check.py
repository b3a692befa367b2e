#!/usr/bin/env python3
"""Answers a file of questions with transformers and says how many are right, by kind and by grid.

    target/venv/bin/python tools/demo_model/check.py --model demo/model --questions demo/questions.jsonl \\
        [--limit N] [--hired target/release/hired]

With --hired the program answers too, at the full budget, and every token of every answer must be transformers':
else the status is 1. Both read the same folder; weights as stored, arithmetic in f32, on the CPU.
"""

import argparse
import json
import subprocess
import sys
import warnings
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor

import questions

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fixtures import models, reference  # noqa: E402


NEW_TOKENS = 16  # at most; the demo model's longest answer has four


@torch.no_grad()
def answer(model, processor, image, prompt):
    """Ids of transformers' own answer, its end included."""
    rendered = reference.render(processor, prompt, True)
    inputs = processor(images=image, text=rendered, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    return ids[0, inputs["input_ids"].shape[1] :].tolist()


def ask_hired(program, model, image, prompt):
    """Ids of hired's answer with all visual tokens."""
    command = [program, "run", "--model", model, "--image", image, "--prompt", prompt, "--json"]
    command += ["--budget", "full", "--device", "cpu", "--dtype", "f32"]
    command += ["--max-new-tokens", NEW_TOKENS]
    run = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"check.py: {program} ended with status {run.returncode}")
    return json.loads(run.stdout)["token_ids"]


def right(said, question):
    plain = lambda text: text.strip().lower()
    return plain(said) in map(plain, questions.answers(question))


def groups(question):
    """What a question is counted under; only what its line tells."""
    if "kind" in question:
        yield str(question["kind"])
    if isinstance(question.get("grid"), list):
        yield "grid " + "x".join(map(str, question["grid"]))
    yield "all"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--questions", type=Path, required=True)
    arguments.add_argument("--limit", type=questions.count, help="use only the first N questions")
    arguments.add_argument("--hired", type=Path, help="the program to compare with")
    options = arguments.parse_args()
    try:
        return compare(options)
    except (OSError, ValueError) as failure:
        sys.exit(f"check.py: {failure}")


def compare(options):
    """The status: 1 where an answer differs."""
    asked = questions.read(options.questions, options.limit)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    model = models.read(options.model)
    processor = AutoProcessor.from_pretrained(options.model, backend="pil")
    say = lambda ids: processor.decode(ids, skip_special_tokens=True)
    hits, total, differing = defaultdict(int), defaultdict(int), 0
    for line in asked:
        path = options.questions.parent / line["image"]
        ids = answer(model, processor, Image.open(path), line["prompt"])
        if options.hired:
            theirs = ask_hired(options.hired, options.model, path, line["prompt"])
            if theirs != ids:
                differing += 1
                print(f"{line['image']} {line['prompt']}", end=" ")
                print(f"transformers {say(ids)!r} {ids}, hired {say(theirs)!r} {theirs}")
        for key in groups(line):
            total[key] += 1
            hits[key] += right(say(ids), line)
    for key in sorted(total):
        print(f"{key:10} {100 * hits[key] / total[key]:5.1f} %  of {total[key]}")
    if options.hired:
        print(f"hired's tokens differ from transformers' in {differing} of {len(asked)} answers")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
