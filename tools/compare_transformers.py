#!/usr/bin/env python3
"""Measures others side by side with `hired bench`: one request, one machine, one run.

    python3 tools/compare_transformers.py --synthetic llava-v1.6-vicuna-7b \\
        --hired target/release/hired --out peers.jsonl

Measured are transformers with SDPA as anyone uses it (budget full), HiRED on top of it as its
authors published it (the other budgets), and, where they are at hand, hired and llama.cpp. Needed
are torch and transformers 5; no network. `--out` takes JSON lines: the first describes the machine,
each with `engine` is a row with the keys of `hired bench --format json`; `hired bench --peers FILE`
shows them beside its own.

Times are medians of `--reps` requests, of the whole batch, from pixels in memory (or from `--image
FILE`) to the first (`ttft`) and to the last token on the host; before the first of an engine there
is one that is not counted. On the CPU the engines take turns, a request each, and transformers is
measured in bf16 too. `peak_memory` is on a card what torch allocated at most, weights included,
context and libraries left out; on the CPU the most that the process held (ru_maxrss), mapped weights
and libraries included. On a card the programs run before torch touches it.

    python3 tools/compare_transformers.py --self-check      # the parts that need no model
"""

import argparse
import datetime
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import check, others, presets, rounds

PROMPT = "USER: <image>\nWhat is shown in this image? ASSISTANT:"
COLUMNS = {
    "engine": "engine",
    "budget": "budget",
    "batch": "batch",
    "visual tokens": "visual_tokens",
    "first token, s": "ttft",
    "preprocess": "preprocess",
    "vision": "vision",
    "select": "select",
    "prefill": "prefill",
    "decode, tokens/s": "decode_tokens_per_second",
    "with prefill, tokens/s": "throughput_with_prefill",
    "peak memory, GB": "peak_memory",
}


def arguments():
    parser = argparse.ArgumentParser(
        usage="%(prog)s (--model DIR | --synthetic PRESET) [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", metavar="DIR", help="Hugging Face folder of a LLaVA-NeXT")
    add("--synthetic", choices=presets.NAMES, help="random weights, generated on the device")
    add("--image", metavar="FILE", help="default: the fixed image of `hired bench`, 672×672")
    add("--budgets", default="full,40%,20%,10%", help="counts, shares, full [%(default)s]")
    add("--alpha", type=float, default=0.5, help="the full image's share of a budget [0.5]")
    add("--batch", default="1", help="requests answered together, also a list [1]")
    add("--prompt-tokens", type=positive, default=60, metavar="N", help="text tokens per prompt [60]")
    add("--new-tokens", type=positive, default=100, metavar="N", help="tokens per answer [100]")
    add("--reps", type=positive, default=5, metavar="N", help="measurements per row [5]")
    add("--device", choices=("cuda", "cpu"), help="default: cuda if available")
    add("--dtype", choices=("f16", "f32"), help="default: f16 on cuda, f32 on the CPU")
    add("--peer-dtypes", metavar="LIST", help="number formats of transformers; default: f32,bf16 on the CPU, otherwise --dtype")
    add("--hired", metavar="PROGRAM", help="measure it too; with --model also compare its answer")
    add("--llama-cpp", metavar="PROGRAM", help="llama-mtmd-cli; with --gguf and --mmproj")
    add("--gguf", metavar="FILE")
    add("--mmproj", metavar="FILE")
    add("--out", metavar="FILE.jsonl", help="also write JSON lines to it")
    add("--format", choices=("md", "json"), default="md", help="output format [md]")
    add("--self-check", action="store_true", help="check this script itself, measure nothing")
    args = parser.parse_args()
    if args.self_check:
        return args
    if (args.model is None) == (args.synthetic is None):
        parser.error("give --model DIR or --synthetic PRESET")
    if args.llama_cpp and not (args.gguf and args.mmproj):
        parser.error("--llama-cpp needs --gguf FILE and --mmproj FILE")
    if args.model and not Path(args.model).is_dir():
        parser.error(f"{args.model}: no such folder")
    for file in filter(None, (args.image, args.gguf, args.mmproj)):
        if not Path(file).is_file():
            parser.error(f"{file}: no such file")
    for budget in args.budgets.split(","):
        if not re.fullmatch(r"full|\d+|\d+(\.\d+)?%", budget):
            parser.error(f"budget {budget!r}: give a count (576), a share (20%) or full")
    if not all(re.fullmatch(r"[1-9]\d*", batch) for batch in args.batch.split(",")):
        parser.error(f"batch {args.batch!r}: give a number of at least 1, or several with commas")
    return args


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give a number of at least 1")
    return number


