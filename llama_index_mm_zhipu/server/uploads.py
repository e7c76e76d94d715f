"""Files that users add: saved beside the index under a hash of their content, so that none replaces another."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from uuid import uuid4

from llama_index_mm_zhipu.readers.folder import image_suffixes
from llama_index_mm_zhipu.server.forms import MAX_FILE_BYTES, MAX_IMAGE_BYTES
from llama_index_mm_zhipu.service.errors import is_expected, message_of
from llama_index_mm_zhipu.service.inputs import IndexInputs, file_suffixes
from llama_index_mm_zhipu.text import readable_size

FOLDER = "uploads"
"""Name of the folder for added files, in the folder of the index."""

_HASH_CHARACTERS = 16
_MAX_NAME_BYTES = 150
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


@dataclass(frozen=True)
class Upload:
    """A file that a user added.

    Attributes:
        name: Its path in the user's folder.
        path: Where it is saved.
        is_new: Whether it was not there before.
    """

    name: str
    path: Path
    is_new: bool

    def remove(self) -> None:
        """Delete the file, if it was not there before."""
        if self.is_new:
            self.path.unlink(missing_ok=True)
            with suppress(OSError):
                # Other files have the same content.
                self.path.parent.rmdir()


def refusal_of(name: str, size: int) -> str | None:
    """Return why a file cannot be added, by its name and size in bytes; None if it can."""
    suffix = _name_of(name)[1].lower()
    if suffix not in file_suffixes():
        return f"files of the type {suffix or 'without a suffix'} hold no images that can be added"
    limit = MAX_IMAGE_BYTES if suffix in image_suffixes() else MAX_FILE_BYTES
    if size > limit:
        return f"the file has {readable_size(size)}; at most {readable_size(limit)} can be added"
    return None if size else "the file is empty"


def save(file: BinaryIO, name: str, folder: Path) -> Upload:
    """Save a file.

    Args:
        file: The file, from whose start is read.
        name: Its path in the user's folder, of which the last part is kept.
        folder: Where such files are.

    Raises:
        OSError: The file cannot be written.
    """
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    stem, suffix = _name_of(name)
    target = folder / digest.hexdigest()[:_HASH_CHARACTERS] / f"{stem}{suffix}"
    if target.is_file():
        return Upload(name, target, is_new=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    file.seek(0)
    # Whatever has the name is whole.
    part = target.parent / f".{uuid4().hex}"
    try:
        with part.open("xb") as stream:
            shutil.copyfileobj(file, stream, 1 << 20)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        with suppress(OSError):
            target.parent.rmdir()
        raise
    return Upload(name, target, is_new=True)


def readable(uploads: Iterable[Upload]) -> tuple[list[Upload], dict[str, str]]:
    """Return the files that can be indexed, and why others cannot by name; these are deleted."""
    good, skipped = [], {}
    for upload in uploads:
        try:
            IndexInputs(upload.path)
        except Exception as error:
            if not is_expected(error):
                raise
            skipped[upload.name] = renamed(message_of(error), [upload])
            upload.remove()
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


def _name_of(name: str) -> tuple[str, str]:
    """Return the stem and the suffix of a file, without what file systems do not take."""
    last = PurePosixPath(name.replace("\\", "/")).name
    path = Path(_UNSAFE.sub("_", last).strip(". ") or "image")
    suffix = path.suffix if len(path.suffix.encode()) < _MAX_NAME_BYTES // 2 else ""
    room = _MAX_NAME_BYTES - len(suffix.encode())
    stem = path.stem if suffix else path.name
    return stem.encode("utf-8", "replace")[:room].decode("utf-8", "ignore"), suffix
