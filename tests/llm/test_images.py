"""Images are sent in a form that the API accepts, re-encoded only if needed and only once."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ImageBlock
from PIL import Image

from llama_index_mm_zhipu.images import ImageError, UrlRules
from llama_index_mm_zhipu.llm import images
from llama_index_mm_zhipu.llm.images import MAX_ENCODED_BYTES, image_block, image_url


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def sent(data: bytes, **options: Any) -> Image.Image:
    """Return the image as the API receives it."""
    return Image.open(BytesIO(base64.b64decode(image_url(ImageBlock(image=data), **options), validate=True)))


FETCHED = UrlRules(allowed=True, allow_private=True)
RED = Image.new("RGB", (40, 20), "red")


@pytest.mark.parametrize(
    "data",
    [
        encoded(RED, "JPEG"),
        encoded(RED, "PNG"),
        encoded(RED.convert("L"), "JPEG"),
        encoded(RED.convert("P"), "PNG"),
        encoded(RED.convert("1"), "PNG"),
    ],
)
def test_files_that_the_api_accepts_are_sent_unchanged(data: bytes) -> None:
    assert base64.b64decode(image_url(ImageBlock(image=data))) == data


def test_the_format_is_read_from_the_content_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(RED, "WEBP"))
    with Image.open(BytesIO(base64.b64decode(image_url(ImageBlock(path=path))))) as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize(
    ("image", "image_format"),
    [
        (RED.convert("RGBA"), "PNG"),
        (RED.convert("LA"), "PNG"),
        (RED.convert("CMYK"), "JPEG"),
        (Image.new("I;16", (40, 20), 65535), "PNG"),
        (RED, "WEBP"),
        (RED, "GIF"),
        (RED, "BMP"),
        (RED, "TIFF"),
    ],
)
def test_other_formats_and_modes_become_an_rgb_jpeg(image: Image.Image, image_format: str) -> None:
    received = sent(encoded(image, image_format))
    assert (received.format, received.mode, received.size) == ("JPEG", "RGB", (40, 20))


def test_transparency_becomes_white() -> None:
    palette = encoded(Image.new("P", (4, 4), 0), "PNG", transparency=0)
    assert sent(palette).getpixel((0, 0)) == (255, 255, 255)


def test_images_are_rotated_by_their_exif_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert sent(encoded(RED, "JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize(
    ("size", "options", "expected"), [((7000, 70), {}, 6000), ((400, 300), {"max_side": 100}, 100)]
)
def test_large_images_are_shrunk(size: tuple[int, int], options: dict[str, int], expected: int) -> None:
    assert max(sent(encoded(Image.new("RGB", size, "red"), "PNG"), **options).size) == expected


def test_heavy_images_are_shrunk_below_five_megabytes() -> None:
    noise = encoded(Image.effect_noise((2600, 2600), 100), "PNG")
    assert len(noise) > MAX_ENCODED_BYTES
    url = image_url(ImageBlock(image=noise))
    assert len(url) < MAX_ENCODED_BYTES
    with Image.open(BytesIO(base64.b64decode(url))) as image:
        assert min(image.size) > 1000


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_a_truncated_file_is_sent_as_a_complete_jpeg(
    image_format: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cut.bin"
    path.write_bytes(encoded(Image.effect_noise((200, 200), 100), image_format)[:-2000])
    sent = base64.b64decode(image_url(ImageBlock(path=path)))
    assert sent.endswith(b"\xff\xd9")
    assert Image.open(BytesIO(sent)).size == (200, 200)
    assert "cut.bin is truncated" in caplog.text


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.bin"
    data = encoded(Image.effect_noise((200, 200), 100), "PNG")
    path.write_bytes(data[:5000] + b"\xff" * 5000 + data[10_000:])
    with pytest.raises(ImageError, match=r"bad\.bin is damaged"):
        image_url(ImageBlock(path=path), max_side=100)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "I", "F", "RGBa", "RGBX", "PA"])
def test_images_of_every_mode_are_sent(mode: str) -> None:
    image = image_url(image_block(Image.new(mode, (8, 8))))
    assert base64.b64decode(image)[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="too large to decode"):
        image_url(ImageBlock(image=encoded(Image.new("RGB", (43, 21)), "PNG")))


def test_an_image_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encodings: list[object] = []
    encode = images.encode_within_limits
    monkeypatch.setattr(images, "encode_within_limits", lambda *given: encodings.append(given) or encode(*given))
    webp = encoded(Image.new("RGB", (41, 23), "green"), "WEBP")

    urls = {image_url(ImageBlock(image=webp)) for _ in range(3)}

    assert (len(urls), len(encodings)) == (1, 1)
    image_url(ImageBlock(image=webp), max_side=10)
    assert len(encodings) == 2


def test_urls_are_sent_as_they_are_or_fetched(file_server: str, photos: list[Path]) -> None:
    block = ImageBlock(url=f"{file_server}/{photos[0].name}")
    assert image_url(block) == f"{file_server}/{photos[0].name}"
    assert base64.b64decode(image_url(block, urls=FETCHED)) == photos[0].read_bytes()


def test_a_cached_image_is_not_returned_for_stricter_url_rules(file_server: str, photos: list[Path]) -> None:
    block = ImageBlock(url=f"{file_server}/{photos[1].name}")
    image_url(block, urls=FETCHED)
    with pytest.raises(ImageError, match="leads to the private address"):
        image_url(block, urls=UrlRules(allowed=True))


def test_a_url_whose_answer_is_not_an_image_is_named(file_server: str) -> None:
    expected = r"^the response of http://.*/labels\.jsonl is not a usable image: .* is not an image"
    with pytest.raises(ImageError, match=expected):
        image_url(ImageBlock(url=f"{file_server}/labels.jsonl?s3cr3t"), urls=FETCHED)
