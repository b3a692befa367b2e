"""Tables of a study in Markdown. Python's own library is enough."""

# What tells rows apart.
COLUMNS = ("method", "budget", "rule", "alpha", "newlines", "init_layer", "final_layer")


def value(v):
    """A row's setting as text."""
    if v is None:
        return "–"
    return f"{v:g}" if isinstance(v, float) else str(v)


def percent(share):
    return f"{100 * share:.1f}"


def cell(row):
    low, high = map(percent, row["interval"])
    return f"{percent(row['accuracy'])} ({low}–{high})"


def unique(values):
    return list(dict.fromkeys(values))


def table(study):
    """Markdown lines: accuracy in percent with its interval."""
    names = lambda row, keys: tuple(value(row[k]) for k in keys)
    across = unique(names(row, study.across) for row in study.rows)
    found = {names(row, study.down + study.across): row for row in study.rows}
    head = [key.replace("_", " ") for key in study.down] + ["questions", "visual tokens"]
    head += [", ".join(column) or "accuracy" for column in across] + list(study.more)
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(study.down) + "|---:" * (len(head) - len(study.down)) + "|"
    for line in unique(names(row, study.down) for row in study.rows):
        rows = [found[line + column] for column in across]
        questions = unique(str(row["questions"]) for row in rows)
        tokens = [f"{row['visual_tokens']:.1f}" for row in rows]
        usual = max(unique(tokens), key=tokens.count)
        other = [f"{', '.join(c)} {t}" for c, t in zip(across, tokens) if t != usual]
        told = f"{usual} ({', '.join(other)})" if other else usual
        cells = [*line, " / ".join(questions), told, *map(cell, rows)]
        cells += [value(rows[0][key]) for key in study.more]
        yield "| " + " | ".join(cells) + " |"


def fixed(study):
    """What all rows of a study share, of what is not told by its table."""
    told = study.down + study.across
    rest = [k for k in COLUMNS if k not in told]
    same = {k: unique(value(row[k]) for row in study.rows if row[k] is not None) for k in rest}
    return ", ".join(f"{k.replace('_', ' ')} {v[0]}" for k, v in same.items() if len(v) == 1)
