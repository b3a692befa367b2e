"""Scenes with small coloured signs that carry numbers, and questions about them.

A scene is drawn from (split, seed, index) alone: training and held-out scenes have different splits and
share no random numbers. Lengths are in points; one point is one pixel of the canvas that LLaVA-NeXT
makes of the image (sub-images of 112 points), whatever the resolution the image is drawn in.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, PATCH = 112, 14  # points of a sub-image and of a patch
GRIDS = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]  # (rows, columns), LLaVA-NeXT's order
PINPOINTS = [[rows * SIDE, columns * SIDE] for rows, columns in GRIDS]

# Width and height in points: every grid, filled, or padded on one axis.
SIZES = [
    *[(224, 224), (224, 168), (168, 224), (224, 150), (196, 224)],
    *[(224, 112), (112, 224), (336, 112), (112, 336), (224, 98), (90, 224), (336, 96), (100, 336)],
]
SHARES = np.array([6, 3, 3, 1.5, 1.5, 1.5, 1.5, 2, 2, 0.75, 0.75, 1, 1])
SCALES, SCALE_SHARES = [1.0, 2.0], [0.65, 0.35]  # pixels a point

COLOURS = {
    "red": (205, 38, 42),
    "orange": (240, 138, 22),
    "yellow": (244, 218, 52),
    "green": (38, 148, 62),
    "blue": (34, 84, 204),
    "purple": (136, 52, 160),
    "black": (22, 22, 26),
    "white": (240, 240, 240),
}
NAMES = list(COLOURS)
DARK_INK = {"orange", "yellow", "white"}
SHAPES = ["rectangle", "circle"]
MOST_SIGNS = 6
# At twelve points 6, 9 and 8 look alike, and a tower this small took most of its errors from them.
NUMBERS = [n for n in range(10, 100) if not {"6", "9"} & set(str(n))]
FONT_SIZE, STROKE, ADVANCE, TALL = 17, 0.3, 10.5, 12  # points
TRAINING, HELD_OUT = 0, 1


@dataclass
class Sign:
    colour: str
    shape: str
    number: int  # of NUMBERS
    x: float  # centre, points
    y: float

    @property
    def half(self):
        """Half the width and half the height."""
        return (16.0, 16.0) if self.shape == "circle" else (16.5, 11.5)

    def box(self):
        w, h = self.half
        return self.x - w, self.y - h, self.x + w, self.y + h


@dataclass
class Scene:
    image: Image.Image
    width: int  # points
    height: int
    signs: list


@cache
def glyph(digit, scale):
    """A digit's mask and its offset from the point the digit is centred at, in pixels."""
    font = ImageFont.load_default(FONT_SIZE * scale)
    side = round(2 * FONT_SIZE * scale)
    mask = Image.new("L", (side, side))
    at = (side / 2, side / 2)
    ink = ImageDraw.Draw(mask)
    ink.text(at, digit, fill=255, font=font, anchor="mm", stroke_width=STROKE * scale)
    # Digits have one height: centre what is seen, not what the font reserves.
    left, top, right, bottom = mask.getbbox()
    return mask.crop((left, top, right, bottom)), ((right - left) / 2, (bottom - top) / 2)


@cache
def noise():
    """A texture bank [1024, 1024] of small whole numbers; scenes take windows of it."""
    fine = np.random.default_rng(20261122).normal(0, 1, (1024, 1024, 1))
    soft = fine.copy()
    for axis in (0, 1):
        soft = sum(np.roll(soft, k, axis) for k in range(-3, 4)) / 7
    return (7 * fine + 60 * soft).astype(np.float32)


def background(rng, width, height):
    """f32 [height, width, 3]: a muted tint, a gradient across it, a texture."""
    base = rng.uniform(70, 185) + rng.uniform(-22, 22, 3)
    slope = rng.uniform(-45, 45, 2)
    rows = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None, None] * slope[0]
    columns = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :, None] * slope[1]
    top, left = rng.integers(0, 1024 - height), rng.integers(0, 1024 - width)
    texture = noise()[top : top + height, left : left + width] * np.float32(rng.uniform(0.2, 1))
    return base.astype(np.float32) + rows + columns + texture


def clutter(rng, draw, width, height, scale):
    """Muted lines and patches without numbers."""
    for _ in range(rng.integers(0, 9)):
        grey = rng.uniform(50, 205) + rng.uniform(-18, 18, 3)
        ends = rng.uniform(0, 1, 4) * [width, height, width, height] * scale
        draw.line(
            ends.tolist(),
            fill=tuple(grey.astype(int).tolist()),
            width=round(rng.uniform(1, 3) * scale),
        )
    for _ in range(rng.integers(0, 5)):
        grey = rng.uniform(60, 195) + rng.uniform(-15, 15, 3)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 6)))
        reach = rng.uniform(8, 20)
        corners = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1) * scale
        draw.polygon([tuple(c) for c in corners.tolist()], fill=tuple(grey.astype(int).tolist()))


