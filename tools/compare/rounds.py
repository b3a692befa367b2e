"""Who is measured, and in what order.

On the CPU the engines take turns, a request each: other work on the machine then meets all of them
alike, and the ratio within a round is steadier than any time. On a card an engine is measured to its
end before the next loads its weights, since both need not fit.
"""

import copy
import multiprocessing
import statistics

from compare import others


def turns(engines, reps, interleaved):
    """(round, engine) one after the other."""
    if interleaved:
        return [(number, engine) for number in range(reps) for engine in engines]
    return [(number, engine) for engine in engines for number in range(reps)]


def medians(samples):
    """One row of many: medians, and the first token of every round in `rounds`."""
    failed = [sample for sample in samples if sample.get("failure")]
    if failed:
        return failed[0]
    row = dict(samples[0])
    for key, value in samples[0].items():
        if isinstance(value, float):
            row[key] = statistics.median(sample[key] for sample in samples)
    if samples[0].get("peak_memory") is not None:
        row["peak_memory"] = max(sample["peak_memory"] for sample in samples)
    return row | {"reps": len(samples), "rounds": [sample["ttft"] for sample in samples]}


class Program:
    """An engine that is a process for each request."""

    def __init__(self, sample, budgets=None):
        self.sample = sample
        self.budgets = budgets

    def answers(self, budget, batch):
        return self.budgets is None or budget in self.budgets and batch == 1

    def close(self):
        pass


class Transformers:
    """Transformers in a process of its own, so that the memory it took is its alone."""

    def __init__(self, args, dtype):
        args = copy.copy(args)
        args.dtype = dtype
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(args, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def answers(self, _budget, _batch):
        return True

    def ask(self, *question):
        self.pipe.send(question)
        try:
            good, answer = self.pipe.recv()
        except EOFError:
            raise ValueError("transformers' process ended: is there enough memory?") from None
        if not good:
            raise ValueError(answer)
        return answer

    def sample(self, budget, batch):
        return self.ask("sample", budget, batch)

    def close(self):
        self.pipe.close()
        self.process.join()


def serve(args, pipe):
    """Answers what is asked through the pipe until it is closed."""
    from compare import measure

    subject = None
    while True:
        try:
            what, *asked = pipe.recv()
        except EOFError:
            return
        try:
            subject = subject or measure.Subject(args)
            if what == "answer":
                answer = subject.answer(*asked)
            else:
                name = {"engine": measure.name(asked[0], args.dtype)}
                answer = name | subject.sample(*asked, args)
            pipe.send((True, answer))
        except Exception as error:
            pipe.send((False, f"transformers: {error}"))


def apart(function, *arguments):
    """What a function gives in a process of its own, which leaves nothing on a card."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def engines(args, image):
    """Makers of what is measured: each makes its engine when its turn comes first."""
    makers = []
    if args.hired:
        makers.append(lambda: Program(lambda *asked: others.hired(args, *asked, reps=1)))
    if args.llama_cpp:
        name = {"engine": others.llama_name(args)}
        ask = lambda *_: name | others.llama_cpp(args, image)
        makers.append(lambda: Program(ask, ["full"]))
    for dtype in args.peer_dtypes.split(","):
        makers.append(lambda dtype=dtype: Transformers(args, dtype))
    return makers


def measure(args, image, report):
    """Adds a row for each engine, budget and batch."""
    requests = [(b, int(n)) for b in args.budgets.split(",") for n in args.batch.split(",")]
    interleaved = args.device == "cpu"
    makers = engines(args, image)
    for group in [makers] if interleaved else [[maker] for maker in makers]:
        group = [make() for make in group]
        for budget, batch in requests:
            asked = [engine for engine in group if engine.answers(budget, batch)]
            samples = {id(engine): [] for engine in asked}
            for _, engine in turns(asked, args.reps, interleaved):
                samples[id(engine)].append(engine.sample(budget, batch))
            for of in samples.values():
                method = "full" if budget == "full" else "hired"
                row = {"method": method, "budget": budget, "batch": batch}
                row |= {"prompt_tokens": args.prompt_tokens, "new_tokens": args.new_tokens}
                report.add(row | medians(of))
        for engine in group:
            engine.close()
