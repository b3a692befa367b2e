"""Files of questions, JSON lines as `hired eval` reads them. Python's own library is enough."""

import json
import os

FORM = '{"image": path, "prompt": text, "answer": text or [texts]}'


def count(text):
    """An option's whole number from 1 up."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def lacks(question):
    """What a line must have and has not, or None."""
    if not isinstance(question, dict):
        return "no question"
    for key in ("image", "prompt"):
        if not isinstance(question.get(key), str):
            return f"without `{key}`"
    texts = answers(question)
    if not texts or not all(isinstance(text, str) for text in texts):
        return "without `answer`"
    return None


def answers(question):
    """The texts that are right."""
    told = question.get("answer")
    return told if isinstance(told, list) else [told]


def read(file, limit=None):
    """The first `limit` questions; blank lines are none. ValueError names the file, and the line at fault."""
    try:
        # Not splitlines, which ends a line at marks that a JSON text may hold.
        lines = file.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: no text in UTF-8 ({error})") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(found) == limit:
            break
        try:
            question = json.loads(line)
            lack = lacks(question)
        except ValueError as error:
            lack = f"no JSON ({error})"
        if lack:
            raise ValueError(f"{file}: line {number} is {lack}: give {FORM}")
        found.append(question)
    if not found:
        raise ValueError(f"{file}: has no question")
    return found


def write(file, found, source):
    """Writes questions that were read from `source`, with their images as seen from `file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8") as out:
        for question in found:
            image = os.path.relpath(source.parent / question["image"], file.parent)
            print(json.dumps({**question, "image": image}), file=out)
