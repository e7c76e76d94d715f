"""Damaged files load or raise ``ImageError``, and never another error."""

from __future__ import annotations

import random
import warnings
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, features

from llama_index_mm_zhipu.images import ImageError, load_image, load_resized, sniff_format

CASES = 150
"""Number of damaged files of each format."""

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("RGB", "JPEG", {}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True}),
    "CMYK JPEG": ("CMYK", "JPEG", {}),
    "PNG": ("RGB", "PNG", {}),
    "palette PNG": ("P", "PNG", {"transparency": 3}),
    "16-bit PNG": ("I;16", "PNG", {}),
    "APNG": ("RGBA", "PNG", {"save_all": True}),
    "GIF": ("P", "GIF", {"save_all": True, "transparency": 3}),
    "WebP": ("RGBA", "WEBP", {}),
    "animated WebP": ("RGB", "WEBP", {"save_all": True, "lossless": True}),
    "BMP": ("P", "BMP", {}),
    "TIFF": ("RGB", "TIFF", {}),
    "TIFF, LZW": ("L", "TIFF", {"compression": "tiff_lzw"}),
    "TIFF, JPEG": ("RGB", "TIFF", {"compression": "jpeg"}),
    "float TIFF": ("F", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "ICO": ("RGBA", "ICO", {"sizes": [(32, 32)]}),
    "bitmap ICO": ("RGBA", "ICO", {"sizes": [(32, 32)], "bitmap_format": "bmp"}),
    "PPM": ("RGB", "PPM", {}),
    "JPEG 2000": ("RGB", "JPEG2000", {}),
    **({"AVIF": ("RGBA", "AVIF", {})} if features.check("avif") else {}),
}


def sample(mode: str, image_format: str, options: dict[str, Any]) -> bytes:
    """Return a small file with EXIF data and two frames, as far as its format has them."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "an image"
    grey = Image.effect_noise((40, 32), 60)
    image = grey.convert("I").convert("I;16") if mode == "I;16" else grey.convert("RGB").convert(mode)
    if options.get("save_all"):
        options = {**options, "append_images": [image.rotate(90)]}
    if image_format not in ("GIF", "BMP", "ICO", "PPM", "JPEG2000"):
        options = {**options, "exif": exif}
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change some bytes, most of them in the header, or remove, repeat or truncate a part."""
    damage = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        end = min(len(damage), chance.choice((64, 256, len(damage))))
        damage[chance.randrange(end)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    start, end = sorted(chance.randrange(len(damage)) for _ in range(2))
    piece = chance.choice((b"", b"", b"", damage[start:end], damage[start:end] * 2))
    if chance.random() < 0.3:
        damage[start:end] = piece
    return bytes(damage[: chance.choice((len(damage), len(damage), len(damage), chance.randrange(len(damage))))])


@pytest.mark.parametrize("strict", [False, True], ids=["", "warnings are errors"])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_load_or_are_refused(kind: str, strict: bool) -> None:
    whole = sample(*KINDS[kind])
    assert load_image(whole).mode == "RGB"
    chance = random.Random(f"{kind} {strict}")
    outcomes = [outcome(damaged(whole, chance), strict=strict) for _ in range(CASES)]
    assert "refused" in outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_only_a_few_bytes_are_refused(kind: str) -> None:
    whole = sample(*KINDS[kind])
    assert {outcome(whole[:length], strict=True) for length in range(60)} == {"refused"}


def outcome(data: bytes, *, strict: bool) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error" if strict else "always")
        reason = reason_of_refusal(data)
    # Sizes are checked before Pillow would warn of them.
    assert not [warning for warning in caught if issubclass(warning.category, Image.DecompressionBombWarning)]
    assert "\n" not in reason
    assert len(reason) < 600
    return "refused" if reason else "loaded"


def reason_of_refusal(data: bytes) -> str:
    sniff_format(data)
    try:
        assert load_image(data).mode == "RGB"
        assert load_resized(data, 4).size == (4, 4)
    except ImageError as error:
        return str(error)
    return ""
