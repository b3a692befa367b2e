#!/usr/bin/env python3
"""Trains the demo model and writes its folder.

    python3 -m venv target/venv && target/venv/bin/pip install -r tools/requirements-fixtures.txt
    OMP_NUM_THREADS=1 target/venv/bin/python tools/demo_model/train.py --state STATE --out demo/model

First the vision tower alone with labels for every patch and for its CLS token, then projector and decoder
with the tower frozen. All visual tokens, always: dropping tokens is training-free. Data are drawn as training
goes, from a split that generate.py never draws from. `--state` keeps everything needed to go on: run the
same command again and it continues, `--decoder-steps` larger than before trains on.

Needs 2 GB of memory and some hours of one CPU core, with --compile about half of that; with a GPU, drawing scenes
is what takes time: give it `--workers` (written for one, not yet run on one). The same seed gives the same scenes
whatever draws them; weights depend on the machine's arithmetic.
"""

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import batches
import model as M
import scenes
from fixtures import models

SEED = 1
LAST = 4  # hidden state −2 of five layers
TILES, IMAGES = 60, 8  # sub-images and images a step
FIRST_CYCLE = 5500  # decoder steps before the learning rate rises once more
STRIPS = [(224, 56), (56, 224)]
SIZES = scenes.SIZES + STRIPS


class Heads(nn.Module):
    """What the vision tower is asked in training; not part of the model."""

    def __init__(self):
        super().__init__()
        width, colours = M.WIDTH, len(scenes.NAMES)
        self.patch = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n))
            for n in (colours + 1, 2, 10, 10, 10, 20)
        )
        # Where a patch of the full image lies, and whether it is one.
        self.lies = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n)) for n in (M.GRID, M.GRID, 2)
        )
        out = (colours, 1, scenes.MOST_SIGNS + 1, colours * 20)
        self.cls = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n)) for n in out
        )
        self.early = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, colours + 1))


def entropy(logits, target, balance=False):
    """Cross entropy over what is not ignored; with `balance` signs and background averaged apart."""
    loss = F.cross_entropy(
        logits.flatten(0, -2), target.flatten(), ignore_index=-100, reduction="none"
    )
    target = target.flatten()
    masks = [target != -100]
    if balance:
        masks = [(target != -100) & (target != batches.NONE), target == batches.NONE]
    return sum((loss * m).sum() / m.sum().clamp(min=1) for m in masks) / len(masks)


