"""Every form of a picture comes in as the same upright RGB image; what is no picture is named."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, Node, TextNode
from PIL import Image

from llama_index_mm_zhipu.images import (
    ImageError,
    decode_base64,
    describe,
    encode_image,
    has_image,
    image_source,
    load_image,
    read_bytes,
    sniff_format,
)


@pytest.fixture
def photo(photos: list[Path]) -> Path:
    return photos[0]


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


@pytest.mark.parametrize(
    "form",
    [
        "path",
        "string",
        "file address",
        "bytes",
        "bytearray",
        "buffer",
        "base64",
        "url-safe base64",
        "data URI",
        "PIL",
        "image node by path",
        "image node by base64",
        "image document",
        "node with resource",
        "image block",
    ],
)
def test_every_form_gives_the_same_picture(photo: Path, form: str) -> None:
    data = photo.read_bytes()
    text = base64.b64encode(data).decode()
    source = {
        "path": photo,
        "string": str(photo),
        "file address": photo.as_uri(),
        "bytes": data,
        "bytearray": bytearray(data),
        "buffer": BytesIO(data),
        "base64": text,
        "url-safe base64": base64.urlsafe_b64encode(data).decode().rstrip("="),
        "data URI": f"data:image/jpeg;base64,{text}",
        "PIL": Image.open(photo),
        "image node by path": ImageNode(image_path=str(photo)),
        "image node by base64": ImageNode(image=text),
        "image document": ImageDocument(image_path=str(photo)),
        "node with resource": Node(image_resource=MediaResource(data=data)),
        "image block": ImageBlock(image=data),
    }[form]

    loaded = load_image(source)

    assert loaded.mode == "RGB"
    np.testing.assert_array_equal(_pixels(loaded), _pixels(Image.open(photo).convert("RGB")))


def test_a_picture_is_fetched_from_an_address(file_server: str, photo: Path) -> None:
    assert read_bytes(f"{file_server}/{photo.name}") == photo.read_bytes()
    assert load_image(ImageNode(image_url=f"{file_server}/{photo.name}")).size == Image.open(photo).size


def test_a_buffer_can_be_read_twice(photo: Path) -> None:
    buffer = BytesIO(photo.read_bytes())
    assert load_image(buffer).size == load_image(buffer).size


def test_a_picture_comes_upright() -> None:
    lying = Image.new("RGB", (40, 20), "red")
    lying.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° to the right
    buffer = BytesIO()
    lying.save(buffer, "PNG", exif=exif)

    upright = load_image(buffer.getvalue())

    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5)) == (0, 0, 255)


def test_transparency_becomes_white() -> None:
    glass = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert load_image(encode_image(glass, "PNG")).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_greys_keep_their_steps() -> None:
    ramp = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    loaded = load_image(encode_image(ramp, "PNG"))
    np.testing.assert_array_equal(_pixels(loaded)[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert load_image(Image.new("RGB", (4, 4), "white").convert(mode)).getpixel((1, 1)) == (255, 255, 255)


def test_a_given_image_is_left_as_it_is(photo: Path) -> None:
    given = Image.open(photo).convert("RGB")
    load_image(given).paste("red", (0, 0, 10, 10))
    np.testing.assert_array_equal(_pixels(given), _pixels(Image.open(photo)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no such picture: .*gone\.jpg; check the path"):
        load_image(tmp_path / "gone.jpg")


def test_a_text_file_called_jpg_is_named(tmp_path: Path) -> None:
    fake = tmp_path / "fake.jpg"
    fake.write_text("this is no picture")
    with pytest.raises(ImageError, match=r"fake\.jpg is not a picture that Pillow can read; replace the file"):
        load_image(fake)


def test_a_cut_off_file_is_named(tmp_path: Path, photo: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photo.read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"cut\.jpg is damaged"):
        load_image(cut)


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot read the picture"):
        load_image(tmp_path)


def test_an_address_without_a_picture_is_named(file_server: str) -> None:
    with pytest.raises(ImageError, match=r"nothing\.jpg answered 404"):
        load_image(f"{file_server}/nothing.jpg")
    with pytest.raises(ImageError, match=r"cannot fetch the picture http://127\.0\.0\.1:9/"):
        load_image("http://127.0.0.1:9/x.jpg")


def test_bytes_never_reach_a_message() -> None:
    secret = base64.b64encode(b"not a picture, but secret" * 300).decode()
    with pytest.raises(ImageError) as caught:
        load_image(secret)
    assert secret[:20] not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="type int"):
        load_image(5)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="it has no image, image_path or image_url"):
        load_image(ImageNode(id_="empty"))
    with pytest.raises(ImageError, match="neither a path nor base64"):
        decode_base64("???")


def test_base64_that_begins_like_a_path_is_a_picture(photo: Path) -> None:
    small = encode_image(load_image(photo).resize((8, 8)), quality=20)
    text = base64.b64encode(small).decode()
    assert text.startswith("/9j/")
    assert image_source(text) == small


def test_formats_are_sniffed(photo: Path) -> None:
    assert sniff_format(photo.read_bytes()) == "JPEG"
    assert sniff_format(encode_image(load_image(photo), "PNG")) == "PNG"
    assert sniff_format(b"text") is None


def test_nodes_know_whether_they_hold_a_picture(photo: Path) -> None:
    assert has_image(ImageNode(image_path=str(photo)))
    assert has_image(ImageDocument(image_path=str(photo)))
    assert not has_image(TextNode(text="飞机"))
    assert not has_image(Document(text="飞机"))


def test_descriptions_are_short(photo: Path) -> None:
    assert describe(photo) == str(photo)
    assert describe("x" * 1000) == "a string of 1000 characters"
    assert describe(photo.read_bytes()) == f"a picture given as {photo.stat().st_size} bytes"


def test_threads_may_share_an_image_that_is_not_loaded_yet(photos: list[Path]) -> None:
    for photo in photos:
        image = Image.open(photo)
        with ThreadPoolExecutor(4) as pool:
            sizes = list(pool.map(lambda _, image=image: load_image(image).size, range(8)))
        assert set(sizes) == {image.size}
