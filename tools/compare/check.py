"""What can be checked of the comparison without a model: `compare_transformers.py --self-check`."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

from compare import others, picture, rounds

GOLDEN = Path(__file__).resolve().parents[2] / "tests/fixtures/golden/select.json"
# Of the first `q_proj.weight` of the language model, as `hired synth --preset tiny` writes it.
TINY = "e80e6bc55d7b91d8e59a750c10923b994fe07e3f33f18134302d7680d88988d1"
# Lines as llama-mtmd-cli prints them for a picture of two slices.
LLAMA = """
mtmd batch encoding done in 40 ms
decoding image batch 1/1, n_tokens_batch = 576
image decoded (batch 1/1) in 3 ms
mtmd batch encoding done in 60 ms
decoding image batch 1/2, n_tokens_batch = 2048
decoding image batch 2/2, n_tokens_batch = 256
llama_perf_context_print:        load time =    1000.00 ms
llama_perf_context_print: prompt eval time =     900.00 ms /  2940 tokens (    0.31 ms per token,  3266.67 tokens per second)
llama_perf_context_print:        eval time =     990.00 ms /    99 runs   (   10.00 ms per token,   100.00 tokens per second)
llama_perf_context_print:       total time =    3000.00 ms /  3039 tokens
"""


def check():
    """Prints a line for each part, and fails where something is not as it must be."""
    expect("picture", picture.checksum(picture.fixed()), picture.SUM)
    expect("prompt", picture.prompt(5, 302, 400), [300, 301, 302, 303, 303, 304])
    row = others.llama_times(LLAMA, on_cpu=False)
    expect("llama.cpp's tokens", row["visual_tokens"], 2880)
    expect("llama.cpp's first token", round(row["ttft"], 6), 1.0)
    # There the 0.9 s of the prompt hold the 0.1 s of the encoding.
    row = others.llama_times(LLAMA, on_cpu=True)
    stages = [round(row[key], 6) for key in ("ttft", "vision", "prefill")]
    expect("llama.cpp's first token on the CPU", stages, [0.9, 0.1, 0.8])
    old = LLAMA.replace("mtmd batch encoding done", "image slice encoded")
    expect("llama.cpp before 2026", others.llama_times(old, on_cpu=True), row)
    expect("llama.cpp's steps", round(row["decode_tokens_per_second"], 6), 100.0)
    turns = [(name, number) for number, name in rounds.turns(["a", "b"], 2, interleaved=True)]
    expect("rounds", turns, [("a", 0), ("b", 0), ("a", 1), ("b", 1)])
    merged = rounds.medians([{"ttft": 1.0, "visual_tokens": 5}, {"ttft": 4.0, "visual_tokens": 5}])
    expect("medians", (merged["ttft"], merged["visual_tokens"], merged["rounds"]), (2.5, 5, [1.0, 4.0]))
    if missing := [name for name in ("torch", "transformers", "numpy") if find_spec(name) is None]:
        print(f"weights, selection: skipped: no {missing[0]}")
        return
    check_weights()
    check_selection()


def expect(what, got, wanted):
    if got != wanted:
        raise ValueError(f"{what}: {got}, must be {wanted}")
    print(f"{what}: ok")


def check_weights():
    import torch

    from compare import weights

    name = weights.stored_name("model.language_model.layers.0.self_attn.q_proj.weight")
    made = torch.empty(128, 128, dtype=torch.float16)
    weights.fill(made, name, seed=0)
    expect("weights", hashlib.sha256(made.numpy().tobytes()).hexdigest(), TINY)


def check_selection():
    """Allocations and kept patches of the published rule equal the golden ones."""
    import torch

    from compare import published
    from fixtures.selection import geometry
    from fixtures.synthetic import scores

    checked = 0
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        size = case["width"], case["height"]
        sides = case["image_size"], case["patch_size"], case["pinpoints"]
        g = geometry(*size, *sides)
        published_budget = case["rule"] == "repo" and case["budget"] != "full"
        if not published_budget or g.grid is None:
            continue
        init, final = scores(case["seed"], g.partitions, g.tokens)
        mask = published.choose(
            torch.from_numpy(init)[None],
            torch.from_numpy(final),
            case["budget_count"],
            float(case["alpha"]),
        )
        if mask.sum(1).tolist() != case["allocation"]:
            raise ValueError(f"selection: {case}: {mask.sum(1).tolist()}")
        mask &= torch.from_numpy(g.valid())
        expect_kept(case, [row.nonzero().flatten().tolist() for row in mask])
        checked += 1
    if checked < 5:
        raise ValueError(f"selection: only {checked} cases in {GOLDEN}")
    print(f"selection, {checked} cases: ok")


def expect_kept(case, kept):
    if "kept_indices" in case:
        same = kept == case["kept_indices"]
    else:
        text = json.dumps(kept, separators=(",", ":")).encode()
        same = hashlib.sha256(text).hexdigest() == case["kept_indices_sha256"]
    if not same:
        raise ValueError(f"selection: other patches are kept for {case}")
