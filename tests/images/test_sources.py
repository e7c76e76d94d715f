"""Every form of image source loads as the same RGB image, and other objects are refused with a clear message."""

from __future__ import annotations

import base64
import zipfile
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
    load_image,
    open_image,
    read_bytes,
    resolve_source,
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
        "file URL",
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
def test_every_form_loads_as_the_same_image(photo: Path, form: str) -> None:
    data = photo.read_bytes()
    text = base64.b64encode(data).decode()
    source = {
        "path": photo,
        "string": str(photo),
        "file URL": photo.as_uri(),
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


def test_a_buffer_can_be_read_twice(photo: Path) -> None:
    buffer = BytesIO(photo.read_bytes())
    assert load_image(buffer).size == load_image(buffer).size


def test_a_given_image_is_not_changed(photo: Path) -> None:
    given = Image.open(photo).convert("RGB")
    load_image(given).paste("red", (0, 0, 10, 10))
    np.testing.assert_array_equal(_pixels(given), _pixels(Image.open(photo)))


def test_messages_do_not_contain_the_content() -> None:
    secret = base64.b64encode(b"not an image, but secret" * 300).decode()
    with pytest.raises(ImageError) as caught:
        load_image(secret)
    assert secret[:20] not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_other_objects_and_empty_nodes_are_refused() -> None:
    with pytest.raises(ImageError, match="type int"):
        load_image(5)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="it has no image, image_path or image_url"):
        load_image(ImageNode(id_="empty"))
    with pytest.raises(ImageError, match="neither a path nor base64"):
        decode_base64("???")


def test_base64_that_begins_like_a_path_is_an_image(photo: Path) -> None:
    small = encode_image(load_image(photo).resize((8, 8)), quality=20)
    text = base64.b64encode(small).decode()
    assert text.startswith("/9j/")
    assert resolve_source(text) == small


def test_formats_are_sniffed(photo: Path) -> None:
    assert sniff_format(photo.read_bytes()) == "JPEG"
    assert sniff_format(encode_image(load_image(photo), "PNG")) == "PNG"
    assert sniff_format(b"text") is None


def test_has_image_tells_image_nodes_from_text_nodes(photo: Path) -> None:
    assert has_image(ImageNode(image_path=str(photo)))
    assert has_image(ImageDocument(image_path=str(photo)))
    assert not has_image(TextNode(text="飞机"))
    assert not has_image(Document(text="飞机"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a.jpg", "https://example.com/a.jpg"),
        ("HTTPS://me:s3cr3t@example.com:8443/a.jpg?token=s3cr3t#s3cr3t", "HTTPS://example.com:8443/a.jpg"),
        ("http://s3cr3t@[::1]:80/a@b.jpg?s3cr3t", "http://[::1]:80/a@b.jpg"),
        ("http://me:s3cr/3t@example.com/a.jpg", "http://…"),
        ("http://example.com?s3cr3t", "http://example.com"),
        ("ftp://me:s3cr3t@example.com/a.jpg", "ftp://example.com/a.jpg"),
        ("http://例子.测试/图.jpg?s3cr3t", "http://例子.测试/图.jpg"),
        ("http://example.com/" + "x" * 1000, "http://example.com/" + "x" * 131 + "…" + "x" * 150),
    ],
)
def test_secrets_in_urls_are_not_shown(url: str, shown: str) -> None:
    assert describe(url) == shown


def test_urls_of_other_schemes_are_refused() -> None:
    with pytest.raises(ImageError, match=r"^ftp://example\.com/a\.jpg has an unsupported URL scheme"):
        load_image("ftp://me:s3cr3t@example.com/a.jpg?s3cr3t")


def test_an_invalid_file_url_is_refused() -> None:
    with pytest.raises(ImageError, match=r"file://.* is not a valid file URL"):
        load_image("file://[x/y.jpg")


