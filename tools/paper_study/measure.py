"""What is asked of `hired` for each table and figure of the paper."""

import json
import sys

from .program import ROOT, Failed, digest, fingerprint
from .published import ABLATED, TASKS

sys.path.insert(0, str(ROOT / "tools" / "demo_model"))
import questions  # noqa: E402

ALPHAS = "0,0.1,0.25,0.5,0.75,1"
SHARES = (10, 20)  # percent: the tokens whose origin Table 2 counts
CUMULATIVE = (20, 40)  # percent: the points of Figure 2b that its caption names


def words(text):
    """As lmms-eval compares for OCRBench: one line, without case and outer blanks."""
    return text.lower().strip().replace("\n", " ")


def first_word(text):
    return "".join(c if c.isalpha() else " " for c in text.lower()).split()[:1]


def contains(asked, predictions):
    """OCRBench: how many answers of 1,000 contain what is right."""
    right = sum(
        any(words(text) in words(p["prediction"]) for text in questions.answers(q))
        for q, p in zip(asked, predictions)
    )
    return 1000 * right / len(asked)


def pairs(asked, predictions):
    """MME: for each category 100 × (share of right answers + share of images with both questions right), summed."""
    categories = {}
    for q, p in zip(asked, predictions):
        right = first_word(p["prediction"]) == first_word(questions.answers(q)[0])
        images = categories.setdefault(q.get("category", ""), {})
        images.setdefault(q["image"], []).append(right)
    total = 0
    for images in categories.values():
        marks = [right for of_image in images.values() for right in of_image]
        total += 100 * (sum(marks) / len(marks) + sum(map(all, images.values())) / len(images))
    return total


class Task:
    """A file of questions and how its answers are scored."""

    def __init__(self, file, limit):
        self.name = file.stem
        self.title, self.metric, self.longest = TASKS.get(self.name, (self.name, "exact", 32))
        self.asked = questions.read(file, limit)
        self.file, self.limit, self.data = file, limit, digest(file)

    def whole_numbers(self):
        return self.metric in ("contains", "pairs")

    def score(self, row, found):
        """Of a row of `hired eval`: percent, or points where the benchmark has points."""
        if not self.whole_numbers():
            return 100 * row["accuracy"]
        keys = ("method", "budget", "rule", "alpha", "final_layer", "heads")
        same = lambda p: all(p[key] == row[key] for key in keys)
        of_row = sorted((p for p in found if same(p)), key=lambda p: p["line"])
        if len(of_row) != len(self.asked):
            raise Failed(f"{self.name}: {len(of_row)} predictions for {len(self.asked)} questions")
        return {"contains": contains, "pairs": pairs}[self.metric](self.asked, of_row)


