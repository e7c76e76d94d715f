"""Files that users add: saved beside the index under a hash of their content, so that none replaces another."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from uuid import uuid4

from llama_index_mm_zhipu.readers.folder import image_suffixes
from llama_index_mm_zhipu.server.forms import MAX_FILE_BYTES, MAX_IMAGE_BYTES
from llama_index_mm_zhipu.service.errors import is_expected, message_of
from llama_index_mm_zhipu.service.inputs import IndexInputs, file_suffixes
from llama_index_mm_zhipu.text import readable_size

logger = logging.getLogger(__name__)

FOLDER = "uploads"
"""Name of the folder for added files, in the folder of the index."""

_HASH_CHARACTERS = 16
_MAX_NAME_BYTES = 150
_CHUNK_BYTES = 1024 * 1024
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


@dataclass(frozen=True)
class Upload:
    """A file that a user added.

    Attributes:
        name: Its path in the user's folder.
        path: Where it is saved.
    """

    name: str
    path: Path


class Uploads:
    """The folder of added files, which are kept while requests use them, and if the index has images of them.

    Threads may share it.

    Args:
        folder: The folder.
        is_indexed: Whether the index has images of a file.
    """

    def __init__(self, folder: Path, is_indexed: Callable[[Path], bool]) -> None:
        self._folder = folder
        self._is_indexed = is_indexed
        # Requests by the folder of a content. Several may add the same file at once.
        self._users: Counter[Path] = Counter()
        self._changed = threading.Condition()

    def save(self, file: BinaryIO, name: str) -> Upload:
        """Save a file, which is used until it is released.

        Args:
            file: The file, from whose start is read.
            name: Its path in the user's folder, of which the last part is kept.

        Raises:
            OSError: The file cannot be written.
        """
        upload = Upload(name, self._folder / _digest_of(file) / "".join(_name_of(name)))
        with self._changed:
            self._users[upload.path.parent] += 1
        try:
            upload.path.parent.mkdir(parents=True, exist_ok=True)
            if not upload.path.is_file():
                _write(file, upload.path)
        except BaseException:
            self.release([upload])
            raise
        return upload

    def release(self, uploads: Iterable[Upload]) -> None:
        """End the use of files. Those that nobody uses and of which the index has no images are deleted."""
        for folder in (upload.path.parent for upload in uploads):
            with self._changed:
                self._users[folder] -= 1
                if not self._users[folder]:
                    self._delete_unindexed(folder)
                    del self._users[folder]
                    self._changed.notify_all()

    def wait_until_unused(self, seconds: float) -> bool:
        """Wait until no request uses a file; return whether that is so.

        Args:
            seconds: How long to wait.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._users, seconds)

    def _delete_unindexed(self, folder: Path) -> None:
        try:
            for file in folder.iterdir():
                if not self._is_indexed(file):
                    file.unlink()
            # Fails if files are left.
            folder.rmdir()
        except OSError:
            pass
        except Exception as error:
            logger.warning("files in %s are kept, because the index cannot be asked: %s", folder, message_of(error))


def refusal_of(name: str, size: int) -> str | None:
    """Return why a file cannot be added, by its name and size in bytes; None if it can."""
    suffix = _name_of(name)[1].lower()
    if suffix not in file_suffixes():
        return f"files of the type {suffix or 'without a suffix'} hold no images that can be added"
    limit = MAX_IMAGE_BYTES if suffix in image_suffixes() else MAX_FILE_BYTES
    if size > limit:
        return f"the file has {readable_size(size)}; at most {readable_size(limit)} can be added"
    return None if size else "the file is empty"


def readable(uploads: Iterable[Upload]) -> tuple[list[Upload], dict[str, str]]:
    """Return the files that can be indexed, and why others cannot by name."""
    good, skipped = [], {}
    for upload in uploads:
        try:
            IndexInputs(upload.path)
        except Exception as error:
            if not is_expected(error):
                raise
            skipped[upload.name] = renamed(message_of(error), [upload])
        else:
            good.append(upload)
    return good, skipped


def renamed(text: str, uploads: Sequence[Upload]) -> str:
    """Return a text in which files have the names that users know."""
    for upload in uploads:
        file, folder = re.escape(upload.path.name), upload.path.parent.name
        # Ids begin with the name of the folder and a hash of its path.
        saved = rf"{re.escape(str(upload.path))}|{folder}-[0-9a-f]+/{file}"
        text = re.sub(saved, upload.name.replace("\\", r"\\"), text)
    return text


def _digest_of(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()[:_HASH_CHARACTERS]


def _write(file: BinaryIO, target: Path) -> None:
    file.seek(0)
    # Whatever has the name is whole.
    part = target.parent / f".{uuid4().hex}"
    try:
        with part.open("xb") as stream:
            shutil.copyfileobj(file, stream, _CHUNK_BYTES)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _name_of(name: str) -> tuple[str, str]:
    """Return the stem and the suffix of a file, without what file systems do not take."""
    last = PurePosixPath(name.replace("\\", "/")).name
    path = Path(_UNSAFE.sub("_", last).strip(". ") or "image")
    suffix = path.suffix if len(path.suffix.encode()) < _MAX_NAME_BYTES // 2 else ""
    room = _MAX_NAME_BYTES - len(suffix.encode())
    stem = path.stem if suffix else path.name
    return stem.encode("utf-8", "replace")[:room].decode("utf-8", "ignore"), suffix
