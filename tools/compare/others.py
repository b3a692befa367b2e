"""Engines that are programs: hired itself, and llama.cpp."""

import json
import re
import statistics
import subprocess
from pathlib import Path


def run(command):
    """What a program prints to stdout and to stderr."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    except OSError as error:
        raise ValueError(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or ["it says nothing"]
        raise ValueError(f"{command[0]} ended with {done.returncode}: {told[-1]}")
    return done.stdout, done.stderr


def hired(args):
    """Rows of `hired bench` for the same request."""
    command = [args.hired, "bench", "--format", "json"]
    command += ["--model", args.model] if args.model else ["--synthetic", args.synthetic]
    command += ["--image", args.image] if args.image else []
    command += ["--budgets", args.budgets, "--batch", args.batch, "--alpha", args.alpha]
    command += ["--prompt-tokens", args.prompt_tokens, "--new-tokens", args.new_tokens]
    command += ["--reps", args.reps, "--device", args.device, "--dtype", args.dtype]
    lines = [json.loads(line) for line in run(command)[0].splitlines()]
    name = f"{lines[0]['build']}, {args.dtype}"
    return [{"engine": name, **row} for row in lines[1:] if "ttft" in row]


def hired_tokens(args, image, prompt, resample):
    """The answer of `hired run` at the full budget."""
    command = [args.hired, "run", "--json", "--model", args.model, "--image", image]
    command += ["--raw-prompt", "--prompt", prompt, "--budget", "full"]
    command += ["--max-new-tokens", args.new_tokens, "--device", args.device, "--dtype", args.dtype]
    command += ["--resample", resample]
    return json.loads(run(command)[0])["token_ids"]


def llama_cpp(args, image):
    """A row of llama-mtmd-cli at its full budget: by its own clock, a process a measurement."""
    command = [args.llama_cpp, "-m", args.gguf, "--mmproj", args.mmproj, "--image", image]
    command += ["-p", "the " * args.prompt_tokens, "-n", args.new_tokens, "--ignore-eos"]
    command += ["--temp", 0, "-ngl", 0 if args.device == "cpu" else 99]
    # Models from before chat templates need one; its words around the picture cost nothing.
    command += ["--chat-template", "vicuna", "-c", 4096]
    samples = [llama_times("".join(run(command))) for _ in range(args.reps)]
    row = {key: statistics.median(s[key] for s in samples) for key in samples[0]}
    name = f"llama.cpp, {Path(args.gguf).name}"
    return {
        "engine": name,
        "method": "full",
        "budget": "full",
        "batch": 1,
        "reps": args.reps,
        **row,
    }


def llama_times(log):
    """A row's numbers from llama-mtmd-cli's lines; it does not time reading and resizing."""

    def found(pattern):
        matches = re.findall(pattern, log)
        if not matches:
            raise ValueError(f"llama.cpp prints nothing like {pattern!r}: is it llama-mtmd-cli?")
        return [float(match) for match in matches]

    vision = sum(found(r"image slice encoded in (\d+) ms")) / 1e3
    prefill = found(r"prompt eval time = +([\d.]+) ms")[-1] / 1e3
    seconds = found(r"(?<!prompt) eval time = +([\d.]+) ms")[-1] / 1e3
    steps = found(r"(?<!prompt) eval time = +[\d.]+ ms / +(\d+) runs")[-1]
    return {
        "visual_tokens": int(sum(found(r"decoding image batch .*n_tokens_batch = (\d+)"))),
        "ttft": vision + prefill,
        "vision": vision,
        "prefill": prefill,
        "decode_tokens_per_second": steps / seconds,
        "throughput_with_prefill": (steps + 1) / (vision + prefill + seconds),
    }