def tower_losses(states, heads, labels):
    patches = labels["patches"]
    last, cls = states[LAST - 1][:, 1:], states[LAST - 1][:, 0]
    losses = dict(colour=entropy(heads.patch[0](last), patches[:, 0], balance=True))
    losses["shape"] = 0.2 * entropy(heads.patch[1](last), patches[:, 1])
    losses["tens"] = entropy(heads.patch[2](last), patches[:, 2])
    losses["units"] = entropy(heads.patch[3](last), patches[:, 3])
    losses["digit"] = entropy(heads.patch[4](states[1][:, 1:]), patches[:, 4])
    losses["place"] = entropy(heads.patch[5](states[2][:, 1:]), patches[:, 5])
    base = labels["base"].long()[:, None].expand(patches.shape[0], patches.shape[2])
    at = torch.arange(M.GRID**2, device=last.device).expand(base.shape)
    seen = lambda v: torch.where(base > 0, v, -100)
    losses["row"] = 0.5 * entropy(heads.lies[0](last), seen(at // M.GRID))
    losses["column"] = 0.5 * entropy(heads.lies[1](last), seen(at % M.GRID))
    losses["base"] = 0.3 * entropy(heads.lies[2](last), base)
    present, count = labels["present"], labels["count"]
    log_count = torch.log1p(count)[:, None]
    losses["cls_colours"] = 0.5 * F.binary_cross_entropy_with_logits(heads.cls[0](cls), present)
    losses["cls_count"] = 0.1 * F.smooth_l1_loss(heads.cls[1](cls), log_count)
    few = torch.where(count <= scenes.MOST_SIGNS, count, -100).long()
    losses["cls_count"] = losses["cls_count"] + 0.1 * entropy(heads.cls[2](cls), few)
    losses["cls_numbers"] = 0.5 * entropy(
        heads.cls[3](cls).view(len(cls), -1, 2, 10), labels["numbers"]
    )
    early = heads.early(states[0][:, 0])
    losses["early"] = 0.3 * (
        F.binary_cross_entropy_with_logits(early[:, :-1], present)
        + F.smooth_l1_loss(early[:, -1:], log_count)
    )
    return losses


@torch.no_grad()
def tower_report(tower, heads, device):
    """On held-out scenes: patches that carry the exact number, and what CLS attention looks at."""
    px, labels = [], []
    for i in range(24):
        s = scenes.scene(scenes.HELD_OUT, SEED, i)
        px.append(batches.pixels(s.image))
        labels += batches.label(s)
    px = torch.from_numpy(np.concatenate(px)).to(device)
    patches = torch.from_numpy(np.stack([l["patches"] for l in labels])).to(device)
    base = torch.tensor([l["base"] for l in labels], device=device)
    last = M.vision(tower, px, LAST)[-1][:, 1:]
    right = [heads.patch[2 + k](last).argmax(-1) == patches[:, 2 + k] for k in (0, 1)]
    asked = patches[:, 2] >= 0
    signs = (patches[:, 0] >= 0) & (patches[:, 0] < batches.NONE)
    colour = (heads.patch[0](last).argmax(-1) == patches[:, 0])[signs].float().mean()
    out = dict(
        patch_number=(right[0] & right[1])[asked].float().mean().item(), patch_colour=colour.item()
    )
    for name, layer, which in (("cls0_base", 0, base), ("cls_tiles", LAST - 1, ~base)):
        which = which & signs.any(1)
        a = M.cls_attention(tower, px[which], layer)
        out[name] = (a * signs[which]).sum().item() / a.sum().item()
        out[name + "_area"] = signs[which].float().mean().item()
    return {k: round(v, 3) for k, v in out.items()}


def cosine(step, steps, peak, warm):
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (
        0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    )


def optimizer(parameters):
    parameters = list(parameters)
    decay = [p for p in parameters if p.dim() >= 2]
    rest = [p for p in parameters if p.dim() < 2]
    groups = [dict(params=decay, weight_decay=0.05), dict(params=rest, weight_decay=0.0)]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))


