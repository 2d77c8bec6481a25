"""Text lines and pages, rendered with Pillow by seed: their labels are known.

Fonts are those that matplotlib ships, so that every machine draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # height, width, 3
Random = np.random.Generator

FONTS = (
    "DejaVuSans DejaVuSans-Bold DejaVuSans-Oblique DejaVuSerif DejaVuSerif-Bold DejaVuSansMono "
    "STIXGeneral STIXGeneralBol"
).split()
_WORDS = (
    "the quick brown fox jumps over lazy dogs while seven small wizards make toxic brew for evil "
    "queen and jack pack my box with five dozen liquor jugs how vexingly daft zebras jump bright "
    "vixens report value total amount invoice number date address city street country price tax "
    "order customer service phone account balance payment annual result section figure table "
    "network channel filter layer weight model image input output signal noise budget method "
    "North South East West January March June August October water river mountain bridge station "
    "window garden kitchen summer winter music paper letter school family doctor market morning "
    "evening question answer history science theory measure system group power energy light heat"
).split()


@dataclass(frozen=True)
class Page:
    """A rendered page.

    Attributes:
        picture: Its pixels, RGB.
        boxes: float64 (n, 4), left, top, right, bottom of each line's ink.
    """

    picture: Picture
    boxes: NDArray[np.float64]


def _phrase(random: Random, words: int) -> str:
    """Some words and, now and then, a number; one in four has a capital."""
    found = []
    for _ in range(words):
        if random.random() < 0.2:
            found.append(str(random.integers(10, 10_000)))
            continue
        word = _WORDS[random.integers(len(_WORDS))]
        found.append(word.capitalize() if random.random() < 0.25 else word)
    return " ".join(found)


@lru_cache(maxsize=256)
def _font(name: str, size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{name}.ttf"), size)


def _colours(random: Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Paper and ink, far apart; every fifth is light on dark."""
    light = tuple(int(v) for v in random.integers(205, 256, 3))
    dark = tuple(int(v) for v in random.integers(0, 90, 3))
    return (dark, light) if random.random() < 0.2 else (light, dark)


def _noisy(random: Random, image: Any) -> Picture:
    pixels = np.asarray(image, np.float32)
    noise = random.normal(0, random.uniform(0, 8), pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def line(random: Random) -> tuple[Picture, str]:
    """One text line, cropped a few pixels around its ink.

    Args:
        random: Source of chance.

    Returns:
        The picture, RGB, and its text.
    """
    from PIL import Image, ImageDraw

    text = _phrase(random, int(random.integers(1, 4)))
    font = _font(FONTS[random.integers(len(FONTS))], int(random.integers(24, 44)))
    left, top, right, bottom = font.getbbox(text)
    pad = random.integers(3, 8, 4)
    size = (int(right - left + pad[0] + pad[1]), int(bottom - top + pad[2] + pad[3]))
    paper, ink = _colours(random)
    image = Image.new("RGB", size, paper)
    ImageDraw.Draw(image).text((int(pad[0] - left), int(pad[2] - top)), text, ink, font)
    return _noisy(random, image), text


def page(random: Random, width: int, height: int) -> Page:
    """A page: a title, then paragraphs in one font, with their lines' boxes.

    Args:
        random: Source of chance.
        width: Pixels.
        height: Pixels.

    Returns:
        The page.
    """
    from PIL import Image, ImageDraw

    paper, ink = _colours(random)
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    name = FONTS[random.integers(len(FONTS))]
    size = int(random.integers(17, 27))
    margin = int(random.integers(30, 60))
    boxes: list[tuple[float, ...]] = []
    y = margin
    body, title = _font(name, size), _font(name, int(size * 1.6))
    y = _put(draw, boxes, (margin, y), _phrase(random, 2), title, ink) + size
    while y < height - margin - 2 * size:
        for _ in range(int(random.integers(2, 7))):
            text = _phrase(random, 12)
            while body.getlength(text) > (width - 2 * margin) * random.uniform(0.75, 1.0):
                text = text.rsplit(" ", 1)[0]
            if y > height - margin - 2 * size:
                break
            y = _put(draw, boxes, (margin, y), text, body, ink) + int(size * 0.45)
        y += int(size * 1.2)
    return Page(_noisy(random, image), np.array(boxes, np.float64))


def _put(
    draw: Any, boxes: list[tuple[float, ...]], at: tuple[int, int], text: str, font: Any, ink: Any
) -> int:
    """Draws one line, notes its box, returns where the line ends."""
    draw.text(at, text, ink, font)
    boxes.append(draw.textbbox(at, text, font))
    ascent, descent = font.getmetrics()
    return int(at[1] + ascent + descent)
