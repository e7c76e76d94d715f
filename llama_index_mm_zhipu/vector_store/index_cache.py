"""The faiss index of a database: kept up with what any process commits, and built anew in any kind."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from llama_index_mm_zhipu.vector_store.ann import FLAT, HNSW, AnnIndex
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE
from llama_index_mm_zhipu.vector_store.database import Database
from llama_index_mm_zhipu.vector_store.reader import Ids, Reader
from llama_index_mm_zhipu.vector_store.schema import Setting
from llama_index_mm_zhipu.vector_store.snapshot import Position, SnapshotFile

logger = logging.getLogger(__name__)

_BATCH = 4096
_TRAINING_VECTORS = 65_536
_TAIL = 1000
_TAIL_SHARE = 0.01


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
        self._position = Position()
        self._written: Position | None = None
        self._data_version = -1
        self._stopped = threading.Event()
        self._building = threading.Lock()
        self._open()

    @property
    def kind(self) -> str:
        """Kind of the index, or what it will be once there are vectors."""
        return self.index.kind if self.index is not None else self._kind

    def follow(self, reader: Reader) -> None:
        """Bring the index up to what other connections have committed."""
        version = reader.data_version()
        if version != self._data_version:
            self.replay(reader)
            self._data_version = version

    def replay(self, reader: Reader) -> None:
        """Add what was inserted and skip what was deleted since the index last looked."""
        self.index, self._position = self._caught_up(self.index, self._position, reader)

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
            self._kind = kind
            with self._database.reading() as reader:
                ids = reader.select_ids(EVERY_NODE)
                assert ids is not None
                if not len(ids):
                    return
                position = Position(0, reader.last_deletion())
                sample = reader.vectors_of(_spread(ids, 1 if kind in (FLAT, HNSW) else _TRAINING_VECTORS))
            index = AnnIndex(sample.shape[1], kind, sample)
            with tqdm(total=len(ids), desc=f"Building {kind} index", disable=not show_progress) as bar:
                while not self._stopped.is_set():
                    with self._database.reading() as reader:
                        batch, vectors = reader.vectors_after(position.last_id, _BATCH)
                    if not len(batch):
                        break
                    index.add(batch, vectors)
                    if not position.last_id:
                        index.require_selection()
                    position = Position(int(batch[-1]), position.last_deletion)
                    bar.update(len(batch))
            if self._stopped.is_set():
                return
            with self._database.reading() as reader:
                # Deletions since the beginning concern vectors that are in by now, and are replayed here.
                self.index, self._position = self._caught_up(index, position, reader)
                self._written = None

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
        # Nothing may be added to an index that is being written.
        with self._database.reading():
            if self._file is None or self.index is None or self._position == self._written:
                return
            kind, position = self.index.kind, self._position
            file = self._file.write(self.index)
        self._file.record(file, kind, position)
        self._written = position

    def write_if_far_ahead(self) -> None:
        """Write the faiss file, unless replaying the changes since the last one takes no time to speak of."""
        if self.index is None or self._written is None or self._changes() > max(_TAIL, _TAIL_SHARE * len(self.index)):
            self.write()

    def _changes(self) -> int:
        assert self._written is not None
        return sum(now - then for now, then in zip(self._position, self._written, strict=True))

    def _open(self) -> None:
        read = self._file.read() if self._file is not None else None
        if read is not None:
            self.index, self._position = read
            self._written = self._position
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

    def _caught_up(
        self, index: AnnIndex | None, position: Position, reader: Reader
    ) -> tuple[AnnIndex | None, Position]:
        """Bring an index up to the database, and return it, a new one if need be, with its new position."""
        deletions = reader.deletions_after(position.last_deletion)
        if index is not None and not deletions.complete:
            every = reader.select_ids(EVERY_NODE)
            assert every is not None
            index.keep_only(every)
        elif index is not None and len(deletions.ids):
            index.remove(deletions.ids)
        if index is not None and reader.get_setting(Setting.DIMENSION) is None:
            # The store was cleared: the next vectors may have another dimension.
            index, self._kind, self._written = None, FLAT, None
        last_id = position.last_id
        while True:
            ids, vectors = reader.vectors_after(last_id, _BATCH)
            if not len(ids):
                return index, Position(last_id, deletions.end)
            if index is None or index.dimension != vectors.shape[1]:
                # Only a store that was cleared changes its dimension, so nothing of the old index is left.
                index = self._new_index(vectors.shape[1])
            index.add(ids, vectors)
            last_id = int(ids[-1])

    def _new_index(self, dimension: int) -> AnnIndex:
        try:
            return AnnIndex(dimension, self._kind)
        except ValueError:
            # A kind that wants training has to wait for vectors and ``build``.
            return AnnIndex(dimension)


def _spread(ids: Ids, limit: int) -> Ids:
    """Return so many of the ids at even distances."""
    return ids[np.linspace(0, len(ids) - 1, min(limit, len(ids))).astype(np.int64)]