class Run:
    """The model, what trains it, and where it stands."""

    def __init__(self, options):
        self.options = options
        torch.manual_seed(SEED)
        self.device, self.painters = options.device, batches.Painters(options.workers)
        self.model, self.heads = M.build().to(self.device), Heads().to(self.device)
        self.words = M.Words()
        self.tower = self.model.model.vision_tower
        self.at = dict(tower=0, decoder=0, scene=0, seconds=0.0)
        seen = [*self.tower.embeddings.parameters(), *self.tower.pre_layrnorm.parameters()]
        seen += self.tower.encoder.layers[:LAST].parameters()
        self.optimizers = dict(tower=optimizer([*seen, *self.heads.parameters()]))
        m = self.model
        rest = [m.model.image_newline, *m.model.multi_modal_projector.parameters()]
        rest += [*m.model.language_model.parameters(), *m.lm_head.parameters()]
        self.optimizers["decoder"] = optimizer(rest)
        self.file = options.state / "state.pt"
        self.started = time.time()
        if self.file.exists():
            state = torch.load(self.file, map_location=self.device)
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            for name, o in self.optimizers.items():
                o.load_state_dict(state["optimizers"][name])
            self.at = state["at"]
        self.before = self.at["seconds"]
        compiled = torch.compile if options.compile else lambda f: f
        self.tower_losses, self.decode = compiled(self.tower_pass), compiled(M.decode)

    def tower_pass(self, px, labels):
        return tower_losses(M.vision(self.tower, px, LAST), self.heads, labels)

    def log(self, **entry):
        self.at["seconds"] = round(self.before + time.time() - self.started, 1)
        line = json.dumps({**self.at, **entry})
        print(line, flush=True)
        with open(self.options.state / "log.jsonl", "a") as f:
            f.write(line + "\n")

    def save(self):
        self.at["seconds"] = round(self.before + time.time() - self.started, 1)
        state = dict(model=self.model.state_dict(), heads=self.heads.state_dict(), at=self.at)
        state["optimizers"] = {name: o.state_dict() for name, o in self.optimizers.items()}
        torch.save(state, self.file.with_suffix(".new"))
        self.file.with_suffix(".new").replace(self.file)

    def step(self, which, loss, lr):
        o = self.optimizers[which]
        for group in o.param_groups:
            group["lr"] = lr
        o.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for g in o.param_groups for p in g["params"]], 1.0)
        o.step()
        self.at[which] += 1

    def train_tower(self, steps):
        data = batches.Tiles(self.painters, SEED, self.at["scene"], crowds=0.75)
        sums, n = {}, 0
        while self.at["tower"] < steps:
            px, labels = data.batch(TILES)
            px = px.to(self.device)
            labels = {k: v.to(self.device) for k, v in labels.items()}
            losses = self.tower_losses(px, labels)
            self.step("tower", sum(losses.values()), cosine(self.at["tower"], steps, 2e-3, 100))
            self.at["scene"] = data.next
            for k, v in losses.items():
                sums[k] = sums.get(k, 0) + v.item()
            n += 1
            if self.at["tower"] % 50 == 0 or self.at["tower"] == steps:
                entry = {k: round(v / n, 3) for k, v in sums.items()}
                sums, n = {}, 0
                if self.at["tower"] % 250 == 0 or self.at["tower"] == steps:
                    entry |= tower_report(self.tower, self.heads, self.device)
                    self.save()
                self.log(**entry)
        self.save()

    def batch(self, drawn, split, images, size, scale, asked=batches.ASKED):
        """Scenes of one size, so that no prefix needs padding: where the next batch starts,
        pixels [B, P, 3, side, side], the decoder's rows, questions."""
        rng = np.random.default_rng([split, SEED, drawn, 77])
        px, asked_of = [], []
        while len(px) < images:
            jobs = [(split, SEED, drawn + i, size, scale) for i in range(images - len(px))]
            drawn += len(jobs)
            for s, pixels, wide_high in filter(
                None, self.painters.map(batches.scene_pixels, jobs)
            ):
                px.append(pixels)
                asked_of.append(batches.questions(s, self.words, rng, asked))
                order = M.order(*wide_high)
        px = torch.from_numpy(np.stack(px)).to(self.device)
        return drawn, px, order.to(self.device), asked_of

    def logits(self, px, order, ids, lengths, decode=M.decode):
        with torch.no_grad():
            f = M.vision(self.tower, px.flatten(0, 1), LAST)[-1][:, 1:].unflatten(0, px.shape[:2])
        seen = M.visual(self.model, f, order)
        embed = self.model.model.language_model.embed_tokens
        text = lambda ids: embed(torch.tensor([ids], device=self.device)).expand(len(px), -1, -1)
        prefix = torch.cat([text(self.words.before), seen, text(self.words.after)], 1)
        torch._dynamo.maybe_mark_dynamic(prefix, 1)
        return decode(self.model, prefix, ids, lengths)

    def train_decoder(self, steps):
        rng = np.random.default_rng([SEED, 5, self.at["decoder"]])
        area = np.array([w * h for w, h in SIZES]) / scenes.SIDE**2
        right, total, losses = {}, {}, []
        while self.at["decoder"] < steps:
            # Few visual tokens are cheap: strips first, then single rows and columns, then all. To find a
            # number's sign is learned last: the second cycle asks for it more often.
            if self.at["decoder"] < FIRST_CYCLE:
                at, cycle, peak, asked = self.at["decoder"], FIRST_CYCLE, 1.5e-3, batches.ASKED
            else:
                at, cycle = self.at["decoder"] - FIRST_CYCLE, steps - FIRST_CYCLE
                peak, asked = 1.2e-3, batches.ASKED_AGAIN
            part, lr = at / cycle, cosine(at, cycle, peak, 100)
            likely = np.append(scenes.SHARES, [0] * len(STRIPS))
            if part < 0.4:
                likely = np.where(area <= 1, 1, 0.01 * likely)
            elif part < 0.7:
                likely = np.where(area <= 2, likely + 0.3, 0.1 * likely)
            size = SIZES[rng.choice(len(SIZES), p=likely / likely.sum())]
            scale = rng.choice(scenes.SCALES, p=scenes.SCALE_SHARES)
            self.at["scene"], px, order, rows = self.batch(
                self.at["scene"], scenes.TRAINING, IMAGES, size, scale, asked
            )
            ids, targets, weights, lengths = batches.texts(rows, self.device)
            logits = self.logits(px, order, ids, lengths, self.decode)
            loss = F.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none"
            )
            loss = (loss * weights.flatten()).sum() / weights.sum()
            self.step("decoder", loss, lr)
            losses.append(loss.item())
            tally(rows, lengths, logits, targets, right, total)
            if self.at["decoder"] % 50 == 0:
                entry = {k: round(right[k] / total[k], 3) for k in sorted(total)}
                self.log(loss=round(sum(losses) / len(losses), 3), **entry)
                right, total, losses = {}, {}, []
            if self.at["decoder"] % 500 == 0:
                self.save()
        self.save()

    @torch.no_grad()
    def evaluate(self, images=20):
        """Teacher-forced exact match (the same as greedy) by kind, on held-out scenes of every size."""
        right, total = {}, {}
        asked = dict(number=2, colour=2, shape=1, where=1, count=1, list=1)
        drawn = 0
        for i, size in enumerate(scenes.SIZES):
            scale = scenes.SCALES[i % 2]
            drawn, px, order, rows = self.batch(drawn, scenes.HELD_OUT, images, size, scale, asked)
            ids, targets, _, lengths = batches.texts(rows, self.device)
            tally(rows, lengths, self.logits(px, order, ids, lengths), targets, right, total)
        return {f"held_out_{k}": round(right[k] / total[k], 3) for k in sorted(total)}


