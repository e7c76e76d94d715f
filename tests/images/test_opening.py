"""Truncated files load with the pixels that are there and one warning, or are refused on request."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from llama_index_mm_zhipu.embedding.chinese_clip.vectors import image_pixels
from llama_index_mm_zhipu.images import ImageError, load_image, load_resized, open_image

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("RGB", "JPEG", {}),
    "grey JPEG": ("L", "JPEG", {}),
    "CMYK JPEG": ("CMYK", "JPEG", {}),
    "PNG": ("RGB", "PNG", {}),
    "palette PNG": ("P", "PNG", {}),
    "RGBA PNG": ("RGBA", "PNG", {}),
    "GIF": ("P", "GIF", {}),
    "WebP": ("RGB", "WEBP", {}),
    "lossless WebP": ("RGB", "WEBP", {"lossless": True}),
    "TIFF": ("RGB", "TIFF", {}),
    "PPM": ("RGB", "PPM", {}),
    "JPEG 2000 of tiles": ("RGB", "JPEG2000", {"tile_size": (32, 32), "irreversible": False}),
}


def encoded(mode: str, image_format: str, options: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    ramp = Image.linear_gradient("L").resize((240, 200)).rotate(90)
    image = Image.merge("RGB", [ramp, Image.effect_noise((240, 200), 80), ramp.rotate(180)])
    image.convert(mode).save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_load_with_a_warning(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    data = encoded(*KINDS[kind])
    whole = np.asarray(load_image(data))
    assert caplog.text == ""

    shown = np.asarray(load_image(data[: len(data) * 2 // 3]))

    np.testing.assert_array_equal(shown[:60], whole[:60])
    assert (shown != whole).any()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "is truncated: the missing part stays empty" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_refused_on_request(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = encoded(*KINDS[kind])
    path = tmp_path / "cut.img"
    path.write_bytes(data[: len(data) * 2 // 3])
    for load in (load_image, lambda source, **options: load_resized(source, 8, **options)):
        with pytest.raises(ImageError, match=r"cut\.img is damaged: image file is truncated.*; replace the file"):
            load(path, on_truncated="raise")
    assert caplog.text == ""
    assert load_image(data, on_truncated="raise").size == (240, 200)


@pytest.mark.parametrize("missing", [1, 2, 3, 50])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_without_its_last_bytes_looks_like_the_whole_one(
    missing: int, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    data = encoded("RGB", "JPEG", options)
    shown = np.asarray(load_image(data[:-missing])).astype(int)
    assert np.abs(shown - np.asarray(load_image(data)))[:180].mean() < 4
    assert len(caplog.records) == 1
    assert load_resized(data[:-missing], 32).size == (32, 32)


def test_a_progressive_jpeg_is_coarse_where_scans_are_missing() -> None:
    data = encoded("RGB", "JPEG", {"progressive": True})
    shown = np.asarray(load_image(data[: len(data) * 2 // 3])).astype(int)
    assert np.abs(shown - np.asarray(load_image(data))).mean() < 30


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_without_any_pixels_are_refused(kind: str) -> None:
    data = encoded(*KINDS[kind])
    pixels = {"JPEG": b"\xff\xda", "PNG": b"IDAT", "GIF": b",\0\0\0\0", "WEBP": b"VP8", "PPM": b"255\n"}
    start = data.index(mark) + len(mark) if (mark := pixels.get(KINDS[kind][1])) else 100
    if mark == pixels["JPEG"]:
        # The rest of the scan header.
        start += data[start + 1]
    with pytest.raises(ImageError, match=r"is damaged|is not an image"):
        load_image(data[:start])


def test_the_pixels_of_an_opened_truncated_file_can_be_used(caplog: pytest.LogCaptureFixture) -> None:
    data = encoded("RGB", "PNG", {})
    with open_image(data[:-20_000]) as image:
        assert image.convert("L").getextrema()[1] > 0
        assert np.asarray(image).any()
        assert image.resize((9, 9)).size == (9, 9)
    assert len(caplog.records) == 1


def test_wrong_bytes_are_not_taken_for_a_missing_end() -> None:
    data = bytearray(encoded("RGB", "PNG", {}))
    data[30_000:32_000] = b"\xff" * 2000
    with pytest.raises(ImageError, match="is damaged"):
        load_image(bytes(data))


def test_pixels_for_models_respect_on_truncated() -> None:
    cut = encoded("RGB", "JPEG", {})[:-500]
    for exact in (False, True):
        assert image_pixels(cut, 16, exact=exact).shape == (3, 16, 16)
        with pytest.raises(ImageError, match="is truncated"):
            image_pixels(cut, 16, exact=exact, on_truncated="raise")


def test_global_settings_of_pillow_are_not_changed() -> None:
    load_image(encoded("RGB", "PNG", {})[:-20_000])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_other_values_of_on_truncated_are_refused() -> None:
    with pytest.raises(ValueError, match="on_truncated is 'ignore'; it must be 'warn' or 'raise'"):
        load_image(b"", on_truncated="ignore")  # type: ignore[arg-type]
