"""The page: each of our figures beside the paper's."""

import shutil

from .measure import CUMULATIVE, SHARES, mean_attention
from .published import ABLATED, FIGURE_2, ROWS, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_6, TABLE_7, TASKS

PAPERS = "LLaVA-Next-7B"


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|---:" * (len(head) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def number(score, whole=False):
    if score is None:
        return "–"
    return f"{score:.0f}" if whole else f"{score:.1f}"


def beside(ours, papers):
    """Ours, then the paper's in brackets where it has one for this model."""
    return f"{ours} ({papers})" if papers is not None else ours


def printed(rows, names, columns):
    """A table of the paper as it stands there."""
    head = ["in the paper", *(TASKS[column][0] for column in columns)]
    return table(head, [[names.get(key, key), *map(str, scores)] for key, scores in rows.items()])


def scored(tasks, scores, names, published, columns):
    """A table of ours: a row for each key of `names` that was measured."""
    rows = []
    for key, name in names.items():
        papers = dict(zip(columns, published.get(key, ())))
        cells = [
            beside(number(scores.get(key, {}).get(t.name), t.whole_numbers()), papers.get(t.name)) for t in tasks
        ]
        rows.append([name, *cells])
    return table([f"here{' (paper)' if published else ''}", *(t.title for t in tasks)], rows)


