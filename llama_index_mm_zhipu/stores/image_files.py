"""Images as files or objects, named by the SHA-256 of their content: the same image is kept once and never changes."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import uuid
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.registry import get_filesystem_class, known_implementations

from llama_index_mm_zhipu.images import ImageError, describe, sniff_format
from llama_index_mm_zhipu.shared_folders import make_folder, old_paths, sync_folder
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.errors import StoreError

_SUFFIXES = {"JPEG": "jpg", "DIB": "bmp", "TIFF": "tif", "HEIF": "heic", "JPEG2000": "jp2"}
"""Suffixes of formats whose name is another one."""

_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,8}")
_SHOWN = 80


def name_of_image(data: bytes) -> str:
    """Return the name of an image: the SHA-256 of its bytes, with the suffix of its format, ``bin`` if it has none."""
    image_format = sniff_format(data) or "bin"
    return f"{hashlib.sha256(data).hexdigest()}.{_SUFFIXES.get(image_format, image_format.lower())}"


class ImageFiles(ABC):
    """Keeps images by name, each below two levels of folders.

    Args:
        location: The folder or URL as messages show it, without secrets.
    """

    def __init__(self, location: str) -> None:
        self.location = location

    def write(self, name: str, data: bytes) -> None:
        """Keep an image; one that is there with the same size stays as it is.

        Args:
            name: The image's ``name_of_image``.
            data: The encoded image.

        Raises:
            StoreError: It cannot be written.
        """
        try:
            if self._size(name) != len(data):
                self._write(name, data)
        # Each file system has errors of its own, whose texts may hold secrets.
        except Exception as error:
            raise StoreError(f"cannot write the image {name} to {self.location}: {_reason(error)}") from None

    def read(self, name: str) -> bytes:
        """Return an image.

        Args:
            name: Name of the image, which comes from a store and need not be valid.

        Raises:
            ImageError: The name is none of an image, or the image is missing, damaged or cannot be read.
        """
        require_image_name(name, self.location)
        try:
            data = self._read(name)
        except FileNotFoundError:
            raise ImageError(
                f"there is no {name} in {self.location}; restore it, or open the store with the image_storage that it "
                "was filled with"
            ) from None
        except Exception as error:
            raise ImageError(f"cannot read {name} in {self.location}: {_reason(error)}") from None
        if hashlib.sha256(data).hexdigest() != name.partition(".")[0]:
            raise ImageError(
                f"{name} in {self.location} is damaged; restore it, or delete it with its node, and insert both again"
            )
        return data

    @abstractmethod
    def _size(self, name: str) -> int | None:
        """Return the size of an image in bytes; None if there is none of that name."""

    @abstractmethod
    def _write(self, name: str, data: bytes) -> None:
        """Write an image, which others see as a whole or not at all."""

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """Return the bytes of an image; ``FileNotFoundError`` if there is none."""


def is_image_name(name: object) -> bool:
    """Return whether a value has the form of ``name_of_image``, so that it leads to no other folder."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def require_image_name(name: object, location: str) -> None:
    """Refuse everything that ``name_of_image`` does not make, such as a path that leads out of a folder.

    Raises:
        ImageError: The value is not the name of an image.
    """
    if not is_image_name(name):
        raise ImageError(
            f"{one_line(repr(name))[:_SHOWN]} is not the name of an image in {location}; add the node again"
        )


def _below(name: str) -> str:
    return f"{name[:2]}/{name[2:4]}/{name}"


def _reason(error: Exception) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__


class FilesInFolder(ImageFiles):
    """Images in a folder, which is created when the first one is written, with access for its owner only.

    Folders below it get the permissions of the folder itself. A written image survives a power cut.

    Args:
        folder: The folder, an absolute path.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(describe(folder))
        self._folder = folder
        self._has_removed_parts = False

    def path_of(self, name: str) -> Path:
        """Return the path of an image, which need not exist."""
        return self._folder / _below(name)

    def name_at(self, path: str) -> str | None:
        """Return the name of the image at a path in this folder; None for any other path."""
        name = Path(path).name
        return name if is_image_name(name) and Path(path) == self.path_of(name) else None

    def _size(self, name: str) -> int | None:
        with suppress(FileNotFoundError):
            return self.path_of(name).stat().st_size
        return None

    def _write(self, name: str, data: bytes) -> None:
        make_folder(self._folder)
        self._remove_stale_parts()
        file = self.path_of(name)
        make_folder(file.parent, stat.S_IMODE(self._folder.stat().st_mode))
        part = self._folder / f"{uuid.uuid4().hex}.part"
        try:
            with part.open("xb") as opened:
                opened.write(data)
                opened.flush()
                os.fsync(opened.fileno())
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        for folder in (file.parent, file.parent.parent, self._folder):
            sync_folder(folder)

    def _remove_stale_parts(self) -> None:
        """Remove what killed processes left, before the first image is written."""
        if not self._has_removed_parts:
            self._has_removed_parts = True
            for part in old_paths(self._folder, "*.part"):
                part.unlink(missing_ok=True)

    def _read(self, name: str) -> bytes:
        return self.path_of(name).read_bytes()


class ObjectsAtUrl(ImageFiles):
    """Images at a URL of ``fsspec``, such as objects in a bucket.

    Args:
        url: The URL. User and password in it are not shown.

    Raises:
        ImportError: The package of the protocol is not installed; the message names it.
        ValueError: ``fsspec`` does not know the protocol.
    """

    def __init__(self, url: str) -> None:
        super().__init__(describe(url))
        _require_protocol(url.partition("://")[0].lower(), self.location)
        self._url = url
        self._opened: dict[int, tuple[Any, str]] = {}

    def _size(self, name: str) -> int | None:
        files, path = self._object(name)
        with suppress(FileNotFoundError):
            size: int | None = files.size(path)
            return size
        return None

    def _write(self, name: str, data: bytes) -> None:
        files, path = self._object(name)
        try:
            files.pipe_file(path, data)
        except FileNotFoundError:
            # Object stores have no folders; making some for every image would cost a request each.
            files.makedirs(path.rpartition("/")[0], exist_ok=True)
            files.pipe_file(path, data)

    def _read(self, name: str) -> bytes:
        files, path = self._object(name)
        data: bytes = files.cat_file(path)
        return data

    def _object(self, name: str) -> tuple[Any, str]:
        """Return the file system and the path of an image."""
        # File systems with a connection of their own cannot be used after a fork.
        process = os.getpid()
        if process not in self._opened:
            self._opened[process] = url_to_fs(self._url)
        files, root = self._opened[process]
        return files, f"{root.rstrip('/')}/{_below(name)}"


def _require_protocol(protocol: str, location: str) -> None:
    try:
        get_filesystem_class(protocol)
    except ImportError:
        package, _, rest = known_implementations[protocol]["class"].partition(".")
        # Some file systems are modules of fsspec, whose extras name what they need.
        needed = package if not rest.startswith("implementations.") else f'"fsspec[{protocol}]"'
        raise ImportError(f"image_storage {location} needs a package: pip install {needed}") from None
    except ValueError:
        raise ValueError(
            f"image_storage {location} has the protocol {protocol!r}, which fsspec does not know; give a folder, or a "
            "URL such as s3://bucket/folder"
        ) from None
