"""Metadata of any size are ignored, except for the orientation, which is found in all its forms."""

from __future__ import annotations

import base64
import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from llama_index_mm_zhipu.images import ImageError, load_image, load_resized, open_image, orientation_of

SIZE = (64, 48)
MEGABYTE = 1 << 20
NOISE = Image.effect_noise(SIZE, 60).convert("RGB")


def encoded(image_format: str, image: Image.Image = NOISE, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, behind: bytes = b"") -> bytes:
    data = encoded("PNG")
    end = len(data) - 12
    return data[:33] + b"".join(chunks) + data[33:end] + behind + data[end:]


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(*segments: bytes) -> bytes:
    data = encoded("JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def icon_with(png: bytes) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 64, 48, 0, 0, 1, 32, len(png), 22) + png


def profile(size: int) -> bytes:
    return chunk(b"iCCP", b"print\0\0" + zlib.compress(os.urandom(size)))


LARGE: dict[str, Callable[[], bytes]] = {
    "PNG, profile": lambda: png_with(profile(3 * MEGABYTE)),
    "PNG, profile that is a bomb": lambda: png_with(chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(300 * MEGABYTE)))),
    "PNG, text": lambda: png_with(chunk(b"tEXt", b"Comment\0" + b"x" * 3 * MEGABYTE)),
    "PNG, text that is a bomb": lambda: png_with(chunk(b"zTXt", b"C\0\0" + zlib.compress(bytes(300 * MEGABYTE)))),
    "PNG, international text": lambda: png_with(
        chunk(b"iTXt", b"C\0\1\0\0\0" + zlib.compress(os.urandom(2 * MEGABYTE)))
    ),
    "PNG, a hundred texts of a megabyte": lambda: png_with(
        *[chunk(b"zTXt", b"C\0\0" + zlib.compress(bytes(MEGABYTE)))] * 100
    ),
    "PNG, XMP that is a bomb": lambda: png_with(
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(300 * MEGABYTE)))
    ),
    "PNG, text behind the pixels": lambda: png_with(behind=chunk(b"tEXt", b"C\0" + b"x" * 3 * MEGABYTE)),
    "PNG, wrong checksum in a text": lambda: png_with(chunk(b"tEXt", b"C\0x")[:-4] + b"1234"),
    "icon, profile": lambda: icon_with(png_with(profile(3 * MEGABYTE))),
    "JPEG, profile": lambda: jpeg_with(
        *[segment(0xE2, b"ICC_PROFILE\0" + bytes([part, 50]) + os.urandom(65_000)) for part in range(1, 51)]
    ),
    "JPEG, EXIF data in 500 segments": lambda: jpeg_with(*[segment(0xE1, b"Exif\0\0MM\0*" + bytes(65_000))] * 500),
    "JPEG, 20,000 comments": lambda: jpeg_with(*[segment(0xFE, b"")] * 20_000),
    "JPEG, pages that are not there": lambda: jpeg_with(segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\0\1garbage")),
    "GIF, comment": lambda: gif_with(b"!\xfe" + (b"\xff" + b"x" * 255) * 8000 + b"\0"),
}


def gif_with(extension: bytes) -> bytes:
    data = encoded("GIF")
    start = 13 + (3 << ((data[10] & 7) + 1))
    return data[:start] + extension + data[start:]


@pytest.mark.parametrize("kind", LARGE)
def test_metadata_of_any_size_are_ignored(kind: str) -> None:
    data = LARGE[kind]()
    plain = {"PNG": "PNG", "ico": "PNG", "JPE": "JPEG", "GIF": "GIF"}[kind[:3]]
    np.testing.assert_array_equal(np.asarray(load_image(data)), np.asarray(load_image(encoded(plain))))
    assert load_resized(data, 16).size == (16, 16)


def test_limits_of_pillow_are_not_changed() -> None:
    before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    load_image(png_with(profile(2 * MEGABYTE)))
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
    with pytest.raises(ValueError, match=r"(?i)too large"):
        Image.open(BytesIO(png_with(profile(2 * MEGABYTE))))


