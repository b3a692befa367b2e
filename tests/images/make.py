"""Writes the pictures beside this file and expected.txt, what Pillow makes of them.

    python -m pip install Pillow==13.0.0 numpy && python tests/images/make.py

The JPEGs of kinds that Pillow does not write come from libjpeg-turbo's cjpeg (Debian: libjpeg-turbo-progs).

One line of expected.txt per picture: file, width, height, the transparent colour (or -) and the
SHA-256 of the RGB8 bytes after exif_transpose and convert("RGB"). Lossy pictures have no line;
their pixels lie beside them as PNG.
"""

import hashlib
import io
import struct
import subprocess
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

assert Image.__version__ == "13.0.0"
warnings.simplefilter("ignore")  # several transparent palette entries
HERE = Path(__file__).parent
RANDOM = np.random.default_rng(7)


def noise(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


# --- PNG: every colour type and depth, plain and interlaced, made by hand ---------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PASSES = [(8, 0, 8, 0), (8, 4, 8, 0), (4, 0, 8, 4), (4, 2, 4, 0), (2, 0, 4, 2), (2, 1, 2, 0), (1, 0, 2, 1)]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png(name, colour, depth, before=b"", after=b"", size=(13, 6), interlaced=False, rows=None):
    (width, height), bits = size, CHANNELS[colour] * depth
    passes = PASSES if interlaced else [(1, 0, 1, 0)]
    data = b""
    for dx, x, dy, y in passes:
        columns, lines = len(range(x, width, dx)), len(range(y, height, dy))
        for line in range(lines if columns else 0):
            row = noise((columns * bits + 7) // 8).tobytes() if rows is None else rows[line]
            data += b"\0" + row
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    parts = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(data, 9)) + after
    (HERE / name).write_bytes(b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b""))


def palette(entries):
    return chunk(b"PLTE", noise(3 * entries).tobytes())


for colour, kind, depths in [
    (0, "grey", [1, 2, 4, 8]),
    (2, "rgb", [8, 16]),
    (3, "palette", [1, 2, 4, 8]),
    (4, "grey-alpha", [8, 16]),
    (6, "rgba", [8, 16]),
]:
    for depth in depths:
        table = palette(1 << depth) if colour == 3 else b""
        png(f"{kind}{depth}.png", colour, depth, table)
        png(f"{kind}{depth}-interlaced.png", colour, depth, table, interlaced=True)
# 16-bit greys around Pillow's clipping at 255.
greys = [0, 1, 127, 128, 254, 255, 256, 257, 511, 0x7FFF, 0x8000, 0xFF00, 0xFFFF]
for name, extra in [("grey16", b""), ("grey16-trns", chunk(b"tRNS", struct.pack(">H", 256)))]:
    png(f"{name}.png", 0, 16, extra, size=(13, 1), rows=[struct.pack(">13H", *greys)])
png("palette8-short.png", 3, 8, palette(5))
png("palette4-one-transparent.png", 3, 4, palette(16) + chunk(b"tRNS", b"\xff\xff\x00"))
png("palette4-two-transparent.png", 3, 4, palette(16) + chunk(b"tRNS", b"\x00\x80\xff"))
png("grey1-trns.png", 0, 1, chunk(b"tRNS", b"\0\1"))
png("grey2-trns.png", 0, 2, chunk(b"tRNS", b"\0\1"))
png("grey8-trns.png", 0, 8, chunk(b"tRNS", b"\0\x50"))
png("rgb8-trns.png", 2, 8, chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)), size=(2, 1), rows=[bytes([1, 2, 3, 4, 5, 6])])
png("rgb16-trns.png", 2, 16, chunk(b"tRNS", struct.pack(">3H", 0x180, 0x1FF, 0xFEFF)))
png("one-pixel.png", 2, 8, size=(1, 1))

# --- A small picture with smooth and sharp parts for the formats that Pillow writes -----------

y, x = np.mgrid[0:30, 0:40]
smooth = np.stack([4 * x + 2 * y, 200 - 3 * x + y, 128 + 60 * np.sin(x * y / 40)], -1)
smooth[8:20, 10:25] = [250, 20, 30]
PICTURE = Image.fromarray(smooth.clip(0, 255).astype(np.uint8))
GREY = PICTURE.convert("L")
FEW = PICTURE.quantize(13)
CLEAR = PICTURE.convert("RGBA")
CLEAR.putalpha(GREY)


def save(image, name, **options):
    image.save(HERE / name, **options)


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


for orientation in range(1, 10):
    save(PICTURE.crop((0, 0, 7, 4)), f"exif{orientation}.png", exif=exif(orientation))
tiff = exif(6)[6:]
png("exif-after-pixels.png", 2, 8, after=chunk(b"eXIf", tiff))
text = PngImagePlugin.PngInfo()
text.add_text("Raw profile type exif", f"\nexif\n{len(exif(6)):8}\n{exif(6).hex()}\n", zip=True)
save(PICTURE, "exif-raw-profile.png", pnginfo=text)
text = PngImagePlugin.PngInfo()
text.add_itxt("XML:com.adobe.xmp", '<rdf tiff:Orientation="8"/>', zip=True)
save(PICTURE, "xmp.png", pnginfo=text)
save(PICTURE, "animated.png", save_all=True, append_images=[PICTURE.rotate(180)])

