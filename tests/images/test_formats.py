"""Images of every format and mode load with the right colours; other files are refused with the reason."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from llama_index_mm_zhipu.images import ImageError, load_image, load_resized

SIZE = (64, 48)
COLOURS = [(210, 40, 30), (40, 170, 60), (30, 60, 200), (230, 210, 40)]
"""Colours of the quarters: upper left, upper right, lower left, lower right."""

GREYS = [(10,) * 3, (90,) * 3, (170,) * 3, (250,) * 3]
WHITE = (255, 255, 255)


def quarters(colours: list[Any], size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """Return an image whose quarters have these colours."""
    width, height = size
    image = Image.new(mode, size, colours[0])
    image.paste(colours[1], (width // 2, 0, width, height))
    image.paste(colours[2], (0, height // 2, width, height))
    image.paste(colours[3], (width // 2, height // 2, width, height))
    return image


def quarter_colours(image: Image.Image) -> np.ndarray:
    """Return the colours in the middle of the quarters."""
    width, height = image.size
    middles = [(x * width // 4, y * height // 4) for y in (1, 3) for x in (1, 3)]
    return np.array([image.getpixel(middle) for middle in middles])


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    # A copy, because Pillow stores the settings of one format in the image and uses them for the next.
    image.copy().save(buffer, image_format, **options)
    return buffer.getvalue()


IMAGE = quarters(COLOURS)
GREY = quarters([grey[0] for grey in GREYS], mode="L")
BLACK = Image.new("RGB", SIZE)
# The second quarter is transparent, with a colour that must not be visible.
GLASS = quarters([(*COLOURS[0], 255), (255, 0, 255, 0), (*COLOURS[2], 255), (*COLOURS[3], 255)], mode="RGBA")
GREY_GLASS = quarters([(10, 255), (90, 0), (170, 255), (250, 255)], mode="LA")
ON_WHITE = [COLOURS[0], WHITE, *COLOURS[2:]]
GREYS_ON_WHITE = [GREYS[0], WHITE, *GREYS[2:]]


def glass_palette() -> Image.Image:
    palette = quarters([0, 1, 2, 3], mode="P")
    palette.putpalette([value for colour in COLOURS for value in colour])
    return palette


def deep(values: list[float], dtype: str) -> Image.Image:
    levels = np.asarray(quarters([0, 1, 2, 3], mode="L"))
    return Image.fromarray(np.array(values, dtype=dtype)[levels])


def ycck() -> bytes:
    """Return a CMYK JPEG with its first three channels stored as luminance and chrominance, as Photoshop does."""
    *colours, black = IMAGE.convert("CMYK").split()
    stored = Image.merge("RGB", colours).convert("YCbCr").point(lambda value: 255 - value).split()
    data = encoded(Image.merge("CMYK", [*stored, black]), "JPEG", quality=95, subsampling=0)
    marker = data.index(b"Adobe")
    return data[: marker + 11] + b"\x02" + data[marker + 12 :]


def sixteen_bit_rgb_png() -> bytes:
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in np.asarray(IMAGE).astype(int) * 257)
    return png((*SIZE, 16, 2), rows)


def png(header: tuple[int, int, int, int], rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG file from width, height, bits and colour type, from filtered rows and from further chunks."""
    parts = [(b"IHDR", struct.pack(">IIBBxxx", *header)), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def animated(image_format: str, **options: Any) -> bytes:
    return encoded(IMAGE, image_format, save_all=True, append_images=[BLACK.copy()], **options)


Kind = tuple[Callable[[], bytes], list[tuple[int, ...]], int]
"""Function that makes the file, colours of its quarters, and tolerance of each channel."""

KINDS: dict[str, Kind] = {
    "JPEG": (lambda: encoded(IMAGE, "JPEG", quality=95), COLOURS, 8),
    "progressive JPEG": (lambda: encoded(IMAGE, "JPEG", progressive=True), COLOURS, 8),
    "grey JPEG": (lambda: encoded(GREY, "JPEG", quality=95), GREYS, 8),
    "CMYK JPEG": (lambda: encoded(IMAGE.convert("CMYK"), "JPEG", quality=95), COLOURS, 8),
    "YCCK JPEG": (ycck, COLOURS, 8),
    "MPO": (lambda: animated("MPO", quality=95), COLOURS, 8),
    "PNG": (lambda: encoded(IMAGE, "PNG"), COLOURS, 0),
    "grey PNG": (lambda: encoded(GREY, "PNG"), GREYS, 0),
    "1-bit PNG": (
        lambda: encoded(quarters([0, 1, 1, 0], mode="1"), "PNG"),
        [(0,) * 3, WHITE, WHITE, (0,) * 3],
        0,
    ),
    "16-bit grey PNG": (lambda: encoded(deep([2570, 23130, 43690, 64250], "u2"), "PNG"), GREYS, 1),
    "dark 16-bit grey PNG": (lambda: encoded(deep([10, 90, 170, 250], "u2"), "PNG"), GREYS, 1),
    "16-bit RGB PNG": (sixteen_bit_rgb_png, COLOURS, 1),
    "RGBA PNG": (lambda: encoded(GLASS, "PNG"), ON_WHITE, 0),
    "grey PNG with alpha": (lambda: encoded(GREY_GLASS, "PNG"), GREYS_ON_WHITE, 0),
    "palette PNG": (lambda: encoded(glass_palette(), "PNG"), COLOURS, 0),
    "palette PNG, one entry transparent": (lambda: encoded(glass_palette(), "PNG", transparency=1), ON_WHITE, 0),
    "palette PNG with alpha": (
        lambda: encoded(glass_palette(), "PNG", transparency=bytes([255, 0, 255, 255])),
        ON_WHITE,
        0,
    ),
    "RGB PNG, one colour transparent": (
        lambda: encoded(IMAGE, "PNG", transparency=COLOURS[1]),
        ON_WHITE,
        0,
    ),
    "grey PNG, one grey transparent": (lambda: encoded(GREY, "PNG", transparency=90), GREYS_ON_WHITE, 0),
    "APNG": (lambda: animated("PNG"), COLOURS, 0),
    "GIF": (lambda: encoded(IMAGE, "GIF"), COLOURS, 2),
    "transparent GIF": (lambda: encoded(glass_palette(), "GIF", transparency=1), ON_WHITE, 0),
    "animated GIF": (lambda: animated("GIF"), COLOURS, 2),
    "WebP": (lambda: encoded(IMAGE, "WEBP", quality=95), COLOURS, 16),
    "lossless WebP": (lambda: encoded(IMAGE, "WEBP", lossless=True), COLOURS, 0),
    "WebP with alpha": (lambda: encoded(GLASS, "WEBP", lossless=True), ON_WHITE, 0),
    "lossy WebP with alpha": (lambda: encoded(GLASS, "WEBP", quality=95), ON_WHITE, 16),
    "animated WebP": (lambda: animated("WEBP", lossless=True), COLOURS, 0),
    "BMP": (lambda: encoded(IMAGE, "BMP"), COLOURS, 0),
    "palette BMP": (lambda: encoded(glass_palette(), "BMP"), COLOURS, 0),
    "1-bit BMP": (lambda: encoded(quarters([0, 1, 1, 0], mode="1"), "BMP"), [(0,) * 3, WHITE, WHITE, (0,) * 3], 0),
    "DIB": (lambda: encoded(IMAGE, "DIB"), COLOURS, 0),
    "TIFF": (lambda: encoded(IMAGE, "TIFF"), COLOURS, 0),
    "TIFF, LZW": (lambda: encoded(IMAGE, "TIFF", compression="tiff_lzw"), COLOURS, 0),
    "TIFF, JPEG": (lambda: encoded(IMAGE, "TIFF", compression="jpeg", quality=95), COLOURS, 8),
    "TIFF of pages": (lambda: animated("TIFF"), COLOURS, 0),
    "CMYK TIFF": (lambda: encoded(IMAGE.convert("CMYK"), "TIFF"), COLOURS, 1),
    "RGBA TIFF": (lambda: encoded(GLASS, "TIFF"), ON_WHITE, 0),
    "16-bit TIFF": (lambda: encoded(deep([2570, 23130, 43690, 64250], "u2"), "TIFF"), GREYS, 1),
    "big-endian 16-bit TIFF": (
        lambda: encoded(deep([2570, 23130, 43690, 64250], "u2"), "TIFF", big_endian=True),
        GREYS,
        1,
    ),
    "32-bit TIFF": (lambda: encoded(deep([2570, 23130, 43690, 64250], "i4"), "TIFF"), GREYS, 1),
    "float TIFF": (lambda: encoded(deep([10, 90, 170, 250], "f4"), "TIFF"), GREYS, 1),
    "float TIFF from 0 to 1": (lambda: encoded(deep([0.04, 0.354, 0.668, 0.982], "f4"), "TIFF"), GREYS, 1),
    "float TIFF with holes": (lambda: encoded(deep([float("nan"), 90, 170, 250], "f4"), "TIFF"), GREYS, 10),
    "ICO": (lambda: encoded(IMAGE.resize((64, 64), 0), "ICO", sizes=[(64, 64)]), COLOURS, 0),
    "bitmap ICO": (
        lambda: encoded(IMAGE.resize((32, 32), 0), "ICO", sizes=[(32, 32)], bitmap_format="bmp"),
        COLOURS,
        0,
    ),
    "PPM": (lambda: encoded(IMAGE, "PPM"), COLOURS, 0),
    "PGM": (lambda: encoded(GREY, "PPM"), GREYS, 0),
    "16-bit PGM": (
        lambda: b"P5 64 48 65535\n" + np.asarray(deep([2570, 23130, 43690, 64250], "u2")).astype(">u2").tobytes(),
        GREYS,
        1,
    ),
    "JPEG 2000": (lambda: encoded(IMAGE, "JPEG2000", irreversible=False), COLOURS, 2),
    **(
        {
            "AVIF": (lambda: encoded(IMAGE, "AVIF", quality=95), COLOURS, 16),
            "AVIF with alpha": (lambda: encoded(GLASS, "AVIF", quality=95), ON_WHITE, 16),
        }
        if features.check("avif")
        else {}
    ),
    "long strip": (lambda: encoded(quarters(COLOURS, (10_000, 10)), "PNG"), COLOURS, 0),
    "high strip": (lambda: encoded(quarters(COLOURS, (10, 10_000)), "PNG"), COLOURS, 0),
    "one pixel": (lambda: encoded(Image.new("RGB", (1, 1), COLOURS[0]), "PNG"), [COLOURS[0]] * 4, 0),
    "8K slide": (lambda: encoded(quarters(COLOURS, (7680, 4320)), "PNG", compress_level=1), COLOURS, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_loads_with_the_right_colours(kind: str) -> None:
    make, colours, tolerance = KINDS[kind]
    data = make()

    whole = load_image(data)
    assert whole.mode == "RGB"
    np.testing.assert_allclose(quarter_colours(whole), colours, atol=tolerance)
    for side in (8, 224):
        square = load_resized(data, side)
        assert (square.mode, square.size) == ("RGB", (side, side))
        # Resizing overshoots a little at edges.
        np.testing.assert_allclose(quarter_colours(square), colours, atol=tolerance + 6)


MODES: dict[str, tuple[Callable[[], Image.Image], list[tuple[int, ...]]]] = {
    "La": (lambda: GREY_GLASS.convert("La"), GREYS_ON_WHITE),
    "RGBa": (lambda: GLASS.convert("RGBa"), ON_WHITE),
    "RGBX": (lambda: IMAGE.convert("RGBX"), COLOURS),
    "PA": (lambda: glass_pa(), ON_WHITE),
    "I": (lambda: deep([10, 90, 170, 250], "i4"), GREYS),
    "F": (lambda: deep([10, 90, 170, 250], "f4"), GREYS),
    "YCbCr": (lambda: IMAGE.convert("YCbCr"), COLOURS),
    "HSV": (lambda: IMAGE.convert("HSV"), COLOURS),
    "CMYK": (lambda: IMAGE.convert("CMYK"), COLOURS),
}


def glass_pa() -> Image.Image:
    image = glass_palette().convert("PA")
    image.putalpha(GLASS.getchannel("A"))
    return image


@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_mode_load_and_are_not_changed(mode: str) -> None:
    make, colours = MODES[mode]
    image = make()
    assert image.mode == mode
    before = image.tobytes()

    for loaded in (load_image(image), load_resized(image, 8), load_resized(image, 224)):
        np.testing.assert_allclose(quarter_colours(loaded), colours, atol=6)
    assert (image.mode, image.tobytes()) == (mode, before)


# Transposition that stores an upright image for each value of the EXIF orientation.
TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_load_upright(image_format: str, orientation: int) -> None:
    turn = TURNED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(IMAGE if turn is None else IMAGE.transpose(turn), image_format, exif=exif)

    whole = load_image(data)
    assert whole.size == SIZE
    assert not whole.getexif()
    for image in (whole, load_resized(data, 8), load_resized(data, 224)):
        np.testing.assert_allclose(quarter_colours(image), COLOURS, atol=20)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0"])
def test_damaged_exif_data_is_ignored(exif: bytes) -> None:
    data = encoded(IMAGE, "JPEG", quality=95, exif=exif)
    for image in (load_image(data), load_resized(data, 8)):
        np.testing.assert_allclose(quarter_colours(image), COLOURS, atol=16)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def loop(path: Path) -> None:
    path.symlink_to(path)


def large_gif_frame(path: Path) -> None:
    """Write a GIF with a frame that is far larger than the screen."""
    data = bytearray(encoded(IMAGE.convert("P"), "GIF"))
    frame = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[frame + 5 : frame + 9] = struct.pack("<HH", 20_000, 10_000)
    path.write_bytes(data)


def large_image_in_icon(path: Path) -> None:
    bomb = png((20_000, 10_000, 8, 0), b"")
    path.write_bytes(struct.pack("<HHHBBBBHHII", 0, 1, 1, 64, 64, 0, 0, 1, 32, len(bomb), 22) + bomb)


def write(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)

REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, r"^no such image: .*; check the path$"),
    "empty": (write(b""), r"is empty; replace the file"),
    "text": (write(b"this is no image"), r"is not an image that Pillow can read; .*JPEG, PNG, GIF"),
    "web page": (write(b"<!DOCTYPE html><html></html>"), "is not an image"),
    "SVG": (write(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), "is not an image"),
    "PDF": (write(b"%PDF-1.7\n"), "is not an image"),
    "PostScript": (write(POSTSCRIPT), "is not an image"),
    "PSD": (write(b"8BPS\x00\x01" + bytes(40)), "is not an image"),
    "HEIC": (write(HEIC), r"is a HEIC image: pip install pillow-heif"),
    "folder": (lambda path: path.mkdir(), "^cannot read the image .*: it is a folder, not a file$"),
    "named pipe": (pipe, "it is a named pipe, not a file"),
    "socket": (bound_socket, "it is a socket, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "symlink loop": (loop, "symbolic links"),
    "broken symlink": (lambda path: path.symlink_to("gone"), "no such image"),
    "bomb": (write(png((30_000, 10_000, 8, 0), b"")), r"is too large to decode: 30000×10000 pixels.*MAX_IMAGE_PIXELS"),
    "just over the limit": (write(png((9_460, 9_460, 8, 0), b"")), "is too large to decode"),
    "bomb in a GIF": (large_gif_frame, "is too large to decode: 20000×10000"),
    "bomb in an icon": (large_image_in_icon, "is too large to decode: 20000×10000"),
    "JPEG's first bytes": (write(encoded(IMAGE, "JPEG")[:20]), "is not an image"),
    "PNG's first bytes": (write(encoded(IMAGE, "PNG")[:20]), "is damaged: it ends before its pixels"),
}


@pytest.mark.skipif(os.name != "posix", reason="needs Unix pipes, sockets and symlinks")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", REFUSED)
def test_other_files_are_refused_with_name_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    make, reason = REFUSED[kind]
    # A relative path, because the path of a socket must be short.
    monkeypatch.chdir(tmp_path)
    path = Path("image.jpg")
    make(path)

    for load in (load_image, lambda source: load_resized(source, 32)):
        with pytest.raises(ImageError, match=reason) as caught:
            load(path)
        assert "image.jpg" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\0b.jpg", r"cannot read the image .*a\\x00b\.jpg: a file name cannot contain NUL"),
        ("x" * 5000 + ".jpg", "cannot read the image .*x…x.*: File name too long"),
        ("two\nlines.jpg", r"no such image: .*two\\nlines\.jpg"),
        ("\udcff.jpg", r"no such image: .*\\udcff\.jpg"),
    ],
)
def test_odd_file_names_are_shown_in_one_short_line(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        load_image(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root can read everything")
def test_files_without_read_permission_are_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(IMAGE, "PNG"))
    path.chmod(0)
    with pytest.raises(ImageError, match=r"cannot read the image .*secret\.png: Permission denied"):
        load_image(path)


@pytest.mark.filterwarnings("error")
def test_the_limit_of_pixels_is_that_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(IMAGE, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48)
    assert load_image(data).size == SIZE
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    with pytest.raises(ImageError, match=r"64×48 pixels, of which PIL\.Image\.MAX_IMAGE_PIXELS allows 3071"):
        load_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load_image(data).size == SIZE
