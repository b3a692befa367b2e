"""Number formats beside each other: the same questions in each, and whose answers they turn. Python's own library is enough.

A format is written as its --dtype, then what else it has: f32, f16, q8, q8:all, q4:32, q4:128:all.
"""

import json
import math

COLUMNS = ("lost", "gained", "p")
REFERENCE = "f32"


def options(name):
    """What `hired` is told of a format."""
    dtype, *rest = name.split(":")
    words = ["--dtype", dtype]
    for word in rest:
        if word.isdigit():
            words += ["--group", word]
        elif word in ("llm", "all"):
            words += ["--quantize", word]
        else:
            raise ValueError(f"--formats {name}: {word} is neither a group of q4 nor llm or all")
    return words


def listed(text):
    """The formats of a list with commas, the one that all others are held to first."""
    names = text.split(",")
    for name in names:
        options(name)
    return list(dict.fromkeys([REFERENCE, *names]))


def mcnemar(lost, gained):
    """The exact two-sided probability of so unequal numbers, if both were as likely."""
    turned = lost + gained
    tail = sum(math.comb(turned, n) for n in range(min(lost, gained) + 1))
    return min(1.0, 2 * tail / 2**turned)


def right(file):
    """Whether each question was answered right, by budget and line, of what `hired eval --predictions` wrote."""
    found = {}
    for text in file.read_text(encoding="utf-8").splitlines():
        record = json.loads(text)
        # The first line has the settings.
        if "score" in record:
            found[record["budget"], record["line"]] = record["score"] >= 0.5
    return found


def compare(rows, files):
    """Adds to each row how many questions f32 alone (lost) and its format alone (gained) answered right."""
    known = {name: right(file) for name, file in files.items()}
    for row in rows:
        ours = {key: is_right for key, is_right in known[row["dtype"]].items() if key[0] == row["budget"]}
        both = [(known[REFERENCE][key], is_right) for key, is_right in ours.items()]
        if len(both) < row["questions"]:
            raise ValueError(f"{row['dtype']}, {row['budget']}: {len(both)} of {row['questions']} predictions")
        row["lost"], row["gained"] = both.count((True, False)), both.count((False, True))
        row["p"] = round(mcnemar(row["lost"], row["gained"]), 4)