class Report:
    """Takes lines as they come: to the file at once, to be printed at the end."""

    def __init__(self, args):
        self.format = args.format
        self.file = open(args.out, "w", encoding="utf-8") if args.out else None
        self.lines = []

    def add(self, line):
        self.lines.append(line)
        if self.file:
            print(json.dumps(line, ensure_ascii=False), file=self.file, flush=True)
        if "engine" in line:
            told = line.get("failure") or f"first token after {line['ttft']:.3f} s"
            print(f"{line['engine']}, {line['budget']}: {told}", file=sys.stderr)

    def print(self):
        if self.format == "json":
            for line in self.lines:
                print(json.dumps(line, ensure_ascii=False))
            return
        machine = self.lines[0]
        print(", ".join(f"{key} {value}" for key, value in machine.items() if value is not None))
        print("\n| " + " | ".join(COLUMNS) + " |\n|---|---|" + "---:|" * (len(COLUMNS) - 2))
        for row in self.lines:
            if "engine" in row:
                print("| " + " | ".join(cell(row.get(key), key) for key in COLUMNS.values()) + " |")
        print("\nMedians. Times in seconds, of the whole batch.")
        for line in self.lines:
            if line.get("failure"):
                print(f"{line['engine']}, {line['budget']}: {line['failure']}")
            if "answer" in line:
                print(f"\nAnswer at the full budget: {line['answer']}")


def cell(value, key):
    if value is None:
        return ""
    if key == "peak_memory":
        return f"{value / 1e9:.3f}"
    return f"{value:#.3g}".rstrip(".") if isinstance(value, float) else str(value)


def machine(args):
    """The first line: what measured, and on what."""
    import torch
    import transformers

    line = {
        "schema": 1,
        "date": datetime.date.today().isoformat(),
        "model": args.model or f"{args.synthetic}, synthetic",
        "dtype": args.dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "attention": "sdpa",
    }
    if args.device == "cpu":
        return line | {"device": processor(), "threads": torch.get_num_threads()}
    card = torch.cuda.get_device_properties(0)
    line |= {"device": card.name, "compute_capability": f"{card.major}.{card.minor}"}
    line |= {"memory": card.total_memory, "cuda": torch.version.cuda}
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        return line | {"driver": told.strip()}
    except (OSError, subprocess.CalledProcessError):
        return line | {"driver": None}


def processor():
    """The processor's name, from where Linux has it."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        info = ""
    found = re.search(r"model name\s*: (.*)", info)
    return found[1] if found else platform.processor() or platform.machine()


def compare(theirs, ours):
    """Whether two answers agree, as a sentence."""
    if theirs == ours:
        return f"hired's {len(ours)} tokens equal transformers'"
    same = [a == b for a, b in zip(theirs, ours, strict=False)] + [False]
    return f"of hired's {len(ours)} tokens the first {same.index(False)} equal transformers'"


def measure(args):
    from compare import measure, picture, weights

    if args.model:
        weights.check(args.model)
    report = Report(args)
    report.add(rounds.apart(machine, args))
    with tempfile.TemporaryDirectory() as temporary:
        image = args.image
        if image is None:
            image = str(Path(temporary) / "picture.png")
            picture.pil().save(image)
        rounds.measure(args, image, report)
        if args.hired and args.model:
            theirs = rounds.Transformers(args, args.dtype)
            answer = theirs.ask("answer", PROMPT, args.new_tokens)
            theirs.close()
            resample = measure.resample(args.model)
            ours = others.hired_tokens(args, image, PROMPT, resample)
            report.add({"answer": compare(answer, ours), "tokens": ours})
    report.print()


def main():
    args = arguments()
    try:
        if args.self_check:
            return check.check()
        import torch

        args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
        args.dtype = args.dtype or ("f16" if args.device == "cuda" else "f32")
        args.peer_dtypes = args.peer_dtypes or ("f32,bf16" if args.device == "cpu" else args.dtype)
        if not set(args.peer_dtypes.split(",")) <= {"f16", "bf16", "f32"}:
            sys.exit("compare_transformers.py: --peer-dtypes: give some of f16, bf16, f32")
        measure(args)
    except ImportError as error:
        sys.exit(f"compare_transformers.py: {error}: install torch, transformers 5 and Pillow")
    except (OSError, ValueError) as error:
        sys.exit(f"compare_transformers.py: {error}")


if __name__ == "__main__":
    main()