# Orientation

EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
RAW_PROFILE = b"\nexif\n" + b"%8d\n" % len(EXIF) + EXIF.hex().encode() + b"\n"

TURNED: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: jpeg_with(segment(0xE1, EXIF)),
    "JPEG, little-endian": lambda: encoded("JPEG", exif=little_endian_exif()),
    "JPEG, XMP": lambda: jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    "PNG": lambda: png_with(chunk(b"eXIf", EXIF[6:])),
    "PNG, behind the pixels": lambda: png_with(behind=chunk(b"eXIf", EXIF[6:])),
    "PNG, ImageMagick": lambda: png_with(chunk(b"tEXt", b"Raw profile type exif\0" + RAW_PROFILE)),
    "PNG, ImageMagick, compressed": lambda: png_with(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW_PROFILE))
    ),
    "PNG, XMP": lambda: png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "PNG, XMP, compressed": lambda: png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
    "WebP": lambda: encoded("WEBP", exif=EXIF),
    "TIFF": lambda: encoded("TIFF", tiffinfo={0x0112: 6}),
    **({"AVIF": lambda: encoded("AVIF", exif=EXIF)} if features.check("avif") else {}),
}


def little_endian_exif() -> Image.Exif:
    exif = Image.Exif()
    exif.endian = "<"
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("kind", TURNED)
def test_the_orientation_is_found_in_all_its_forms(kind: str) -> None:
    data = TURNED[kind]()
    assert load_image(data).size == (48, 64)
    if kind == "JPEG, XMP":
        # Older versions of Pillow drop XMP.
        return
    with Image.open(BytesIO(data)) as given:
        given.load()
        assert load_image(given).size == (48, 64)


def test_a_changed_orientation_of_a_given_image_is_used() -> None:
    given = Image.open(BytesIO(TURNED["PNG"]()))
    given.getexif()[0x0112] = 1
    assert load_image(given).size == SIZE


def exif_bomb() -> bytes:
    """Return EXIF data with 65,535 tags that all point to the same half megabyte."""
    count = 65_535
    tags = b"".join(struct.pack(">HHII", tag, 7, 500_000, 0) for tag in range(count))
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", count) + tags + bytes(4)


def test_only_the_orientation_is_read_from_exif_data(monkeypatch: pytest.MonkeyPatch) -> None:
    # All of it would fill 30 GB.
    monkeypatch.setattr(Image.Exif, "load", lambda *_: pytest.fail("reads all EXIF data"))
    for data in (png_with(chunk(b"eXIf", exif_bomb())), encoded("WEBP", exif=b"Exif\0\0" + exif_bomb())):
        assert load_image(data).size == SIZE
    assert load_image(jpeg_with(segment(0xE1, b"Exif\0\0" + exif_bomb()[:60_000]))).size == SIZE


@pytest.mark.skipif(not features.check("avif"), reason="needs AVIF")
def test_exif_data_in_avif_is_hidden_from_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = encoded("AVIF", exif=EXIF)
    monkeypatch.setattr(Image.Exif, "load", lambda *_: pytest.fail("reads all EXIF data"))
    with open_image(turned) as image:
        assert image.size == SIZE


@pytest.mark.parametrize("exif", ["text", None, 5, b"Exif\0\0", EXIF[:20], b"II*\0\xff\xff\xff\xff"])
def test_invalid_exif_data_means_upright(exif: object) -> None:
    image = NOISE.copy()
    image.info["exif"] = exif
    assert orientation_of(image) == 1


def test_a_base64_image_with_a_large_profile_loads() -> None:
    text = base64.b64encode(png_with(profile(2 * MEGABYTE))).decode()
    assert load_image(f"data:image/png;base64,{text}").size == SIZE


def test_a_png_without_pixels_is_refused() -> None:
    data = png_with()
    with pytest.raises(ImageError, match="is damaged: it ends before its pixels"):
        load_image(data[: data.index(b"IDAT") - 4])
