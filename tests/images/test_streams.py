"""Unreadable files raise errors with their name and the reason wherever they are read, and are skipped on request."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import Document, ImageNode
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.images import (
    ImageError,
    load_image,
    load_resized,
    open_image,
    read_bytes,
    sniff_format,
    streams,
)
from llama_index_mm_zhipu.images.streams import LimitedStream
from llama_index_mm_zhipu.index.read import image_of_document
from llama_index_mm_zhipu.readers import FolderReader, PageReader, RecordError, VideoReader, read_folder, read_jsonl
from llama_index_mm_zhipu.readers.image_nodes import image_of_file

INVALID_NAME = "a file name cannot contain NUL"


@pytest.fixture
def photo(photos: list[Path]) -> Path:
    return photos[0]


@pytest.fixture(scope="module")
def embedding(tiny_model: Path) -> ChineseClipEmbedding:
    return ChineseClipEmbedding(tiny_model, device="cpu", backend="torch")


class FailingFile(io.FileIO):
    """A file on a disk that fails after the first bytes."""

    readable_bytes = 100

    def readinto(self, buffer: Any) -> int:
        if self.tell() >= self.readable_bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().readinto(memoryview(buffer)[: self.readable_bytes - self.tell()]) or 0

    def readall(self) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every image file whose name begins with "bad" fail in the middle."""

    def fdopen(descriptor: int, *_: Any) -> io.BufferedReader:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        return io.BufferedReader((FailingFile if name.startswith("bad") else io.FileIO)(descriptor), 64)

    monkeypatch.setattr(streams.os, "fdopen", fdopen)


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
FAILED = r"^cannot read the image .*bad\.(jpg|png|tif|webp): Input/output error$"


@needs_proc
@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_read_errors_name_the_file_wherever_an_image_is_read(tmp_path: Path, photo: Path, ending: str) -> None:
    bad = tmp_path / f"bad.{ending}"
    Image.open(photo).convert("RGB").save(bad)
    for read in (load_image, read_bytes, lambda source: load_resized(source, 8)):
        with pytest.raises(ImageError, match=FAILED):
            read(bad)
    with pytest.raises(ImageError, match=FAILED), open_image(ImageNode(image_path=str(bad))) as image:
        image.load()


@needs_proc
@pytest.mark.usefixtures("failing")
def test_readers_and_indexes_skip_files_with_read_errors(
    tmp_path: Path, photo: Path, embedding: ChineseClipEmbedding
) -> None:
    shutil.copy(photo, tmp_path / "bad.jpg")
    shutil.copy(photo, tmp_path / "good.jpg")
    assert len(read_folder(tmp_path)) == 2
    record = image_of_file("1", tmp_path, "bad.jpg", "", "list.csv, line 2")
    assert isinstance(record, RecordError)
    assert "line 2: cannot read the image" in str(record)
    document = Document(text="", metadata={"file_path": str(tmp_path / "bad.jpg"), "file_type": "image/jpeg"})
    with pytest.raises(ImageError, match=FAILED):
        image_of_document(document)

    index = build_index([tmp_path / "bad.jpg", tmp_path / "good.jpg", document], embed_model=embedding, on_error="skip")

    assert len(index.skipped) == 2
    assert all("bad.jpg: Input/output error" in reason for reason in index.skipped.values())
    with pytest.raises(ImageError, match=r"bad\.jpg: Input/output error"):
        build_index([tmp_path], embed_model=embedding)


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs /proc")
def test_an_unreadable_system_file_is_named(tmp_path: Path) -> None:
    link = tmp_path / "memory.jpg"
    link.symlink_to("/proc/self/mem")
    for read in (load_image, read_bytes, lambda source: load_resized(source, 8)):
        with pytest.raises(ImageError, match=r"^cannot read the image .*memory\.jpg: Input/output error$"):
            read(link)


def test_a_stream_whose_first_seek_fails_is_named() -> None:
    class Failing(io.BytesIO):
        def seek(self, *_: Any) -> int:
            raise OSError(errno.ESTALE, "Stale file handle")

    with pytest.raises(ImageError, match=r"^cannot read the image share/a\.jpg: Stale file handle$"):
        LimitedStream(Failing(), "share/a.jpg")


def test_a_failing_file_object_is_named(photo: Path) -> None:
    with (
        io.BufferedReader(FailingFile(photo)) as file,
        pytest.raises(ImageError, match=r"cannot read the image from .*Input/output"),
    ):
        load_image(file)


def test_a_file_on_a_failing_network_share_is_named(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, embedding: ChineseClipEmbedding
) -> None:
    shutil.copy(photo, tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").touch()
    stat = Path.stat

    def failing_stat(path: Path, **options: Any) -> os.stat_result:
        if path.name == "bad.jpg":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", failing_stat)
    index = build_index([tmp_path / "bad.jpg", tmp_path / "good.jpg"], embed_model=embedding, on_error="skip")
    assert "bad.jpg: Input/output error" in next(iter(index.skipped.values()))
    assert len(FolderReader().load_data(tmp_path)) == 2


# File names with NUL


@pytest.mark.parametrize("name", ["a\0b.jpg", Path("a\0b.jpg"), "file:///a%00b.jpg"])
def test_a_path_with_a_nul_is_refused_everywhere(name: str | Path, embedding: ChineseClipEmbedding) -> None:
    node = ImageNode(image_path=str(name))
    for read in (load_image, read_bytes, embedding.get_image_embedding):
        with pytest.raises(ImageError, match=rf"cannot read the image .*a\\x00b\.jpg: {INVALID_NAME}"):
            read(name)
    for given in (name, [name], [node]):
        with pytest.raises(ImageError, match=INVALID_NAME):
            build_index(given, embed_model=embedding)


@pytest.mark.parametrize(
    "read", [read_folder, FolderReader().load_data, read_jsonl, PageReader().load_data, VideoReader().load_data]
)
def test_a_folder_with_a_nul_is_refused_by_readers(read: Any) -> None:
    with pytest.raises(ImageError, match=rf"cannot read the image a\\x00b: {INVALID_NAME}"):
        read("a\0b")


# File URLs


@pytest.mark.parametrize("host", ["other-host", "127.0.0.1", "10.0.0.1:80", "user:secret@nas", "..", "[::1]", "C:"])
def test_a_file_url_of_another_machine_is_refused(photo: Path, host: str) -> None:
    with pytest.raises(
        ImageError, match=r"is a file of another machine, .*; download it|is not a valid file URL"
    ) as caught:
        load_image(f"file://{host}{photo}")
    assert "secret" not in str(caught.value)
    with pytest.raises(ImageError):
        load_image(ImageNode(image_path=f"FILE://{host}{photo}"))


@pytest.mark.parametrize("host", ["", "localhost", "LOCALHOST"])
def test_a_file_url_of_this_machine_is_opened(photo: Path, host: str) -> None:
    with Image.open(photo) as image:
        assert load_image(f"file://{host}{photo}").size == image.size


def test_a_named_pipe_does_not_block(tmp_path: Path, photo: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    record = image_of_file("1", tmp_path, "pipe.jpg", "", "list.csv, line 2")
    assert "it is a named pipe, not a file" in str(record)
    assert sniff_format(photo.read_bytes()) == "JPEG"