def test_small_base64_images_are_not_shown() -> None:
    buffer = BytesIO()
    Image.new("1", (1, 1)).save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    assert describe(text) == f"an image given as {len(text)} characters"
    assert describe(f"data:image/png;base64,{text}").startswith("an image given as")


def test_file_urls_are_unquoted_once(tmp_path: Path, photo: Path) -> None:
    path = tmp_path / "100%25 雪#?.jpg"
    path.write_bytes(photo.read_bytes())
    assert read_bytes(path.as_uri()) == photo.read_bytes()
    assert read_bytes("FILE" + path.as_uri()[4:]) == photo.read_bytes()


def test_a_tilde_with_an_unknown_user_is_part_of_the_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=r"no such image: ~nobody-here/a\.jpg"):
        load_image("~nobody-here/a.jpg")


def test_file_objects_that_cannot_be_read_are_refused(photo: Path) -> None:
    closed = BytesIO(photo.read_bytes())
    closed.close()
    with pytest.raises(ImageError, match="cannot read the image from an object of type BytesIO: I/O operation on"):
        load_image(closed)
    with photo.open(encoding="latin-1") as text, pytest.raises(ImageError, match="open the file in binary mode"):
        load_image(text)  # type: ignore[arg-type]


def test_many_threads_can_read_one_file_object(photo: Path) -> None:
    with photo.open("rb") as file, ThreadPoolExecutor(8) as pool:
        sizes = {image.size for image in pool.map(load_image, [file] * 64)}
    assert len(sizes) == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16"])
def test_images_without_pixels_are_refused(mode: str) -> None:
    with pytest.raises(ImageError, match="a PIL image of 0×5 has no pixels"):
        load_image(Image.new(mode, (0, 5)))


def test_errors_of_any_type_from_a_file_object_name_the_image(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.png", b"image")
    content = (tmp_path / "images.zip").read_bytes()
    (tmp_path / "images.zip").write_bytes(content.replace(b"image", b"IMAGE"))
    with (
        zipfile.ZipFile(tmp_path / "images.zip") as archive,
        archive.open("a.png") as file,
        pytest.raises(ImageError, match="cannot read the image from an object of type ZipExtFile: Bad CRC-32"),
    ):
        load_image(file)


def test_the_error_for_a_damaged_inline_image_names_its_node(photo: Path) -> None:
    cut = base64.b64encode(photo.read_bytes()[:5000]).decode()
    with pytest.raises(ImageError, match=r"^the image of node 7 is damaged: image file is truncated"):
        load_image(ImageNode(id_="7", image=cut), on_truncated="raise")


def test_an_opened_image_keeps_its_mode(photo: Path) -> None:
    palette = Image.open(photo).quantize()
    for source in (encode_image(palette, "PNG"), palette):
        with open_image(source) as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(_pixels(image), _pixels(palette))


def test_damage_is_reported_when_the_pixels_of_an_opened_image_are_read(photo: Path) -> None:
    cut = photo.read_bytes()[:5000]
    with (
        pytest.raises(ImageError, match="is damaged: image file is truncated"),
        open_image(cut, on_truncated="raise") as image,
    ):
        np.asarray(image)


def test_other_errors_inside_open_image_are_not_changed(photo: Path) -> None:
    with pytest.raises(ValueError, match="mine") as caught, open_image(photo):
        raise ValueError("mine")
    assert not isinstance(caught.value, ImageError)


def test_descriptions_are_short(photo: Path) -> None:
    assert describe(photo) == str(photo)
    assert describe("x" * 1000) == "a string of 1000 characters"
    assert describe(photo.read_bytes()) == f"an image given as {photo.stat().st_size} bytes"


def test_threads_can_share_an_image_that_is_not_loaded_yet(photos: list[Path]) -> None:
    for photo in photos:
        image = Image.open(photo)
        with ThreadPoolExecutor(4) as pool:
            sizes = list(pool.map(lambda _, image=image: load_image(image).size, range(8)))
        assert set(sizes) == {image.size}
