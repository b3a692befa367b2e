"""The picture and the prompt that are measured when none are given: those of `hired bench`."""

SIDE = 672
# Of `hired bench`'s own test: over the bytes, sum = 31·sum + byte (mod 2⁶⁴).
SUM = 16_597_691_113_804_685_326
WORD = 2**64 - 1


def fixed():
    """The pixels as RGB bytes, row by row: gradients, a grid of lines and noise."""
    noise = 0x2545_F491_4F6C_DD1D
    pixels = bytearray()
    for y in range(SIDE):
        for x in range(SIDE):
            # Marsaglia's xorshift.
            noise ^= noise << 13 & WORD
            noise ^= noise >> 7
            noise ^= noise << 17 & WORD
            line = 120 if x % 96 < 3 or y % 96 < 3 else 0
            base = (x * 255 // SIDE, y * 255 // SIDE, (x + y) * 255 // (2 * SIDE))
            for channel, value in enumerate(base):
                grain = (noise >> 8 * channel) % 32
                pixels.append(min(value // 2 + line + grain, 255))
    return bytes(pixels)


def checksum(pixels):
    total = 0
    for byte in pixels:
        total = (31 * total + byte) & WORD
    return total


def prompt(tokens, image_token, vocab):
    """Ids of a prompt of so many words, the image in the middle."""
    ids = [(300 + i % 100) % vocab for i in range(tokens)]
    ids = [i + 1 if i == image_token else i for i in ids]
    ids.insert(tokens // 2, image_token)
    return ids


def pil():
    from PIL import Image

    return Image.frombytes("RGB", (SIDE, SIDE), fixed())