class Model:
    """A checkpoint with its results."""

    def __init__(self, folder, program, options):
        self.folder, self.program, self.options = folder, program, options
        self.name, self.weights = folder.name if folder.name != "model" else folder.parent.name, fingerprint(folder)
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.calls = []

    def layers(self):
        """First, middle and last-but-one of the vision tower's layers: 0, 11 and 22 of 24."""
        count = self.config.get("vision_config", {}).get("num_hidden_layers", 24)
        return 0, max(count // 2 - 1, 1), count - 2

    def kept(self, name, words, data, makes=()):
        name = f"{self.name}/{name}"
        text, command = self.program.kept(name, words, f"{self.weights} {data}", makes)
        self.calls.append((name, command))
        return text

    def place(self, name):
        """A file of results of this model."""
        folder = self.program.work / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def eval(self, name, task, lists):
        """Rows of `hired eval`, each with its `score`."""
        predictions = self.place(f"{name}-{task.name}.jsonl")
        metric = "exact" if task.whole_numbers() else task.metric
        words = ["eval", "--model", self.folder, "--questions", task.file, "--metric", metric]
        words += ["--max-new-tokens", task.longest, *lists, "--predictions", predictions, "--json"]
        words += ["--limit", task.limit] if task.limit else []
        rows = json.loads(self.kept(f"{name}-{task.name}", words, task.data, [predictions]))
        found = [json.loads(line) for line in predictions.read_text(encoding="utf-8").split("\n") if line]
        found = [p for p in found if "prediction" in p]
        for row in rows:
            row["score"] = task.score(row, found)
        return rows

    def table_3(self, tasks):
        """{row: {task: score}}, and the mean number of visual tokens of each row."""
        scores, tokens = {}, {}
        rule = ["--rule", self.options.rule]
        for task in tasks:
            rows = self.eval("methods", task, ["--methods", "full,hired", "--budgets", "20%,40%", *rule])
            rows += self.eval("spatial", task, ["--methods", "spatial", "--budgets", "40%"])
            # Adaptive: as many as the method finds, which a budget would cut.
            rows += self.eval("adaptive", task, ["--methods", "prumerge,prumerge+", "--budgets", "100%"])
            for row in rows:
                name = f"hired {row['budget']}" if row["method"] == "hired" else row["method"]
                scores.setdefault(name, {})[task.name] = row["score"]
                tokens.setdefault(name, {})[task.name] = row["visual_tokens"]
        return scores, tokens

    def table_4(self):
        words = ["bench", "--model", self.folder, "--budgets", "full,40%,30%,20%,10%", "--batch", 1]
        words += ["--reps", self.options.reps, "--format", "json", "--out", self.place("bench.jsonl")]
        lines = map(json.loads, self.kept("bench", words, "").splitlines())
        return [row for row in lines if "budget" in row]

    def sweep(self, name, tasks, words, key):
        """{value of `key`: {task: score}}"""
        found = {}
        for task in tasks:
            for row in self.eval(name, task, words):
                found.setdefault(row[key], {})[task.name] = row["score"]
        return found

    def table_5(self, tasks):
        budget = ["--methods", "hired", "--budgets", "10%", "--rule", self.options.rule]
        layers = ",".join(map(str, self.layers()))
        by_layer = self.sweep("final-layer", tasks, [*budget, "--final-layer", layers], "final_layer")
        by_heads = self.sweep("heads", tasks, [*budget, "--heads", "0,sum"], "heads")
        return by_layer, by_heads

    def table_7(self, tasks):
        rules = f"equal,{self.options.rule}"
        return self.sweep("rule", tasks, ["--methods", "hired", "--budgets", "10%", "--rule", rules], "rule")

    def figure_5(self, task):
        """The plot of visual tokens by image, and {row: (least, mean, most)}, over up to 100 questions."""
        plot, predictions = self.place("token_counts.svg"), self.place("counts.jsonl")
        words = ["eval", "--model", self.folder, "--questions", task.file, "--limit", min(100, len(task.asked))]
        words += ["--methods", "hired,prumerge,prumerge+", "--budgets", "100%,40%,20%", "--max-new-tokens", 1]
        words += ["--plot-tokens", plot, "--predictions", predictions, "--json"]
        self.kept("counts", words, task.data, [plot, predictions])
        counts = {}
        for line in filter(None, predictions.read_text(encoding="utf-8").split("\n")):
            row = json.loads(line)
            if "visual_tokens" in row:
                counts.setdefault((row["method"], row["budget"]), []).append(row["visual_tokens"])
        return plot, {row: (min(of), sum(of) / len(of), max(of)) for row, of in counts.items()}

    def figure_6(self, tasks):
        budget = ["--methods", "hired", "--budgets", "20%", "--rule", self.options.rule]
        return self.sweep("alpha", tasks, [*budget, "--alpha", ALPHAS], "alpha")

    def attention(self, tasks):
        """Figures 2 and 3, Table 2: over the tasks' first questions about images of their own, in turn."""
        by_image = {}
        for number in range(max(len(t.asked) for t in tasks)):
            for task in tasks:
                if number < len(task.asked):
                    question = task.asked[number]
                    by_image.setdefault((task.file.parent / question["image"]).resolve(), (task, question))
        reports, drawn = [], None
        for number, (task, question) in enumerate([*by_image.values()][: self.options.samples]):
            image = task.file.parent / question["image"]
            words = ["attention", "--model", self.folder, "--image", image, "--prompt", question["prompt"]]
            words += ["--max-new-tokens", task.longest, "--json"]
            makes = []
            if not number:
                makes = [self.place("attention.svg"), self.place("class_attention.png")]
                last = self.layers()[2] + 1
                seen = [0, 1, 2, *(n for n in range(last - 2, last + 1) if n > 2)]
                words += ["--plot", makes[0], "--heatmap", makes[1], "--vision-layers", ",".join(map(str, seen))]
                drawn = (*makes, seen)
            reports.append(json.loads(self.kept(f"attention-{number}", words, digest(image), makes)))
        return reports, drawn


def chosen(tasks):
    """The tasks of Tables 5 to 7: the paper's four where they are there, else all."""
    named = [task for name in ABLATED for task in tasks if task.name == name]
    return named or tasks


def mean_attention(reports):
    """Figure 2a: shares by kind of token; 2b: share of the visual tokens' attention that the top ones receive."""
    kinds = {kind: sum(r["mean"][kind] for r in reports) / len(reports) for kind in reports[0]["mean"]}
    tokens = {kind: sum(r["tokens"][kind] for r in reports) / len(reports) for kind in reports[0]["tokens"]}
    points = {}
    for percent in CUMULATIVE:
        of = [p["share"] for r in reports for p in r["cumulative"] if p["percent"] == percent]
        points[percent] = sum(of) / len(of) if of else None
    return kinds, tokens, points
