"""The faiss index of a database, which follows the commits of all processes, and its file.

The database is authoritative: the index can be rebuilt from it at any time, and its file is a snapshot that only makes
opening a store fast.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from llama_index_mm_zhipu.vector_store import compaction
from llama_index_mm_zhipu.vector_store.ann import AUTO, IVF, UNTRAINED, AnnIndex, index_type_for
from llama_index_mm_zhipu.vector_store.calibration import (
    DEFAULT_CALIBRATION,
    SAMPLE,
    Calibration,
    NeighbourSample,
    calibrate,
)
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE
from llama_index_mm_zhipu.vector_store.database import Database
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.faiss_indexes import FLAT
from llama_index_mm_zhipu.vector_store.faiss_library import load_faiss
from llama_index_mm_zhipu.vector_store.ivf import TRAINING_VECTORS
from llama_index_mm_zhipu.vector_store.schema import Setting
from llama_index_mm_zhipu.vector_store.sessions import Reader
from llama_index_mm_zhipu.vector_store.snapshot_file import SnapshotFile
from llama_index_mm_zhipu.vector_store.vector_file import Ids, evenly_spaced

logger = logging.getLogger(__name__)

_BATCH = 4096
_FEW_CHANGES = 1000
_FEW_CHANGES_SHARE = 0.01
_PAUSE = 0.001


class Position(NamedTuple):
    """How far an index has followed the database.

    Attributes:
        last_id: Largest row id in the index.
        last_deletion: Position in the log of deletions.
    """

    last_id: int
    last_deletion: int


class IndexCache:
    """The index of a database. Callers hold the database's reader while they call ``follow`` or ``rebuild_if_due``, and
    while they use the index.

    Args:
        database: Database with the vectors.
        folder: Folder of the faiss file; None for no file.
        namespace: Beginning of the file's name.
        auto: Whether to choose the index type by the number of vectors even if ``reindex`` chose another one.
        recall: Share of the nearest vectors that searches of type ``"ivf"`` are to find.

    Attributes:
        index: The index, or None while the database never had a vector.
        calibration: What a search of an index of type ``"ivf"`` looks at.
    """

    def __init__(
        self, database: Database, folder: Path | None, namespace: str, auto: bool = False, recall: float = 0.99
    ) -> None:
        self.index: AnnIndex | None = None
        self.calibration = DEFAULT_CALIBRATION
        self._recall = recall
        self._database = database
        self._file = SnapshotFile(database, folder, namespace) if folder is not None else None
        self._auto = auto
        self._index_type = FLAT
        self._last_deletion = 0
        self._written: Position | None = None
        self._data_version: tuple[int, int] | None = None
        self._deleted_since = 0
        self._builder: threading.Thread | None = None
        self._encoder: threading.Thread | None = None
        self._is_encoding = False
        self._stopped = threading.Event()
        self._building = threading.Lock()
        # Imported now, so that the first addition is not delayed.
        load_faiss()
        self._open()

    def follow(self, reader: Reader) -> None:
        """Apply to the index what any thread or process has committed since the last call."""
        version = reader.data_version()
        if version != self._data_version:
            self.index, self._last_deletion = self._caught_up(self.index, self._last_deletion, reader)
            self._data_version, self._deleted_since = version, 0
            self._encode_if_due()

    def follow_deletions(self, count: int) -> None:
        """Follow deletions that were just committed if there are many by now.

        The next query follows the others. A deletion would otherwise take half as long again, to read pages that it has
        changed.

        Args:
            count: Number of nodes that were deleted.
        """
        self._deleted_since += count
        if self._deleted_since >= _FEW_CHANGES:
            with self._database.reading() as reader:
                self.follow(reader)
                self.rebuild_if_due()

    def rebuild_if_due(self) -> None:
        """Start to rebuild the index in a thread if its type does not suit its size, or if much of it was deleted.

        The vector file is compacted if much of it was deleted.
        """
        if self.index is None or (self._builder is not None and self._builder.is_alive()):
            return
        due = self._due_index_type()
        with self._database.reading() as reader:
            is_sparse = compaction.is_due(reader, len(self.index))
        if due is not None or is_sparse:
            self._builder = threading.Thread(target=self._tidy, args=(due, is_sparse), daemon=True)
            self._builder.start()

    def reindex(self, index_type: str, show_progress: bool = False) -> None:
        """Replace the index by one of another type, record the type, and write the faiss file.

        Args:
            index_type: As in ``AnnIndex.empty``, or ``"auto"``.
            show_progress: Show a progress bar.

        Raises:
            ValueError: faiss does not know the type, or there are too few vectors to train it.
        """
        if index_type == AUTO:
            with self._database.reading() as reader:
                self.follow(reader)
                suitable = index_type_for(len(self.index) if self.index is not None else 0)
            self._build(suitable, show_progress)
        else:
            self._build(index_type, show_progress)
        self._auto = index_type == AUTO
        with self._database.writing() as writer:
            writer.set_settings({Setting.INDEX_TYPE: index_type})
        self.write()

    def wait(self) -> None:
        """Wait for the end of what is done to the index in the background."""
        if self._builder is not None:
            self._builder.join()
        # The builder may have started it.
        if self._encoder is not None:
            self._encoder.join()

    def stop(self) -> None:
        """Abort what is done in the background, and wait for its end."""
        self._stopped.set()
        with self._building:
            pass
        if self._encoder is not None:
            self._encoder.join()

    @property
    def has_file(self) -> bool:
        """Whether there is a faiss file of this index, however old, or it needs none."""
        return self._written is not None or self.index is None or self.index.is_exact

    @property
    def is_far_ahead(self) -> bool:
        """Whether reading the changes since the faiss file was written would delay the next opening."""
        if self.index is None or self.index.is_exact:
            return self._file is not None and self._file.is_superfluous()
        written = self._written or Position(0, 0)
        changes = sum(now - then for now, then in zip(self._position(), written, strict=True))
        return changes > max(_FEW_CHANGES, _FEW_CHANGES_SHARE * (len(self.index) if self.index is not None else 0))

    def write(self) -> None:
        """Write the faiss file, if the index has changed since it was written.

        A flat index has no file: reading the vectors takes no longer.

        Raises:
            StoreError: The file cannot be written.
        """
        if self._file is None or self._database.is_read_only:
            return
        with ExitStack() as stack:
            # The lock prevents additions to the index while it is written.
            with self._database.reading():
                position = self._position()
                if self.index is None or position == self._written:
                    return
                record = self._record_of(self.index, position)
                file = None if self.index.is_exact else stack.enter_context(self._file.write(self.index))
            self._file.record(file, record)
        self._written = position

    def _record_of(self, index: AnnIndex, position: Position) -> dict[str, Any]:
        calibration = {"calibration": asdict(self.calibration)} if index.index_type == IVF else {}
        return {"kind": index.index_type, "last_deletion": position.last_deletion, **calibration}

    def _position(self) -> Position:
        return Position(self.index.last_id if self.index is not None else 0, self._last_deletion)

    def _open(self) -> None:
        with self._database.reading() as reader:
            recorded = reader.get_setting(Setting.INDEX_TYPE) or AUTO
        self._auto = self._auto or recorded == AUTO
        read = self._file.read() if self._file is not None else None
        if read is not None:
            self.index, record = read
            self._last_deletion = int(record["last_deletion"])
            self._index_type, self._written = self.index.index_type, self._position()
            self.calibration = Calibration(**record.get("calibration", {}))
        else:
            self._build_type(recorded)
        with self._database.reading() as reader:
            self.follow(reader)

    def _build_type(self, index_type: str) -> None:
        if index_type == AUTO:
            with self._database.reading() as reader:
                index_type = index_type_for(reader.count())
        try:
            self._build(index_type)
        except ValueError as error:
            logger.warning("%s; searching flat instead", error)
            self._build(FLAT)

    def _due_index_type(self) -> str | None:
        if self.index is None:
            return None
        suitable = index_type_for(len(self.index))
        if self._auto and self.index.is_exact and suitable != self.index.index_type:
            return suitable
        return self.index.index_type if self.index.needs_rebuild else None

    def _tidy(self, index_type: str | None, is_sparse: bool) -> None:
        name = self._database.path or "in memory"
        # The number of threads is that of this thread. The other cores are left to queries and additions.
        load_faiss().omp_set_num_threads(1)
        try:
            if is_sparse:
                logger.info("compacting the vectors of the store %s in the background", name)
                with self._building:
                    compaction.compact(self._database, self._stopped.is_set)
            if index_type is not None:
                logger.info("building an index of type %s for the store %s in the background", index_type, name)
                self._build(index_type)
                self.write()
        except Exception as error:
            if not self._database.is_closed:
                logger.warning("the store %s was not tidied in the background: %s", name, error)

    def _encode_if_due(self) -> None:
        if self._is_encoding or self._stopped.is_set():
            return
        if self.index is not None and self.index.has_many_recent:
            self._is_encoding = True
            self._encoder = threading.Thread(target=self._encode, daemon=True)
            self._encoder.start()

    def _encode(self) -> None:
        """Encode the vectors that were added last, few at a time, so that queries and additions can go on."""
        load_faiss().omp_set_num_threads(1)
        try:
            while self._is_encoding:
                with self._database.reading():
                    has_more = self.index is not None and self.index.encode_some()
                    self._is_encoding = has_more and not self._stopped.is_set()
                # A thread that waits for the lock would not get it before this one asks for it again.
                time.sleep(_PAUSE)
        except StoreError:
            # The store was closed or damaged. Vectors without codes are found as well.
            self._is_encoding = False

    def _build(self, index_type: str, show_progress: bool = False) -> None:
        """Build an index of the stored vectors, and replace the present one by it.

        Reads the database in short transactions, so that queries and additions can go on.
        """
        with self._building:
            with self._database.reading() as reader:
                ids = self._ids(reader)
                last_deletion = reader.last_deletion()
                sample = reader.vectors_of(evenly_spaced(ids, 1 if index_type in UNTRAINED else TRAINING_VECTORS))
                queries = evenly_spaced(ids, SAMPLE if index_type == IVF else 0)
                neighbours = NeighbourSample(reader.vectors_of(queries), queries)
            if not len(ids):
                self._begin_with(index_type)
                return
            index = AnnIndex.empty(sample.shape[1], index_type, sample, len(ids))
            del sample
            with tqdm(total=len(ids), desc=f"Building {index_type} index", disable=not show_progress) as bar:
                while not self._stopped.is_set():
                    with self._database.reading() as reader:
                        batch, vectors = reader.vectors_after(index.last_id, _BATCH)
                    if not len(batch):
                        break
                    index.add(batch, vectors)
                    if len(queries):
                        neighbours.see(batch, vectors)
                    if len(index) == len(batch):
                        index.require_selection()
                    bar.update(len(batch))
            if self._stopped.is_set():
                return
            calibration = calibrate(index, neighbours, self._recall)
            with self._database.reading() as reader:
                # Some of the vectors were deleted since the beginning; they are in the index and are removed here.
                self.index, self._last_deletion = self._caught_up(index, last_deletion, reader)
                self._index_type, self._written, self.calibration = index_type, None, calibration
                self._encode_if_due()

    def _ids(self, reader: Reader) -> Ids:
        """Return the row ids of all nodes. Listing them takes SQLite a second for two million, while queries wait."""
        if self.index is not None:
            self.follow(reader)
        return self.index.ids if self.index is not None else reader.select_ids(EVERY_NODE)

    def _begin_with(self, index_type: str) -> None:
        if index_type not in UNTRAINED:
            raise ValueError(f"the store is empty: add nodes before an index of type {index_type!r} is built from them")
        self.index, self._index_type = None, index_type

    def _caught_up(self, index: AnnIndex | None, last_deletion: int, reader: Reader) -> tuple[AnnIndex | None, int]:
        """Apply to an index what was committed since it last followed the database.

        Returns:
            The index, or a new one if it cannot be used, and its position in the log of deletions.
        """
        if index is not None and not index.is_consistent:
            index = None
        if index is not None and reader.get_setting(Setting.DIMENSION) != index.dimension:
            # The store was cleared, and may have been filled with vectors of another dimension.
            index, self._index_type, self._written = None, FLAT, None
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
                index = AnnIndex.empty(vectors.shape[1], self._index_type if self._index_type in UNTRAINED else FLAT)
            index.add(ids, vectors)
