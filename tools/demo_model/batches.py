"""What training reads: sub-images with labels for the vision tower, questions for the decoder."""

from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import count, islice
from multiprocessing import get_context

import numpy as np
import torch

import scenes
from model import GRID, PATCH, SIDE, geometry
from fixtures.pixels import MEAN, STD, tiles  # noqa: I001  (model has put its folder on the path)

NONE, IGNORED = len(scenes.NAMES), -100
COVERED, BASE_COVERED, BARE = (
    0.2,
    0.12,
    0.02,
)  # share of a patch under a sign: labelled, not labelled
SEEN = 0.6  # share of a sign that must lie in a sub-image to be asked about there


def pixels(image):
    """f32 [P, 3, side, side] as the processor makes them, to rounding."""
    u8 = np.stack(tiles(image, SIDE, scenes.PINPOINTS)).astype(np.float32)
    return ((u8 / 255 - MEAN) / STD).transpose(0, 3, 1, 2)


def views(scene):
    """For each partition the map from points to its pixels: factor and shift on x, factor and shift on y."""
    g = geometry(*scene.image.size, SIDE, PATCH, scenes.PINPOINTS)
    (rows, columns), (nh, nw) = g.grid, g.fit
    fx, fy = nw / scene.width, nh / scene.height
    left, top = (columns * SIDE - nw) // 2, (rows * SIDE - nh) // 2
    yield SIDE / scene.width, 0, SIDE / scene.height, 0
    for row in range(rows):
        for column in range(columns):
            yield fx, left - column * SIDE, fy, top - row * SIDE


def covered(boxes):
    """Share of every patch [N, T] under each box (x0, y0, x1, y1) in pixels of a partition."""
    edge = np.arange(GRID) * PATCH
    span = lambda lo, hi: np.clip(
        np.minimum(hi[:, None], edge + PATCH) - np.maximum(lo[:, None], edge), 0, None
    )
    x, y = span(boxes[:, 0], boxes[:, 2]), span(boxes[:, 1], boxes[:, 3])
    return (y[:, :, None] * x[:, None, :]).reshape(len(boxes), -1) / PATCH**2


