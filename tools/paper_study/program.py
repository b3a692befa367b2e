"""Calls of `hired`, each result kept in a file, so that a study that was stopped goes on where it was."""

import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Failed(Exception):
    """One line for the user."""


def shown(word):
    """A word of a command as the page has it: a path from the repository's root, or by its name alone."""
    if not isinstance(word, Path):
        return str(word)
    path = word.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def written(words):
    return "hired " + shlex.join(map(shown, words))


def digest(file):
    whole = hashlib.sha256()
    with open(file, "rb") as stream:
        while part := stream.read(1 << 20):
            whole.update(part)
    return whole.hexdigest()


def fingerprint(model):
    """Tells checkpoints apart without reading all their weights: configuration, names and sizes of the files."""
    files = sorted(model.glob("*.safetensors"))
    if not (model / "config.json").is_file() or not files:
        raise Failed(f"{model}: no config.json with *.safetensors there")
    told = [digest(model / "config.json"), *(f"{file.name} {file.stat().st_size}" for file in files)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


class Program:
    """`hired` with the options that every call of a study has, and the folder where results are kept."""

    def __init__(self, path, work, common):
        self.path, self.work, self.common = path, work, common
        # The first line names the version, the second the commit it was built of.
        self.version = ", ".join(" ".join(line.split()) for line in self._output(["--version"]).splitlines()[:2])

    def _output(self, words):
        # Seen from the root: drawings name their model, and are published.
        inside = lambda word: isinstance(word, Path) and word.is_relative_to(ROOT)
        seen = [word.relative_to(ROOT) if inside(word) else word for word in words]
        run = subprocess.run([self.path, *map(str, seen)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        if run.returncode:
            raise Failed(f"`{written(words)}` ended with status {run.returncode}")
        return run.stdout

    def devices(self):
        return json.loads(self._output(["devices", "--json"]))["devices"]

    def kept(self, name, words, data, makes=()):
        """What `hired WORDS` prints, as text, with the command; asked only if no result of the same is kept.

        `data` says what the result depends on beside the command; `makes` are files that the call writes.
        """
        words = [*words, *self.common]
        file = self.work / f"{name}.json"
        told = {"command": written(words), "program": self.version, "data": data}
        if file.exists() and all(made.exists() for made in makes):
            try:
                old = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                old = {}  # cut short: made again
            if {key: old.get(key) for key in told} == told:
                return old["output"], told["command"]
        print(f"\n== {told['command']}", file=sys.stderr, flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        text = self._output(words)
        part = file.with_suffix(".part")
        part.write_text(json.dumps({**told, "output": text}) + "\n", encoding="utf-8")
        part.replace(file)
        return text, told["command"]