def draw_sign(rng, image, draw, sign, scale):
    fill = tuple(
        int(v) for v in np.clip(np.array(COLOURS[sign.colour]) + rng.uniform(-12, 12, 3), 0, 255)
    )
    ink = (20, 20, 24) if sign.colour in DARK_INK else (250, 250, 250)
    box = [v * scale for v in sign.box()]
    outline = max(1, round(scale))
    if sign.shape == "circle":
        draw.ellipse(box, fill=fill, outline=ink, width=outline)
    else:
        draw.rectangle(box, fill=fill, outline=ink, width=outline)
    for digit, side in zip(str(sign.number), (-0.5, 0.5)):
        mask, (dx, dy) = glyph(digit, scale)
        x, y = (sign.x + side * ADVANCE) * scale - dx, sign.y * scale - dy
        image.paste(ink, (round(x), round(y)), mask)


def place(rng, count, width, height, region, names):
    """Up to `count` signs that do not touch, their centres inside `region` (x0, y0, x1, y1)."""
    signs = []
    taken = np.zeros((count, 4))  # centre, half width and half height, with a gap of two points
    for name in names[:count]:
        sign = Sign(name, SHAPES[rng.integers(2)], NUMBERS[rng.integers(len(NUMBERS))], 0, 0)
        w, h = sign.half
        x0, x1 = max(region[0], w + 1), min(region[2], width - w - 1)
        y0, y1 = max(region[1], h + 1), min(region[3], height - h - 1)
        tries = rng.uniform(size=(30, 1, 2)) * [max(0, x1 - x0), max(0, y1 - y0)] + [x0, y0]
        others = taken[None, : len(signs)]
        apart = np.abs(tries - others[..., :2]) > others[..., 2:] + [w, h]
        free = apart.any(-1).all(-1)
        if free.any():
            sign.x, sign.y = tries[free.argmax(), 0].tolist()
            taken[len(signs)] = sign.x, sign.y, w + 2, h + 2
            signs.append(sign)
    return signs


def region(rng, width, height):
    """Where the signs of a scene lie: anywhere, or together in one part of it."""
    if rng.uniform() < 0.6:
        return 0, 0, width, height
    w, h = min(width, rng.uniform(95, 125)), min(height, rng.uniform(80, 125))
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return x, y, x + w, y + h


def scene(split, seed, index, size=None, scale=None, crowd=False):
    """The scene of a number. `crowd` packs it with signs, colours repeating: for the vision tower alone."""
    rng = np.random.default_rng([split, seed, index])
    drawn = rng.choice(len(SIZES), p=SHARES / SHARES.sum()), rng.choice(len(SCALES), p=SCALE_SHARES)
    width, height = size or SIZES[drawn[0]]
    scale = scale or SCALES[drawn[1]]
    if crowd:
        names = [NAMES[i] for i in rng.integers(0, len(NAMES), 40)]
        signs = place(rng, 40, width, height, (0, 0, width, height), names)
    else:
        names = [NAMES[i] for i in rng.permutation(len(NAMES))]
        count = int(rng.integers(1, MOST_SIGNS + 1))
        signs = place(rng, count, width, height, region(rng, width, height), names)
        # Two signs never carry the same number, so that a number names a sign. In most training scenes they
        # share few digits in either place: else one digit nearly always tells them apart.
        likely = NUMBERS
        if split == TRAINING and rng.uniform() < 0.7:
            count = [(2, 3), (3, 2), (2, 4), (3, 3)][rng.integers(4)]
            digits = [n // 10 for n in NUMBERS], [n % 10 for n in NUMBERS]
            tens, units = (rng.choice(sorted(set(d)), n, replace=False) for d, n in zip(digits, count))
            likely = [n for n in NUMBERS if n // 10 in tens and n % 10 in units]
        numbers = rng.choice(likely, len(signs), replace=False)
        for sign, number in zip(signs, numbers, strict=True):
            sign.number = int(number)
    w, h = round(width * scale), round(height * scale)
    image = Image.fromarray(np.clip(background(rng, w, h), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    clutter(rng, draw, width, height, scale)
    for sign in signs:
        draw_sign(rng, image, draw, sign, scale)
    return Scene(image, width, height, signs)


def where(scene, sign):
    """The half a sign lies in, None near the line between them."""
    if abs(sign.y - scene.height / 2) < 8:
        return None
    return "top" if sign.y < scene.height / 2 else "bottom"


KINDS = ["number", "colour", "shape", "where", "count"]  # what generate.py asks


def question(kind, scene, sign):
    """Prompt and answer; None where a scene has no clear answer of that kind."""
    if kind == "count":
        return "How many signs are there?", str(len(scene.signs))
    if kind == "list":  # in training only: every sign, in the order of COLOURS
        ordered = sorted(scene.signs, key=lambda s: NAMES.index(s.colour))
        return "Read all signs.", " ".join(f"{s.colour} {s.number} {s.shape}" for s in ordered)
    if kind == "unit":  # in training only: one half of finding a number
        unit = sign.number % 10
        clear = sum(s.number % 10 == unit for s in scene.signs) == 1
        return (f"Which colour has {unit}?", sign.colour) if clear else None
    if kind == "colour":
        return f"Which colour has number {sign.number}?", sign.colour
    if kind == "number":
        return f"What number is on the {sign.colour} sign?", str(sign.number)
    if kind == "shape":
        return f"What shape is the {sign.colour} sign?", sign.shape
    half = where(scene, sign)
    return half and (f"Where is the {sign.colour} sign?", half)
