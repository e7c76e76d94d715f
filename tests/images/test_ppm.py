"""PPM files of every form load like in Pillow, and forms that would take long are refused."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llama_index_mm_zhipu.images import ImageError, load_image, ppm

NOISE = Image.effect_noise((64, 48), 60).convert("RGB")
GREYS = np.asarray(NOISE.convert("L")).astype(int)


def plain(magic: str, max_value: int | None, values: Any, between: str = " ") -> bytes:
    head = f"{magic}\n64 48\n" + (f"{max_value}\n" if max_value else "")
    return (head + between.join(map(str, values))).encode()


@pytest.mark.parametrize("between", [" ", "\n", " # a comment\n", "\t#\r\n", "\n#\n#\n#\n"])
def test_comments_in_plain_files_are_skipped(between: str) -> None:
    data = plain("P2", 255, GREYS.reshape(-1), between)
    np.testing.assert_array_equal(np.asarray(load_image(data).convert("L")), GREYS)


def test_a_million_comments_are_skipped() -> None:
    data = plain("P3", 255, np.asarray(NOISE).reshape(-1)).replace(b"255\n", b"255\n" + b"#\n" * 1_000_000, 1)
    np.testing.assert_array_equal(np.asarray(load_image(data)), np.asarray(NOISE))


def test_a_comment_longer_than_a_block_is_skipped() -> None:
    data = plain("P2", 255, GREYS.reshape(-1)).replace(b"255\n", b"255\n#" + b"1 " * 2_000_000 + b"\n", 1)
    np.testing.assert_array_equal(np.asarray(load_image(data).convert("L")), GREYS)


@pytest.mark.parametrize("between", ["", " ", "#\n"])
def test_plain_bits_may_be_written_without_space(between: str) -> None:
    bits = (GREYS > 128).astype(int)
    data = plain("P1", None, bits.reshape(-1), between)
    # 1 is black.
    np.testing.assert_array_equal(np.asarray(load_image(data).convert("L")), (1 - bits) * 255)


@pytest.mark.parametrize("max_value", [1, 7, 100, 254, 255, 256, 1000, 65534, 65535])
@pytest.mark.parametrize("colours", [1, 3])
def test_values_are_scaled_like_in_pillow(max_value: int, colours: int) -> None:
    values = np.random.default_rng(0).integers(0, max_value + 1, (48, 64, colours))
    values[0, 0] = max_value
    raw = values.astype(">u2" if max_value > 255 else np.uint8).tobytes()
    binary = f"P{'5' if colours == 1 else '6'} 64 48 {max_value}\n".encode() + raw
    text = plain("P2" if colours == 1 else "P3", max_value, values.reshape(-1))
    for data in (binary, text):
        expected = Image.open(BytesIO(data))
        expected.load()
        np.testing.assert_array_equal(np.asarray(load_image(data)), np.asarray(load_image(expected)))


@pytest.mark.parametrize("values", [[256], [-1], ["x"], [10**30], ["1_0"], ["٣"]])
def test_invalid_values_are_refused(values: list[Any]) -> None:
    with pytest.raises(ImageError, match="is damaged: it holds values that no pixel can have"):
        load_image(plain("P2", 255, [*GREYS.reshape(-1)[1:], *values]))


def test_large_plain_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ppm, "MAX_PLAIN_BYTES", 1000)
    with pytest.raises(ImageError, match="more than 1,000 bytes of numbers as text; save it as a binary PPM or as PNG"):
        load_image(plain("P2", 255, GREYS.reshape(-1)))


def test_a_header_with_very_long_comments_is_refused() -> None:
    with pytest.raises(ImageError, match="has a header of more than 65,536 bytes; save it without comments"):
        load_image(b"P6\n#" + b"x" * 100_000 + b"\n64 48 255\n" + bytes(64 * 48 * 3))
    assert load_image(b"P6\n#" + b"x" * 60_000 + b"\n64 48 #\n255\n" + bytes(64 * 48 * 3)).size == (64, 48)


@pytest.mark.parametrize(
    "head", [b"P6", b"P6\n64", b"P5\n64 48", b"P2\n0 0 255\n1", b"P2\nx 1 255 1", b"P5 64 48 0\n1"]
)
def test_invalid_headers_are_refused(head: bytes) -> None:
    with pytest.raises(ImageError, match=r"is not an image|is damaged|has no pixels"):
        load_image(head)


def test_the_size_is_checked_before_decoding() -> None:
    for magic in ("P1", "P2", "P3", "P4", "P5", "P6"):
        with pytest.raises(ImageError, match="is too large to decode: 30000×10000 pixels"):
            load_image(f"{magic} 30000 10000 100\n".encode() + b"1 " * 100)