class Page:
    def __init__(self, file):
        self.file, self.lines, self.done, self.drawings = file, [], [], []

    def section(self, title, model, what):
        """Starts a table or figure, and notes it for the list at the top."""
        self.done.append((title.split(":")[0], title.split(": ", 1)[1], what))
        self.add("", f"## {title}", "")
        self.model = model

    def add(self, *lines):
        self.lines += lines

    def calls(self, model, *prefixes):
        found = [c for name, c in model.calls if name.split("/", 1)[1].startswith(prefixes)]
        shown = found if len(found) < 4 else [*found[:2], f"(and {len(found) - 2} more of the kind)"]
        self.add("", *(f"    {call}" for call in shown))

    def link(self, file):
        """Where the page's own copy of a drawing will be, from the page."""
        to = self.file.with_suffix("") / f"{self.model.name}-{file.name}"
        self.drawings.append((file, to))
        return to.relative_to(self.file.parent)

    # One method for each table and figure, in the paper's order.

    def figure_2_and_table_2(self, model, reports, drawn):
        kinds, tokens, points = mean_attention(reports)
        images = f"{model.name}, {len(reports)} question{'s' if len(reports) > 1 else ''}"
        self.section("Figure 2: attention by kind of token while answering", model, images)
        self.add(*table(["", *kinds], [
            ["tokens", *(number(tokens.get(kind)) for kind in kinds)],
            ["share of attention, %", *(number(100 * share) for share in kinds.values())],
        ]))
        self.add("", *table(["visual tokens by attention", *(f"top {p}%" for p in CUMULATIVE)], [
            ["share of the visual attention, % here", *(number(points[p] and 100 * points[p]) for p in CUMULATIVE)],
            ["about, in the paper", *(number(100 * FIGURE_2[p]) for p in CUMULATIVE)],
        ]))
        plot, heat, layers = drawn
        self.add("", f"![Attention by kind of token and layer]({self.link(plot)})")
        self.section("Table 2: where the most attended visual tokens come from", model, images)
        rows, parts = [], max(len(top["partitions"]) for r in reports for top in r["top"])
        for r, report in enumerate(reports):
            for top in report["top"]:
                if top["percent"] in SHARES:
                    of = [*map(str, top["partitions"]), *[""] * (parts - len(top["partitions"]))]
                    rows.append([f"question {r + 1}, top {top['percent']}% ({top['count']})", *of])
        self.add(*table(["", "full image", *(f"sub-image {n}" for n in range(1, parts))], rows))
        self.add("", *table(["in the paper", "full image", *(f"sub-image {n}" for n in range(1, 5))],
                            [[f"top {share}", *map(str, counts)] for share, counts in TABLE_2.items()]))
        self.section("Figure 3: class attention of first and last vision layers", model, model.name)
        self.add(f"![Class attention of layers {', '.join(map(str, layers))}]({self.link(heat)})")
        self.calls(model, "attention-")

    def table_3(self, model, tasks, scores, tokens, papers):
        self.section("Table 3: accuracy of methods and budgets", model, f"{model.name}, {told(tasks)}")
        published = TABLE_3.get(papers, {})
        self.add(*scored(tasks, scores, ROWS, published, TASKS), "")
        mean = lambda of: sum(of.values()) / len(of)
        self.add("Visual tokens, mean: " + ", ".join(f"{ROWS[r]} {mean(of):.0f}" for r, of in tokens.items()) + ".")
        if not published:
            self.add("", *printed(TABLE_3[PAPERS], ROWS, TASKS))
        self.calls(model, "methods-", "spatial-", "adaptive-")

    def figure_5(self, model, plot, counts):
        self.section("Figure 5: visual tokens of each image", model, model.name)
        self.add(*table(["method, budget", "least", "mean", "most"], [
            [f"{method}, {budget}", str(low), number(mean), str(high)]
            for (method, budget), (low, mean, high) in counts.items()
        ]))
        self.add("", "A budget bounds what PruMerge takes; at 100% it takes as many as it finds.")
        self.add("", f"![Visual tokens of each image]({self.link(plot)})")
        self.calls(model, "counts")

    def table_4(self, model, rows, papers):
        self.section("Table 4: cost by budget", model, model.name)
        head = ["budget", "visual tokens", "tokens/s with prefill", "first token, s", "memory, GB"]
        cells = []
        for row in rows:
            if row.get("failure"):
                cells.append([row["budget"], row["failure"], "", "", ""])
                continue
            ours = [f"{row['visual_tokens']:.0f}", f"{row['throughput_with_prefill']:.2f}"]
            ours += [f"{row['ttft']:.3g}", f"{row['peak_memory'] / 1e9:.3g}"]
            cells.append([row["budget"], *ours])
        self.add(*table(head, cells), "", "In the paper, LLaVA-Next-7B on a Tesla P40:", "")
        self.add(*table(head, [[budget, *map(str, of)] for budget, of in TABLE_4.items()]))
        self.calls(model, "bench")

    def table_5(self, model, tasks, by_layer, by_heads, papers):
        title = "Table 5: the vision layer that ranks patches, and its heads"
        self.section(title, model, f"{model.name}, {told(tasks)}")
        scores, names = {}, {}
        for key, papers_key in zip(model.layers(), ("layer 0", "layer 11", "layer 22")):
            scores[papers_key], names[papers_key] = by_layer[key], f"layer {key}"
        for key, papers_key in (("0", "one head"), ("sum", "sum of heads")):
            scores[papers_key], names[papers_key] = by_heads[key], papers_key
        self.add(*scored(tasks, scores, names, TABLE_5 if papers == PAPERS else {}, ABLATED))
        if papers != PAPERS:
            self.add("", *printed(TABLE_5, {}, ABLATED))
        self.add("", "The budget is 10%, which later versions of the paper name for its ablations.")
        self.calls(model, "final-layer-", "heads-")

    def figure_6(self, model, tasks, scores):
        self.section("Figure 6: the full image's share of the budget", model, f"{model.name}, {told(tasks)}")
        self.add(*table(["α", *(t.title for t in tasks)], [
            [f"{alpha:g}", *(number(of.get(t.name), t.whole_numbers()) for t in tasks)]
            for alpha, of in sorted(scores.items())
        ]))
        self.add("", "The paper prints a drawing without numbers; 0.5 is generally best there.")
        self.calls(model, "alpha-")

    def table_6(self, model, tasks, scores, tokens):
        self.section("Table 6: a model of one partition", model, f"{model.name}, {told(tasks)}")
        names = {row: name for row, name in ROWS.items() if row in TABLE_6}
        same = any(t.name in ABLATED for t in tasks)
        self.add(*scored(tasks, scores, names, TABLE_6 if same else {}, ABLATED))
        if not same:
            self.add("", *printed(TABLE_6, ROWS, ABLATED))
        self.calls(model, "methods-", "adaptive-")

    def table_7(self, model, tasks, scores, rule, papers):
        self.section("Table 7: adaptive and equal budgets at 10%", model, f"{model.name}, {told(tasks)}")
        names = {"equal": "equal", "exact": f"adaptive (`--rule {rule}`)"}
        found = {"equal": scores["equal"], "exact": scores[rule]}
        self.add(*scored(tasks, found, names, TABLE_7 if papers == PAPERS else {}, ABLATED))
        if papers != PAPERS:
            self.add("", *printed(TABLE_7, {"exact": "HiRED"}, ABLATED))
        self.add("", "Later versions of the paper print 59.2 for DocVQA with HiRED.")
        self.calls(model, "rule-")

    def write(self, facts, waits):
        lines = ["# The paper's tables and figures", ""]
        lines += ["Written by `tools/paper`: values measured here, next to those of the HiRED paper (arXiv 2408.10945,",
                  "first version).", ""]
        lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items()), ""]
        lines += ["Accuracies are in percent, and in points for OCRBench and MME. With N questions the 95% interval is at",
                  "most ±98/√N percentage points: ±10 with 100 questions, ±4.8 with 420.", ""]
        lines += ["| of the paper | what | measured here |", "|---|---|---|"]
        found = {}
        for name, title, what in self.done:
            found.setdefault((name, title), []).append(what)
        lines += [f"| {name} | {title} | {'; '.join(of)} |" for (name, title), of in found.items()]
        lines += [f"| {name} | {what} | waits for {why} |" for name, what, why in waits]
        text = "\n".join([*lines, *self.lines]) + "\n"
        for file, to in self.drawings:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text, encoding="utf-8")


def told(tasks):
    return ", ".join(f"{len(t.asked)} × {t.title}" for t in tasks)