def label(scene):
    """Per partition a dict of labels. Crowds repeat colours: their CLS tokens are asked no numbers."""
    signs = scene.signs
    boxes = np.array([s.box() for s in signs])
    centres = np.array([[s.x, s.y] for s in signs])
    half = np.array([scenes.ADVANCE, scenes.TALL]) / 2
    digits = [
        np.concatenate([at - half, at + half], 1)
        for at in (centres + [side * scenes.ADVANCE, 0] for side in (-0.5, 0.5))
    ]
    colour = np.array([scenes.NAMES.index(s.colour) for s in signs])
    shape = np.array([scenes.SHAPES.index(s.shape) for s in signs])
    number = np.array([[s.number // 10, s.number % 10] for s in signs])
    unique = len(set(colour)) == len(colour)
    for i, (fx, sx, fy, sy) in enumerate(views(scene)):
        move = lambda b: b * [fx, fy, fx, fy] + [sx, sy, sx, sy]
        inside = move(boxes)
        cover = covered(inside)
        area = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
        seen = cover.sum(1) * PATCH**2 / area > SEEN
        owner, most = cover.argmax(0), cover.max(0)
        on = most >= (BASE_COVERED if i == 0 else COVERED)
        here = np.full((6, GRID * GRID), IGNORED)
        here[0] = np.where(on, colour[owner], np.where(most < BARE, NONE, IGNORED))
        here[1] = np.where(on, shape[owner], IGNORED)
        cls = np.full((len(scenes.NAMES), 2), IGNORED)
        if i:  # in the full image numbers are too small to be asked for
            readable = on & seen[owner]
            here[2:4] = np.where(readable, number[owner].T, IGNORED)
            parts = [
                covered(move(d)) * PATCH**2 / (scenes.ADVANCE * scenes.TALL * fx * fy)
                for d in digits
            ]
            share = np.stack(parts)  # [2, N, T]: how much of a digit lies in a patch
            best = share.reshape(-1, GRID * GRID).argmax(0)
            shown = share.reshape(-1, GRID * GRID).max(0) > 0.35
            place, which = best // len(signs), best % len(signs)
            digit = number[which, place]
            here[4] = np.where(shown, digit, IGNORED)
            here[5] = np.where(shown, 10 * place + digit, IGNORED)
            if unique:
                cls[colour[seen]] = number[seen]
        present = np.zeros(len(scenes.NAMES), dtype=np.float32)
        present[colour[seen]] = 1
        yield dict(
            patches=here, present=present, count=np.float32(seen.sum()), numbers=cls, base=i == 0
        )


class Painters:
    """Draws scenes, in processes beside this one if there are `workers`. What is drawn does not depend on them."""

    def __init__(self, workers):
        self.executor = ProcessPoolExecutor(workers, get_context("spawn")) if workers else None
        self.ahead = 4 * workers

    def map(self, draw, jobs):
        """draw(*job) of every job, in order."""
        return list(self.stream(draw, iter(jobs)))

    def stream(self, draw, jobs):
        """The same for jobs without an end: some are drawn ahead."""
        if not self.executor:
            yield from (draw(*job) for job in jobs)
            return
        waiting = deque(self.executor.submit(draw, *job) for job in islice(jobs, self.ahead))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(self.executor.submit(draw, *job) for job in islice(jobs, 1))


def sub_images(seed, index, crowds):
    """Sub-images of a training scene with their labels; none if it has no sign."""
    crowd = index % 100 < 100 * crowds
    scale = 2.0 if index % 3 == 0 else 1.0
    s = scenes.scene(scenes.TRAINING, seed, index, scale=scale, crowd=crowd)
    return list(zip(pixels(s.image), label(s), strict=True)) if s.signs else []


def scene_pixels(split, seed, index, size, scale):
    """A scene without its image, and its pixels; None if it has no sign."""
    s = scenes.scene(split, seed, index, size=size, scale=scale)
    return (replace(s, image=None), pixels(s.image), s.image.size) if s.signs else None


class Tiles:
    """Batches of sub-images: mixed scenes, a share of them crowds. Drawing costs as much as a third of a step,
    so two thirds of each batch come from a pool of those drawn lately."""

    POOL = 8000

    def __init__(self, painters, seed, first, crowds):
        self.next, self.pool = first, []
        self.drawn = painters.stream(sub_images, ((seed, i, crowds) for i in count(first)))
        self.rng = np.random.default_rng([seed, first])

    def batch(self, size):
        taken = []
        while len(taken) < size // 3:
            taken += next(self.drawn)
            self.next += 1
        self.pool = (self.pool + taken)[-self.POOL :]
        again = self.rng.integers(0, len(self.pool), max(0, size - len(taken)))
        taken = (taken + [self.pool[i] for i in again])[:size]
        keys = taken[0][1].keys()
        labels = {k: torch.from_numpy(np.stack([np.asarray(t[1][k]) for t in taken])) for k in keys}
        return torch.from_numpy(np.stack([t[0] for t in taken])), labels


# Questions of each kind on one image. The list names every sign after its colour: it teaches to find
# a colour's sign some hundred steps before the questions alone would. So does unit for the second digit of
# a number, which the questions alone did not teach.
ASKED = dict(number=4, colour=3, shape=1, where=1, count=1, list=1)
ASKED_AGAIN = dict(number=3, colour=4, unit=1, shape=1, where=1, count=1, list=1)
# What an answer counts in the loss: with one weight a token, counting would hardly train beside numbers.
WEIGHTS = dict(number=1.0, colour=1.5, unit=1.5, shape=0.7, where=0.7, count=2.5, list=4.0)
SLOT, LIST_SLOT = 10, 35  # ids of a question with its answer but for the last


def questions(scene, words, rng, asked=ASKED):
    """(kind, question ids, answer ids) of one scene, always as many as `asked` says."""
    out = []
    for kind, times in asked.items():
        turn = rng.permutation(len(scene.signs))
        for t in range(times):
            pairs = (scenes.question(kind, scene, scene.signs[i]) for i in np.roll(turn, -t))
            pair, used = next((p for p in pairs if p), None), kind
            if not pair:  # no sign that can be asked for
                pair, used = scenes.question("count", scene, None), "count"
            out.append((used, words.question(pair[0]), words.answer(pair[1])))
    return out


def texts(asked, device):
    """ids, ids to predict and their weights, each [B, N], and the lengths of the texts that make N.

    `asked` has a row of questions per image, the same slots in every row.
    """
    lengths = [LIST_SLOT if kind == "list" else SLOT for kind, _, _ in asked[0]]
    starts = np.cumsum([0, *lengths])
    ids = torch.zeros(len(asked), int(starts[-1]), dtype=torch.long)
    targets = torch.full_like(ids, IGNORED)
    weights = torch.zeros(ids.shape)
    for b, row in enumerate(asked):
        for start, length, (kind, q, a) in zip(starts[:-1], lengths, row, strict=True):
            whole = torch.tensor(q + a)
            n = len(whole) - 1
            if n > length:
                raise ValueError(f"{kind}: {n} ids in a slot of {length}")
            ids[b, start : start + n] = whole[:-1]
            said = slice(start + len(q) - 1, start + n)
            targets[b, said] = whole[len(q) :]
            weights[b, said] = WEIGHTS[kind] / (len(a) - 1)
            if kind != "list":
                weights[b, start + n - 1] = 0.05  # the end is learned at once
    return ids.to(device), targets.to(device), weights.to(device), tuple(lengths)
