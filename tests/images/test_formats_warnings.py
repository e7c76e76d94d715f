"""Pillow's warnings of odd metadata are not shown, and warnings from the user's own code are."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from llama_index_mm_zhipu.images import load_image, load_resized, open_image, sniff_format
from llama_index_mm_zhipu.images.formats import pillow_warnings_ignored

NOISE = Image.effect_noise((64, 48), 60).convert("RGB")


def encoded(image_format: str, image: Image.Image = NOISE, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def tiff(*more: tuple[int, int, int, int]) -> bytes:
    tags = [(256, 4, 1, 64), (257, 4, 1, 48), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (278, 4, 1, 48), (279, 4, 1, 64 * 48), *more]
    listed = {tag[0]: struct.pack("<HHII", *tag) for tag in sorted(tags)}
    return b"II*\0" + struct.pack("<IH", 8, len(listed)) + b"".join(listed.values()) + bytes(5000)


def palette_with_alpha() -> bytes:
    palette = NOISE.quantize(4)
    return encoded("PNG", palette, transparency=bytes([0, 80, 160, 255]))


ODD: dict[str, Callable[[], bytes]] = {
    "TIFF, too many entries": lambda: tiff((305, 4, 2, 8), (256, 4, 1, 64), (34665, 4, 3, 8)),
    "TIFF, tag beyond the end": lambda: tiff((305, 2, 400, 90_000)),
    "TIFF, large tag": lambda: tiff((305, 2, 400_000_000, 8)),
    "TIFF, EXIF beyond the end": lambda: tiff((34665, 4, 1, 4_000_000_000)),
    "JPEG, EXIF cut off": lambda: encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
    "JPEG, EXIF that leads nowhere": lambda: encoded(
        "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\2\0\x0e\1\2\0\xff\0\0\0\xff\xff\0\0"
    ),
    "JPEG, pages that are not there": lambda: (
        (data := encoded("JPEG"))[:2] + b"\xff\xe2\0\x10MPF\0MM\0*\0\0\0\x08\xff\xff" + data[2:]
    ),
    "WebP, EXIF cut off": lambda: encoded("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
    "icon of another size": lambda: (
        struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(encoded("PNG")), 22) + encoded("PNG")
    ),
    "palette with alpha": palette_with_alpha,
}


@pytest.mark.parametrize("action", ["error", "always", "default"])
@pytest.mark.parametrize("kind", ODD)
def test_odd_metadata_raises_no_warnings(kind: str, action: Any) -> None:
    data = ODD[kind]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        assert load_image(data).size == (64, 48)
        assert load_resized(data, 8).size == (8, 8)
        assert sniff_format(data)
        with open_image(data) as image:
            image.load()
    assert caught == []


def test_warnings_from_user_code_are_shown() -> None:
    data = ODD["TIFF, tag beyond the end"]()
    load_image(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_image(data)
        with open_image(data):
            warnings.warn("mine", stacklevel=1)
        with pillow_warnings_ignored():
            warnings.warn("mine, too", stacklevel=1)
        with Image.open(BytesIO(data)) as image:
            image.load()
    messages = [str(warning.message) for warning in caught]
    assert messages[:2] == ["mine", "mine, too"]
    assert len(messages) > 2


def test_warnings_of_other_threads_are_shown() -> None:
    data = ODD["TIFF, tag beyond the end"]()
    inside, done = threading.Event(), threading.Event()

    def open_slowly() -> None:
        with pillow_warnings_ignored():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=open_slowly)
    thread.start()
    assert inside.wait(10)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Image.open(BytesIO(data)).close()
        assert caught
    finally:
        done.set()
        thread.join()


def test_filters_do_not_accumulate() -> None:
    data = encoded("PNG")
    load_image(data)
    with warnings.catch_warnings():
        for number in range(20):
            warnings.filterwarnings("error", message=f"number {number}")
            load_image(data)
        ours = [each for each in warnings.filters if type(each[3]).__name__ == "_PillowInThisThread"]
        assert len(ours) == 1
