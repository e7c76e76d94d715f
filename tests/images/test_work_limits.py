"""Small files that ask for a lot of work are refused, and each limit is far above what ordinary files need."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from llama_index_mm_zhipu.images import ImageError, containers, load_image, load_resized, streams

SIZE = (64, 48)
NOISE = Image.effect_noise(SIZE, 60).convert("RGB")
TOO_MANY = "has too many parts to be read in reasonable time; open it in an image editor"


def encoded(image_format: str, image: Image.Image = NOISE, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def inserted(data: bytes, position: int, piece: bytes) -> bytes:
    return data[:position] + piece + data[position:]


def empty_chunk(kind: bytes) -> bytes:
    return bytes(4) + kind + struct.pack(">I", zlib.crc32(kind))


def palette_end(data: bytes) -> int:
    return 13 + (3 << ((data[10] & 7) + 1))


def run_length_bitmap(runs: bytes, size: tuple[int, int] = SIZE) -> bytes:
    start = 54 + 1024
    head = b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start)
    return head + struct.pack("<IiiHHIIiiII", 40, *size, 1, 8, 1, len(runs), 0, 0, 256, 0) + bytes(1024) + runs


MANY_PARTS: dict[str, Callable[[int], bytes]] = {
    "PNG, chunks": lambda count: inserted(encoded("PNG"), 33, empty_chunk(b"abCd") * count),
    "PNG, empty pixels": lambda count: inserted(encoded("PNG"), 33, empty_chunk(b"IDAT") * count),
    "JPEG, comments": lambda count: inserted(encoded("JPEG"), 2, b"\xff\xfe\0\2" * count),
    "GIF, extensions": lambda count: inserted(encoded("GIF"), palette_end(encoded("GIF")), b"!\xfe\1x\0" * count),
    "GIF, parts of a comment": lambda count: inserted(
        encoded("GIF"), palette_end(encoded("GIF")), b"!\xfe" + b"\1x" * count + b"\0"
    ),
    "JPEG 2000, boxes": lambda count: inserted(encoded("JPEG2000"), 32, b"\0\0\0\x08free" * count),
}


@pytest.mark.parametrize("kind", MANY_PARTS)
def test_files_with_too_many_parts_are_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = MANY_PARTS[kind](5000)
    monkeypatch.setattr(streams, "MAX_READS", 3000)
    with pytest.raises(ImageError, match=TOO_MANY):
        load_image(data)
    # A few parts are accepted.
    assert load_image(MANY_PARTS[kind](1)).size == SIZE


def test_files_with_fifty_thousand_parts_are_accepted() -> None:
    assert load_image(MANY_PARTS["PNG, empty pixels"](50_000)).size == SIZE
    assert load_image(MANY_PARTS["JPEG, comments"](50_000)).size == SIZE


def test_run_length_encoded_bitmaps_have_a_limit_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    data = run_length_bitmap((b"\1\1" * 64 + b"\0\0") * 48)
    assert load_image(data).size == SIZE
    monkeypatch.setattr(streams, "MAX_BITMAP_READS", 1000)
    with pytest.raises(ImageError, match=TOO_MANY):
        load_image(data)


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = b"", order: str = "<") -> bytes:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    return head + b"".join(struct.pack(f"{order}HHII", *tag) for tag in sorted(tags)) + bytes(4) + data


BASIC_TAGS = [(256, 4, 1, 64), (257, 4, 1, 48), (258, 4, 1, 8), (259, 4, 1, 1), (262, 4, 1, 1), (277, 4, 1, 1)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_tags_that_share_their_data_load_or_are_refused(order: str) -> None:
    pixels = [(273, 4, 1, 8), (278, 4, 1, 48), (279, 4, 1, 64 * 48)]
    bomb = [(tag, 7, 900_000, 0) for tag in range(1000, 1100)]
    assert load_image(tiff([*BASIC_TAGS, *pixels], bytes(1_000_000), order)).size == SIZE
    # Newer versions of Pillow have a limit of their own.
    with suppress(ImageError):
        assert load_image(tiff([*BASIC_TAGS, *pixels, *bomb], bytes(1_000_000), order)).size == SIZE


def test_a_file_can_be_read_a_few_times_but_not_a_hundred() -> None:
    stream = streams.LimitedStream(BytesIO(bytes(10_000_000)), "bomb.tif")

    def read_whole() -> int:
        stream.seek(0)
        return len(stream.read())

    assert [read_whole() for _ in range(4)] == [10_000_000] * 4
    with pytest.raises(ImageError, match=f"^bomb.tif {TOO_MANY}"):
        [read_whole() for _ in range(100)]


@pytest.mark.parametrize("tag", [273, 324])
@pytest.mark.parametrize("order", ["<", ">"])
def test_too_many_tiles_are_refused(tag: int, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_TILES", 1000)
    data = tiff([*BASIC_TAGS, (tag, 4, 1001, 8)], bytes(8000), order)
    with pytest.raises(ImageError, match="it has 1,001 strips or tiles; save it with larger ones"):
        load_image(data)


def big_tiff(count: int) -> bytes:
    tags = struct.pack("<HHQQ", 324, 16, count, 8)
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 1) + tags + bytes(8)


def test_too_many_tiles_in_a_big_tiff_are_refused() -> None:
    with pytest.raises(ImageError, match="it has 3,000,000 strips or tiles"):
        load_image(big_tiff(3_000_000))


# JPEG


def repeated_scans(count: int, size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    data = encoded("JPEG", Image.new("RGB", size, "teal"), **{"progressive": True, **options})
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * count + b"\xff\xd9"


def test_a_jpeg_with_many_scans_is_refused() -> None:
    assert load_image(repeated_scans(50)).size == SIZE
    for count in (101, 5000):
        with pytest.raises(ImageError, match=r"it has 101 or more scans of 3,072 pixels; save it as a baseline JPEG"):
            load_image(repeated_scans(count))


def test_scans_are_limited_by_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    data = repeated_scans(20)
    monkeypatch.setattr(containers, "MAX_SCANNED_PIXELS", 31 * 64 * 48)
    assert load_resized(data, 8).size == (8, 8)
    monkeypatch.setattr(containers, "MAX_SCANNED_PIXELS", 20 * 64 * 48)
    with pytest.raises(ImageError, match="has 21 or more scans of 3,072 pixels"):
        load_resized(data, 8)


def test_scans_after_the_end_are_not_counted() -> None:
    data = encoded("JPEG", progressive=True)
    assert load_image(data + repeated_scans(500)).size == SIZE


def test_scans_after_a_comment_that_contains_an_end_marker_are_counted() -> None:
    data = encoded("JPEG", Image.new("RGB", SIZE, "teal"), progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = b"\xff\xfe\0\4\xff\xd9" + data[start:-2]
    with pytest.raises(ImageError, match="has 101 or more scans"):
        load_image(data[:start] + scan * 200 + b"\xff\xd9")


def test_scans_of_single_components_in_sequential_jpegs_are_counted() -> None:
    data = encoded("JPEG", Image.new("L", SIZE, 90))
    # A second component in the frame, which the scan does not have.
    frame = data.index(b"\xff\xc0")
    length = struct.unpack(">H", data[frame + 2 : frame + 4])[0]
    head = data[:frame] + b"\xff\xc0" + struct.pack(">H", length + 6) + data[frame + 4 : frame + 9]
    head += b"\3" + data[frame + 10 : frame + 13] + b"\2\x11\0\3\x11\0"
    rest = data[frame + 2 + length : -2]
    scan = rest[rest.index(b"\xff\xda") :]
    with pytest.raises(ImageError, match="has 101 or more scans"):
        load_image(head + rest + scan * 200 + b"\xff\xd9")


def test_large_run_length_encoded_bitmaps_are_refused() -> None:
    with pytest.raises(ImageError, match="it is a run-length encoded bitmap of 8000×8000 pixels; save it as PNG"):
        load_image(run_length_bitmap(b"\1\1\0\0" * 9000, (8000, 8000)))
