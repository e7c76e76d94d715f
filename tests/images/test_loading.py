"""``load_resized`` and ``load_within`` give nearly the pixels of the whole image made smaller, in less memory."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llama_index_mm_zhipu.images import ImageError, encode_image, load_image, load_resized, load_within, read_bytes

SIDE = 64


def reference(source: Any, side: int = SIDE) -> np.ndarray:
    return np.asarray(load_image(source).resize((side, side), Image.Resampling.BICUBIC)).astype(int)


def resized(source: Any, side: int = SIDE) -> np.ndarray:
    return np.asarray(load_resized(source, side)).astype(int)


def photo_as(photo: Path, mode: str, size: tuple[int, int]) -> Image.Image:
    image = Image.open(photo).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    if mode in ("RGBA", "LA", "PA"):
        image = image.convert("RGBA")
        image.putalpha(Image.radial_gradient("L").resize(size).point(lambda value: 255 - value))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("size", [(20, 15), (64, 64), (250, 190), (5, 300)])
def test_images_up_to_a_few_times_the_target_size_are_resized_exactly(
    photos: list[Path], mode: str, size: tuple[int, int]
) -> None:
    image = photo_as(photos[0], mode if mode != "I;16" else "I", size).convert(mode)
    np.testing.assert_array_equal(resized(image), reference(image))


def test_jpegs_up_to_a_few_times_the_target_size_are_resized_exactly(photos: list[Path]) -> None:
    data = encode_image(photo_as(photos[0], "RGB", (250, 255)))
    np.testing.assert_array_equal(resized(data), reference(data))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "PA", "CMYK", "YCbCr", "F"])
@pytest.mark.parametrize("size", [(1500, 1101), (1501, 90), (90, 1503)])
def test_large_images_are_resized_nearly_exactly(photos: list[Path], mode: str, size: tuple[int, int]) -> None:
    image = photo_as(photos[0], mode, size)
    difference = np.abs(resized(image) - reference(image))
    assert difference.mean() < 1
    assert difference.max() < 24


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_large_jpegs_are_resized_nearly_exactly(photos: list[Path], options: dict[str, Any]) -> None:
    buffer = BytesIO()
    photo_as(photos[0], "RGB", (1500, 1101)).save(buffer, "JPEG", quality=90, **options)
    assert np.abs(resized(buffer.getvalue()) - reference(buffer.getvalue())).mean() < 2


def test_a_large_jpeg_is_decoded_at_no_less_than_twice_the_target_size(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[int, int]] = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda image, *given, **options: decoded.append(image.size) or resize(image, *given, **options),
    )
    data = encode_image(photo_as(photos[0], "RGB", (1500, 1101)))
    decoded.clear()
    load_resized(data, SIDE)
    assert decoded[0] == (188, 138)


@pytest.mark.parametrize("size", [(100, 80), (1500, 1101)])
def test_the_colour_of_transparent_pixels_does_not_bleed(size: tuple[int, int]) -> None:
    image = Image.new("RGBA", size, (255, 0, 255, 0))
    image.paste((0, 128, 0, 255), (0, 0, size[0] // 2, size[1]))
    red, green, blue = resized(image).reshape(-1, 3).T
    # A mixture of green and white has no more red or blue than green.
    assert (red <= green + 2).all()
    assert (blue <= green + 2).all()


def test_deep_greys_are_scaled_by_the_brightest_pixel_of_all() -> None:
    """Scaling each band on its own would treat the dark upper part as 8-bit."""
    values = np.full((3000, 400), 200, dtype=np.uint16)
    values[2900:] = 60_000
    square = resized(Image.fromarray(values))
    assert square[:50].max() == 0
    assert abs(int(square[-1].min()) - 60_000 // 257) <= 8


def test_a_given_image_is_not_changed(photos: list[Path]) -> None:
    image = Image.open(photos[0])
    load_resized(image, 16)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(photos[0])))


def test_a_damaged_file_is_named(photos: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photos[0].read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"cut\.jpg is damaged: image file is truncated"):
        load_resized(cut, SIDE, on_truncated="raise")
    with pytest.raises(ImageError, match=r"cut\.jpg is damaged: image file is truncated"):
        load_within(cut, SIDE, on_truncated="raise")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "JPEG"])
@pytest.mark.parametrize("size", [(1500, 1101), (1501, 90), (90, 1503), (40, 30)])
def test_images_are_reduced_to_fit_into_a_square(photos: list[Path], mode: str, size: tuple[int, int]) -> None:
    image = photo_as(photos[0], "RGB" if mode == "JPEG" else mode, size)
    source = encode_image(image) if mode == "JPEG" else image
    expected = load_image(source)
    expected.thumbnail((SIDE, SIDE))
    reduced = load_within(source, SIDE)
    assert (reduced.mode, reduced.size) == ("RGB", expected.size)
    # A strip of four rows is most affected by rounding.
    assert np.abs(np.asarray(reduced).astype(int) - np.asarray(expected).astype(int)).mean() < 5
    assert image.size == size


def test_a_reduced_image_is_upright() -> None:
    image = Image.new("RGB", (800, 200), "red")
    image.paste("blue", (0, 0, 200, 200))
    exif = Image.Exif()
    # The camera was turned: the left edge is at the top.
    exif[0x0112] = 6
    buffer = BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    reduced = load_within(buffer.getvalue(), 80)
    assert reduced.size == (20, 80)
    top: Any = reduced.getpixel((10, 5))
    assert top[2] > 200 > top[0]
    assert not reduced.getexif()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_an_encoded_image_is_upright(mode: str, image_format: str) -> None:
    photograph = Image.new("RGB", (40, 20), "white")
    photograph.paste("black", (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    photograph.convert(mode).save(buffer, "JPEG", exif=exif)
    encoded = Image.open(BytesIO(encode_image(Image.open(buffer), image_format)))
    assert encoded.size == (20, 40)
    assert not encoded.getexif()
    top, bottom = (encoded.convert("L").getpixel((10, row)) for row in (2, 37))
    assert top < 50 < 200 < bottom
    assert load_image(read_bytes(Image.open(buffer))).size == (20, 40)


PEAK = """
import sys
from PIL import Image
from llama_index_mm_zhipu.images import load_resized

def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

load_resized(Image.new("RGBA", (99, 99)), 8)
before = peak()
for path in sys.argv[1:]:
    load_resized(path, 224)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_second_image_of_full_size_is_in_memory(tmp_path: Path) -> None:
    # Each decoded image takes 44 MB; a palette image needs four times the pixels for that.
    sizes = {"RGB": (3840, 2880), "RGBA": (3840, 2880), "LA": (3840, 2880), "CMYK": (3840, 2880), "P": (7680, 5760)}
    paths = [tmp_path / f"{mode}.tif" for mode in sizes]
    for path, (mode, size) in zip(paths, sizes.items(), strict=True):
        Image.new(mode, size).save(path, compression="tiff_lzw")

    used = subprocess.run([sys.executable, "-c", PEAK, *paths], check=True, capture_output=True, text=True).stdout

    assert int(used) < 44_236_800 * 1.4