def tally(rows, lengths, logits, targets, right, total):
    """Counts answers of which every id is the likeliest one."""
    hit = (logits.argmax(-1) == targets) | (targets == batches.IGNORED)
    hit = torch.stack([part.all(-1) for part in hit.split(lengths, 1)], 1)
    for b, row in enumerate(rows):
        for j, (kind, _, _) in enumerate(row):
            right[kind] = right.get(kind, 0) + hit[b, j].item()
            total[kind] = total.get(kind, 0) + 1


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument(
        "--state", type=Path, required=True, help="folder for checkpoints and the log"
    )
    arguments.add_argument("--out", type=Path, help="where the model's folder is written")
    arguments.add_argument("--tower-steps", type=int, default=3500)
    arguments.add_argument("--decoder-steps", type=int, default=9000)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument(
        "--device",
        type=torch.device,
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu or cuda [default: cuda if there is one]",
    )
    arguments.add_argument(
        "--workers", type=int, default=0, help="processes that draw scenes; with cuda, one a core"
    )
    arguments.add_argument(
        "--compile", action="store_true", help="torch.compile: needs g++, twice as fast"
    )
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    options.state.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    run.train_tower(options.tower_steps)
    run.train_decoder(options.decoder_steps)
    # What the file stores is what is measured: weights rounded to f16, arithmetic in f32.
    run.model.load_state_dict({k: v.half().float() for k, v in run.model.state_dict().items()})
    run.log(**run.evaluate())
    if options.out:
        models.write(run.model.cpu().eval(), M.MODEL, options.out)
        shutil.copy(Path(__file__).with_name("MODEL_CARD.md"), options.out / "README.md")


if __name__ == "__main__":
    main()
