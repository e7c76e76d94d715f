"""Images for ``real_vectors.py``: variants of the emoji of the demo set, and parts of photographs."""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from llama_index_mm_zhipu.images import load_image

Colour = tuple[int, int, int]
Mask = npt.NDArray[np.bool_]

DEMO = Path(__file__).parents[1] / "examples" / "demo"

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# JPEG changes the colour of the background around an emoji by less than this, in each channel.
_BACKGROUND_TOLERANCE = 12
# Photographs are held in memory; crops need no more pixels than this.
_LONGER_SIDE = 640


class Emoji:
    """Emoji of the demo set in random positions, sizes, rotations and colours, on random backgrounds.

    Attributes:
        names: Chinese name of each emoji.
    """

    def __init__(self, count: int | None = None) -> None:
        """Read the emoji.

        Args:
            count: Number of emoji; None reads all.
        """
        lines = (DEMO / "test.jsonl").read_text(encoding="utf-8").splitlines()[:count]
        records = [json.loads(line) for line in lines]
        self.names = [str(record["caption"]) for record in records]
        self._glyphs = [_without_background(load_image(record["image_base64"])) for record in records]

    def variant(self, numbers: random.Random, side: int) -> Image.Image:
        """Return a square image of one emoji, in three of ten with a second one behind it."""
        image = self._background(numbers, side)
        if numbers.random() < 0.3:
            self._draw(image, numbers, (0.25, 0.6))
        self._draw(image, numbers, (0.45, 1.3))
        return _tinted(image, numbers) if numbers.random() < 0.5 else image

    def _background(self, numbers: random.Random, side: int) -> Image.Image:
        kind = numbers.random()
        if kind < 0.6:
            return Image.new("RGB", (side, side), _colour(numbers, darkest=190 if kind < 0.3 else 0))
        columns, rows = numbers.randint(1, 5), numbers.randint(2, 5)
        patches = Image.frombytes("RGB", (columns, rows), numbers.randbytes(3 * columns * rows))
        return patches.resize((side, side), Image.Resampling.BICUBIC)

    def _draw(self, image: Image.Image, numbers: random.Random, scales: tuple[float, float]) -> None:
        """Draw an emoji; its centre is in the middle half of the image, so that its edges may be cut off."""
        glyph = numbers.choice(self._glyphs)
        side = image.width
        turn = math.radians(numbers.uniform(-15, 15) if numbers.random() < 0.6 else numbers.uniform(-180, 180))
        scale = glyph.width / (numbers.uniform(*scales) * side)
        across, down = (numbers.uniform(0.25, 0.75) * side for _ in range(2))
        cosine, sine = scale * math.cos(turn), scale * math.sin(turn)
        mirror = numbers.choice((-1, 1))
        # From a pixel of the image to the pixel of the glyph.
        first = (mirror * cosine, mirror * sine, glyph.width / 2 - mirror * (cosine * across + sine * down))
        second = (-sine, cosine, glyph.height / 2 + sine * across - cosine * down)
        drawn = glyph.transform(image.size, Image.Transform.AFFINE, (*first, *second), Image.Resampling.BILINEAR)
        image.paste(drawn, (0, 0), drawn)


class Photographs:
    """Parts of photographs, some mirrored, in random colours.

    Args:
        folder: Folder of JPEG, PNG or WebP files.

    Raises:
        SystemExit: The folder has no such file.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            sys.exit(f"{folder} has no photographs ({', '.join(_SUFFIXES)}): give --photographs another folder")
        self._photographs = [_opened(file) for file in files]

    def variant(self, numbers: random.Random, side: int) -> Image.Image:
        """Return a part of a photograph as a square image; the part has 5 to 100 % of its pixels."""
        photograph = numbers.choice(self._photographs)
        share, stretch = math.sqrt(numbers.uniform(0.05, 1)), math.sqrt(numbers.uniform(0.75, 1.33))
        width, height = min(1.0, share * stretch) * photograph.width, min(1.0, share / stretch) * photograph.height
        left, top = numbers.uniform(0, photograph.width - width), numbers.uniform(0, photograph.height - height)
        image = photograph.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        if numbers.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return _tinted(image, numbers)


def _opened(file: Path) -> Image.Image:
    image = load_image(file)
    image.thumbnail((_LONGER_SIDE, _LONGER_SIDE))
    return image


def _without_background(image: Image.Image) -> Image.Image:
    """Return an emoji with its plain background, whose colour is that of the first pixel, made transparent."""
    pixels = np.asarray(image.convert("RGB")).astype(np.int16)
    is_background = (np.abs(pixels - pixels[0, 0]) <= _BACKGROUND_TOLERANCE).all(axis=2)
    outside = _connected_to_the_border(is_background)
    opaque = Image.fromarray(np.where(outside, 0, 255).astype(np.uint8))
    cut = image.convert("RGBA")
    cut.putalpha(opaque)
    return cut


def _connected_to_the_border(mask: Mask) -> Mask:
    """Return the pixels of a mask that are connected to the border through pixels of the mask."""
    reached = np.zeros_like(mask)
    reached[[0, -1]] = reached[:, [0, -1]] = True
    reached &= mask
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= mask
        if (grown == reached).all():
            return reached
        reached = grown


def _tinted(image: Image.Image, numbers: random.Random) -> Image.Image:
    """Return an image with other contrast and brightness in each channel."""
    table = []
    contrast, brightness = numbers.uniform(0.6, 1.3), numbers.uniform(-40, 40)
    for _ in range(3):
        gain, offset = (
            contrast * numbers.uniform(0.8, 1.2),
            brightness + numbers.uniform(-15, 15) + 128 * (1 - contrast),
        )
        table += [min(255, max(0, round(gain * value + offset))) for value in range(256)]
    return image.point(table)


def _colour(numbers: random.Random, darkest: int) -> Colour:
    return (numbers.randint(darkest, 255), numbers.randint(darkest, 255), numbers.randint(darkest, 255))
