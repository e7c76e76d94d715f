"""The faiss file of a store: a checked copy of its index that makes opening fast."""

from __future__ import annotations

import logging
import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.shared_folders import being_written, stale_files
from llama_index_mm_zhipu.vector_store.ann import AnnIndex
from llama_index_mm_zhipu.vector_store.database import Database
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.schema_old import Setting

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20


class SnapshotFile:
    """Writes an index to a file that the database records, and reads it back.

    Args:
        database: Records which file belongs to it.
        folder: Where the files lie.
        namespace: Begins their names.
    """

    def __init__(self, database: Database, folder: Path, namespace: str) -> None:
        self._database = database
        self._folder = folder
        self._namespace = namespace

    @contextmanager
    def write(self, index: AnnIndex) -> Iterator[Path]:
        """Write the index to a new file, which counts only once it is recorded, inside.

        Raises:
            StoreError: The file cannot be written; none is left.
        """
        file = self._folder / f"{self._namespace}.{uuid.uuid4().hex[:8]}.faiss"
        with ExitStack() as held:
            try:
                held.enter_context(being_written(file))
                index.write(file)
                _sync(file)
            except OSError as error:
                file.unlink(missing_ok=True)
                raise StoreError(
                    f"cannot write the faiss file {file} ({error}); it is only a cache, and no node is lost"
                ) from None
            yield file

    def record(self, file: Path, kind: str, last_deletion: int) -> None:
        """Let a written file be the one that is read, and remove the file that it replaces.

        A crash at any point leaves a recorded file that is whole, or none, and files that the next call removes.

        Args:
            file: Written by ``write``.
            kind: Kind of its index.
            last_deletion: How far the index had followed the log of deletions.
        """
        record = {"file": file.name, "crc32": _crc32(file), "kind": kind, "last_deletion": last_deletion}
        with ExitStack() as held:
            with self._database.writing() as writer:
                writer.set_setting(Setting.SNAPSHOT, record)
                writer.cut_deletions(last_deletion)
                # Nobody else records a file meanwhile: what is not being written is the replaced one, or was left by a
                # process that was killed.
                stale = held.enter_context(stale_files(self._folder, f"{self._namespace}.????????.faiss"))
            for other in stale:
                if other != file:
                    other.unlink(missing_ok=True)

    def read(self) -> tuple[AnnIndex, int] | None:
        """Read the recorded file.

        Returns:
            The index and how far it had followed the log of deletions; or None where no file is recorded, or it cannot
            be used, with a warning.
        """
        record = self._record()
        while record is not None:
            file = self._folder / record["file"]
            try:
                if _crc32(file) != record["crc32"]:
                    raise RuntimeError("it is damaged or of another store")
                return AnnIndex.read(file, record["kind"]), int(record["last_deletion"])
            except (OSError, RuntimeError, KeyError) as error:
                newer = self._record()
                if newer == record:
                    reason = error.strerror if isinstance(error, OSError) else error
                    logger.warning(
                        "the faiss file %s cannot be used (%s); rebuilding it from the database", file, reason
                    )
                    return None
                # Another process replaced the file meanwhile.
                record = newer
        return None

    def _record(self) -> Any:
        with self._database.reading() as reader:
            return reader.get_setting(Setting.SNAPSHOT)


def _sync(file: Path) -> None:
    """Bring the file to the disk: a power cut must not leave a record of a file with holes."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _crc32(file: Path) -> int:
    checksum = 0
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
