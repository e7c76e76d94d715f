"""The faiss index of a database: kept up with what any process commits, and built anew in any kind."""

from __future__ import annotations

import logging
import os
import threading
import uuid
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from llama_index_mm_zhipu.shared_folders import stale_files, write_lock
from llama_index_mm_zhipu.vector_store.ann import FLAT, UNTRAINED, AnnIndex, load_faiss
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE
from llama_index_mm_zhipu.vector_store.database import Database
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.nodes import Setting
from llama_index_mm_zhipu.vector_store.sessions import Ids, Reader

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
                held.enter_context(write_lock(file))
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


_BATCH = 4096
_TRAINING_VECTORS = 65_536
_TAIL = 1000
_TAIL_SHARE = 0.01


class Position(NamedTuple):
    """How far an index has followed the database.

    Attributes:
        last_id: Largest row id that it holds.
        last_deletion: Place in the log of deletions.
    """

    last_id: int
    last_deletion: int


class IndexCache:
    """An index that can always be rebuilt from its database. To be used while holding the database's reader.

    Args:
        database: Holds the vectors.
        folder: Where the faiss file lies; None for no file.
        namespace: Begins the file's name.

    Attributes:
        index: The index, or None while the database never held a vector.
    """

    def __init__(self, database: Database, folder: Path | None, namespace: str) -> None:
        self.index: AnnIndex | None = None
        self._database = database
        self._file = SnapshotFile(database, folder, namespace) if folder is not None else None
        self._kind = FLAT
        self._last_deletion = 0
        self._written: Position | None = None
        self._data_version: tuple[int, int] | None = None
        self._stopped = threading.Event()
        self._building = threading.Lock()
        # Now, so that the first addition does not wait for it.
        load_faiss()
        self._open()

    @property
    def kind(self) -> str:
        """Kind of the index, or what it will be once there are vectors."""
        return self.index.kind if self.index is not None else self._kind

    def follow(self, reader: Reader) -> None:
        """Bring the index up to what has been committed since it last looked, by whatever thread or process."""
        version = reader.data_version()
        if version != self._data_version:
            self.replay(reader)
            self._data_version = version

    def replay(self, reader: Reader) -> None:
        """Add what was inserted and skip what was deleted since the index last looked."""
        self.index, self._last_deletion = self._caught_up(self.index, self._last_deletion, reader)

    def build(self, kind: str, show_progress: bool = False) -> None:
        """Build the index anew from the stored vectors, and put it in the place of the present one.

        The database is read in short turns, so queries and additions go on meanwhile. Not to be called while holding
        the reader.

        Args:
            kind: As in ``AnnIndex``.
            show_progress: Show a progress bar.

        Raises:
            ValueError: faiss does not know the kind, or there are too few vectors to train it.
        """
        with self._building:
            with self._database.reading() as reader:
                ids = reader.select_ids(EVERY_NODE)
                last_deletion = reader.last_deletion()
                sample = reader.vectors_of(_spread(ids, 1 if kind in UNTRAINED else _TRAINING_VECTORS))
            if not len(ids):
                self._begin_with(kind)
                return
            index = AnnIndex.empty(sample.shape[1], kind, sample)
            with tqdm(total=len(ids), desc=f"Building {kind} index", disable=not show_progress) as bar:
                while not self._stopped.is_set():
                    with self._database.reading() as reader:
                        batch, vectors = reader.vectors_after(index.last_id, _BATCH)
                    if not len(batch):
                        break
                    index.add(batch, vectors)
                    if len(index) == len(batch):
                        index.require_selection()
                    bar.update(len(batch))
            if self._stopped.is_set():
                return
            with self._database.reading() as reader:
                # Deletions since the beginning concern vectors that are in by now, and are replayed here.
                self.index, self._last_deletion = self._caught_up(index, last_deletion, reader)
                self._kind, self._written = kind, None

    def stop(self) -> None:
        """End a build that goes on in another thread, without its result."""
        self._stopped.set()
        with self._building:
            pass

    def write(self) -> None:
        """Write the faiss file, if the index has moved since it was written.

        Raises:
            StoreError: The file cannot be written.
        """
        if self._file is None or self._database.is_read_only:
            return
        with ExitStack() as held:
            # Nothing may be added to an index that is being written.
            with self._database.reading():
                position = self._position()
                if self.index is None or position == self._written:
                    return
                kind = self.index.kind
                file = held.enter_context(self._file.write(self.index))
            self._file.record(file, kind, position.last_deletion)
        self._written = position

    def write_if_far_ahead(self) -> None:
        """Write the faiss file, unless replaying the changes since the last one takes no time to speak of."""
        if self.index is None or self._written is None:
            self.write()
            return
        changes = sum(now - then for now, then in zip(self._position(), self._written, strict=True))
        if changes > max(_TAIL, _TAIL_SHARE * len(self.index)):
            self.write()

    def _position(self) -> Position:
        return Position(self.index.last_id if self.index is not None else 0, self._last_deletion)

    def _begin_with(self, kind: str) -> None:
        if kind not in UNTRAINED:
            raise ValueError(f"the store is empty: add nodes before an index of kind {kind!r} is built from them")
        self.index, self._kind = None, kind

    def _open(self) -> None:
        read = self._file.read() if self._file is not None else None
        if read is not None:
            self.index, self._last_deletion = read
            self._kind, self._written = self.index.kind, self._position()
        else:
            self._build_recorded_kind()
        with self._database.reading() as reader:
            self.follow(reader)

    def _build_recorded_kind(self) -> None:
        with self._database.reading() as reader:
            kind = reader.get_setting(Setting.INDEX_KIND) or FLAT
        try:
            self.build(kind)
        except ValueError as error:
            logger.warning("%s; searching flat instead", error)
            self.build(FLAT)

    def _caught_up(self, index: AnnIndex | None, last_deletion: int, reader: Reader) -> tuple[AnnIndex | None, int]:
        """Bring an index up to the database.

        Returns:
            The index, a new one where need be, and how far it has followed the log of deletions.
        """
        if index is not None and not index.is_whole:
            index = None
        if index is not None and reader.get_setting(Setting.DIMENSION) != index.dimension:
            # The store was cleared meanwhile, and may have been filled with vectors of another dimension.
            index, self._kind, self._written = None, FLAT, None
        deletions = reader.deletions_after(last_deletion)
        if index is not None and not deletions.complete:
            index.keep_only(reader.select_ids(EVERY_NODE))
        elif index is not None and len(deletions.ids):
            index.remove(deletions.ids)
        while True:
            ids, vectors = reader.vectors_after(index.last_id if index is not None else 0, _BATCH)
            if not len(ids):
                return index, deletions.end
            if index is None:
                index = AnnIndex.empty(vectors.shape[1], self._kind if self._kind in UNTRAINED else FLAT)
            index.add(ids, vectors)


def _spread(ids: Ids, limit: int) -> Ids:
    """Return so many of the ids at even distances."""
    return ids[np.linspace(0, len(ids) - 1, min(limit, len(ids))).astype(np.int64)]
