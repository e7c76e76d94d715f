"""The file of an index: a snapshot that makes opening a store fast, and that can be written again at any time."""

from __future__ import annotations

import logging
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.shared_folders import stale_files, write_lock
from llama_index_mm_zhipu.vector_store.ann import AnnIndex
from llama_index_mm_zhipu.vector_store.database import Database
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.schema import Setting
from llama_index_mm_zhipu.vector_store.vector_file import sync_file

logger = logging.getLogger(__name__)

_MANY_DELETIONS = 1000
_CRC_CHUNK = 1 << 20


class SnapshotFile:
    """Writes an index to a file, whose name the database records, and reads it back.

    Args:
        database: Database of the index.
        folder: Folder of the files.
        namespace: Beginning of their names.
    """

    def __init__(self, database: Database, folder: Path, namespace: str) -> None:
        self._database = database
        self._folder = folder
        self._namespace = namespace
        self._pattern = f"{namespace}.????????.faiss"

    @contextmanager
    def write(self, index: AnnIndex) -> Iterator[Path]:
        """Write an index to a new file, which must be recorded inside.

        Raises:
            StoreError: The file cannot be written. No part of it is left.
        """
        file = self._folder / f"{self._namespace}.{uuid.uuid4().hex[:8]}.faiss"
        with ExitStack() as stack:
            try:
                stack.enter_context(write_lock(file))
                index.write(file)
                _sync(file)
            except OSError as error:
                file.unlink(missing_ok=True)
                raise StoreError(
                    f"cannot write the faiss file {file} ({error}); it is only a cache, and no node is lost"
                ) from None
            yield file

    def record(self, file: Path | None, record: Mapping[str, Any]) -> None:
        """Record a written file as the current one, and remove the file that it replaces.

        A crash at any point leaves a recorded file that is complete, or none, and files that the next call removes.

        Args:
            file: A file that ``write`` wrote; None if the index needs none.
            record: What to record with it: at least the position in the log of deletions.
        """
        snapshot = None if file is None else {**record, "file": file.name, "crc32": _crc32(file)}
        with ExitStack() as stack:
            with self._database.writing() as writer:
                writer.set_settings({Setting.SNAPSHOT: snapshot})
                writer.truncate_deletions(record["last_deletion"])
                # No other process can record a file now. A file that is not locked by its writer is the replaced one,
                # or was left by a process that was killed.
                stale = stack.enter_context(stale_files(self._folder, self._pattern))
            for other in stale:
                if other != file:
                    other.unlink(missing_ok=True)

    def is_superfluous(self) -> bool:
        """Whether a file is left that the index does not need, or the log of deletions has become long."""
        with self._database.reading() as reader:
            is_recorded = reader.get_setting(Setting.SNAPSHOT) is not None
            is_long = reader.logged_deletions() > _MANY_DELETIONS
        return is_recorded or is_long or any(self._folder.glob(self._pattern))

    def read(self) -> tuple[AnnIndex, Mapping[str, Any]] | None:
        """Read the recorded file.

        Returns:
            The index and what was recorded with it. None if no file is recorded, or, with a warning, if the file cannot
            be used.
        """
        record = self._record()
        while record is not None:
            file = self._folder / record["file"]
            try:
                if _crc32(file) != record["crc32"]:
                    raise RuntimeError("it is damaged or of another store")
                return AnnIndex.read(file, record["kind"]), record
            except (OSError, RuntimeError, KeyError) as error:
                newer = self._record()
                if newer == record:
                    reason = error.strerror if isinstance(error, OSError) else error
                    logger.warning(
                        "the faiss file %s cannot be used (%s); rebuilding it from the database", file, reason
                    )
                    return None
                # Another process replaced the file in the meantime.
                record = newer
        return None

    def _record(self) -> Any:
        with self._database.reading() as reader:
            return reader.get_setting(Setting.SNAPSHOT)


def _sync(file: Path) -> None:
    """Flush a file to the disk: after a power cut, a recorded file must not have holes."""
    with file.open("rb+") as opened:
        sync_file(opened.fileno())


def _crc32(file: Path) -> int:
    checksum = 0
    with file.open("rb") as opened:
        while chunk := opened.read(_CRC_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