save(FEW, "plain.gif")
save(FEW, "transparent.gif", transparency=3)
save(GREY, "grey.gif")
save(FEW, "animated.gif", save_all=True, append_images=[FEW.transpose(0)], transparency=2)
save(FEW, "interlaced.gif", interlace=1)
for name, screen, corner, key in [
    ("partial.gif", (50, 36), (5, 3), None),
    ("partial-transparent.gif", (50, 36), (5, 3), 2),
    ("overhanging.gif", (20, 36), (5, 10), None),
]:
    save(FEW, name, optimize=False)
    data = bytearray((HERE / name).read_bytes())
    struct.pack_into("<2H", data, 6, *screen)
    at = data.index(b",", 13 + (3 << ((data[10] & 7) + 1)))
    struct.pack_into("<2H", data, at + 1, *corner)
    control = b"" if key is None else b"\x21\xf9\x04\x01\0\0" + bytes([key]) + b"\0"
    (HERE / name).write_bytes(bytes(data[:at]) + control + bytes(data[at:]))

save(PICTURE, "lossless.webp", lossless=True)
save(CLEAR, "lossless-alpha.webp", lossless=True, exact=True)
save(PICTURE, "lossless-exif.webp", lossless=True, exif=exif(6))
save(PICTURE, "lossless-xmp.webp", lossless=True, xmp=b'<rdf tiff:Orientation="3"/>')
save(CLEAR, "animated.webp", lossless=True, save_all=True, append_images=[CLEAR.rotate(180)])

save(PICTURE, "rgb24.bmp")
save(CLEAR, "rgba32.bmp")
save(FEW, "palette8.bmp")
save(PICTURE.convert("1"), "bits1.bmp")


def bmp(name, depth, data, compression=0, masks=(), table=b"", size=(13, 5), colours=0):
    masks = struct.pack(f"<{len(masks)}I", *masks)
    info = (40, *size, 1, depth, compression, len(data), 0, 0, colours, 0)
    head = struct.pack("<IiiHHIIiiII", *info) + masks + table
    start = 14 + len(head)
    (HERE / name).write_bytes(b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + data)


bmp("rgb555.bmp", 16, noise(28 * 5).tobytes())
bmp("rgb565.bmp", 16, noise(28 * 5).tobytes(), 3, (0xF800, 0x7E0, 0x1F))
bmp("rgb555-masks.bmp", 16, noise(28 * 5).tobytes(), 3, (0x7C00, 0x3E0, 0x1F))
bmp("rgbx32-top-down.bmp", 32, noise(4 * 13 * 5).tobytes(), size=(13, -5))
bmp("palette4.bmp", 4, noise(8 * 5).tobytes(), table=noise(64).tobytes())
run = bytes([5, 3, 0, 4, 1, 2, 3, 4, 4, 9, 0, 0]) * 5 + b"\0\1"
bmp("rle8.bmp", 8, run, 1, table=noise(1024).tobytes())

# --- Lossy: the pixels that Pillow decodes lie beside the file --------------------------------

save(PICTURE, "lossy-444.jpg", quality=85, subsampling=0)
save(PICTURE, "lossy-420.jpg", quality=85, subsampling=2, exif=exif(6))
save(PICTURE, "lossy-progressive.jpg", quality=85, subsampling=1, progressive=True)
save(PICTURE.convert("CMYK"), "lossy-cmyk.jpg", quality=85)
save(GREY, "lossy-grey.jpg", quality=85)


def cjpeg(name, *options, scans=None):
    """A JPEG by cjpeg; `scans`: which components each scan of a baseline file holds."""
    source = io.BytesIO()
    PICTURE.convert("RGB").save(source, "PPM")
    with tempfile.NamedTemporaryFile("w", suffix=".scans") as script:
        if scans:
            script.write("".join(f"{scan};\n" for scan in scans))
            script.flush()
            options += ("-scans", script.name)
        command = ["cjpeg", "-quality", "85", *options]
        made = subprocess.run(command, input=source.getvalue(), capture_output=True, check=True)
    (HERE / name).write_bytes(made.stdout)


cjpeg("lossy-arithmetic.jpg", "-arithmetic")
cjpeg("lossy-arithmetic-progressive.jpg", "-arithmetic", "-progressive")
cjpeg("lossy-422-restart.jpg", "-sample", "2x1", "-restart", "1")
cjpeg("lossy-three-scans.jpg", scans=["0", "1", "2"])
cjpeg("lossy-chroma-first.jpg", "-sample", "1x1", scans=["2", "1", "0"])
cjpeg("lossy-y-then-chroma.jpg", scans=["0", "1 2"])
cjpeg("lossy-211.jpg", "-sample", "1x1,2x1,2x1")
cjpeg("lossy-211-progressive.jpg", "-sample", "1x1,2x1,2x1", "-progressive")
save(PICTURE, "lossy.webp", quality=70)
save(CLEAR, "lossy-alpha.webp", quality=70)

# --- What Pillow makes of them ----------------------------------------------------------------


def opened(path):
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


lines = []
for path in sorted(HERE.iterdir()):
    if path.suffix not in (".png", ".gif", ".webp", ".bmp", ".jpg") or ".jpg." in path.name or ".webp." in path.name:
        continue
    image = opened(path)
    if path.name.startswith("lossy"):
        image.info = {}
        image.save(f"{path}.png")
        continue
    key = image.info.get("transparency")
    if isinstance(key, int):  # how the processors' convert("RGBA") takes a lone number
        key = (key, 0, 0)
    key = "-" if key is None else ",".join(str(value & 255) for value in key)
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    lines.append(f"{path.name} {image.width} {image.height} {key} {digest}\n")
(HERE / "expected.txt").write_text("".join(lines))
