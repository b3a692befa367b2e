"""Engines that are programs: hired itself, and llama.cpp."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path


# Starts a program from a process that is small: what a parent holds counts as its child's, too.
MEASURED = """
import os, sys
memory, *command = sys.argv[1:]
try:
    child = os.posix_spawnp(command[0], command, os.environ)
except OSError as error:
    sys.exit(error.strerror)
_, status, used = os.wait4(child, 0)
os.write(int(memory), str(used.ru_maxrss * 1024).encode())
sys.exit(abs(os.waitstatus_to_exitcode(status)))
"""


def run(command):
    """What a program prints to stdout and to stderr, and the most memory it held, in bytes."""
    command = [str(part) for part in command]
    with tempfile.TemporaryFile() as memory:
        number = memory.fileno()
        starter = [sys.executable, "-I", "-S", "-c", MEASURED, str(number), *command]
        done = subprocess.run(starter, capture_output=True, text=True, pass_fds=[number])
        if done.returncode != 0:
            told = done.stderr.strip().splitlines() or ["it says nothing"]
            raise ValueError(f"{command[0]} ended with {done.returncode}: {told[-1]}")
        memory.seek(0)
        return done.stdout, done.stderr, int(memory.read())


def hired(args, budget, batch, reps):
    """A row of `hired bench` for the same request."""
    command = [args.hired, "bench", "--format", "json"]
    command += ["--model", args.model] if args.model else ["--synthetic", args.synthetic]
    command += ["--image", args.image] if args.image else []
    command += ["--budgets", budget, "--batch", batch, "--alpha", args.alpha]
    command += ["--prompt-tokens", args.prompt_tokens, "--new-tokens", args.new_tokens]
    command += ["--reps", reps, "--device", args.device, "--dtype", args.dtype]
    out, _, memory = run(command)
    machine, *lines = [json.loads(line) for line in out.splitlines()]
    [row] = [line for line in lines if "ttft" in line]
    row["engine"] = f"{machine['build']}, {args.dtype}"
    if args.device == "cpu":
        row["peak_memory"] = memory
    return row


def hired_tokens(args, image, prompt, resample):
    """The answer of `hired run` at the full budget."""
    command = [args.hired, "run", "--json", "--model", args.model, "--image", image]
    command += ["--raw-prompt", "--prompt", prompt, "--budget", "full"]
    command += ["--max-new-tokens", args.new_tokens, "--device", args.device, "--dtype", args.dtype]
    command += ["--resample", resample]
    return json.loads(run(command)[0])["token_ids"]


def llama_cpp(args, image):
    """A request to llama-mtmd-cli at its full budget: by its own clock, a process of its own."""
    command = [args.llama_cpp, "-m", args.gguf, "--mmproj", args.mmproj, "--image", image]
    command += ["-p", "the " * args.prompt_tokens, "-n", args.new_tokens, "--ignore-eos"]
    command += ["--temp", 0, "-ngl", 0 if args.device == "cpu" else 99]
    # Models from before chat templates need one; its words around the picture cost nothing.
    command += ["--chat-template", "vicuna", "-c", 4096]
    # Times are only printed at this level.
    command += ["--no-warmup", "--perf", "-lv", 4]
    out, errors, memory = run(command)
    row = llama_times(out + errors, args.device == "cpu")
    if args.device == "cpu":
        row["peak_memory"] = memory
    return row


def llama_name(args):
    return f"llama.cpp, {Path(args.gguf).name}"


def llama_times(log, on_cpu):
    """A row's numbers from llama-mtmd-cli's lines; it does not time reading and resizing.

    On the CPU the time of its prompt holds that of the encoding, which runs between its marks.
    """

    def found(pattern):
        matches = re.findall(pattern, log)
        if not matches:
            raise ValueError(f"llama.cpp prints nothing like {pattern!r}: is it llama-mtmd-cli?")
        return [float(match) for match in matches]

    # The second is what versions before the end of 2025 print.
    vision = sum(found(r"(?:batch encoding done|image slice encoded) in (\d+) ms")) / 1e3
    prompt = found(r"prompt eval time = +([\d.]+) ms")[-1] / 1e3
    seconds = found(r"(?<!prompt) eval time = +([\d.]+) ms")[-1] / 1e3
    steps = found(r"(?<!prompt) eval time = +[\d.]+ ms / +(\d+) runs")[-1]
    first = prompt if on_cpu else vision + prompt
    return {
        "visual_tokens": int(sum(found(r"decoding image batch .*n_tokens_batch = (\d+)"))),
        "ttft": first,
        "vision": vision,
        "prefill": first - vision,
        "decode_tokens_per_second": steps / seconds,
        "throughput_with_prefill": (steps + 1) / (first + seconds),
    }
