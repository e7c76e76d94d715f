"""The faiss index of a database: kept up with what any process commits, and with a file that makes opening fast."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from llama_index_mm_zhipu.vector_store.ann import AnnIndex
from llama_index_mm_zhipu.vector_store.database import Database

logger = logging.getLogger(__name__)

_SETTING = "snapshot"


class Position(NamedTuple):
    """How far an index has followed the database.

    Attributes:
        last_id: Largest row id that it holds.
        last_deletion: Place in the log of deletions.
    """

    last_id: int = 0
    last_deletion: int = 0


class IndexCache:
    """An index that can always be rebuilt from its database.

    Args:
        database: Holds the vectors.
        folder: Where the file lies; None for no file.
        namespace: Begins the file's name.

    Attributes:
        index: The index, or None while the database never held a vector.
    """

    def __init__(self, database: Database, folder: Path | None, namespace: str) -> None:
        self.index: AnnIndex | None = None
        self._database = database
        self._folder = folder
        self._namespace = namespace
        self._position = Position()
        self._written_position: Position | None = None
        self._data_version = -1
        self._read_file()
        self.follow()

    def follow(self) -> None:
        """Bring the index up to what other connections have committed."""
        version = self._database.data_version()
        if version != self._data_version:
            self.replay()
            self._data_version = version

    def replay(self) -> None:
        """Add what was inserted and skip what was deleted since the index last looked."""
        known = last_id = self._position.last_id
        with self._database.reading():
            deleted, last_deletion = self._database.deletions_after(self._position.last_deletion)
            if self.index is not None:
                # Newer ones came and went between two looks: the index never held them.
                self.index.remove([id_ for id_ in deleted if id_ <= known])
            for ids, vectors in self._database.vectors_after(known):
                if self.index is None or self.index.dimension != vectors.shape[1]:
                    # Only a cleared store changes its dimension, so nothing of the old index is left.
                    self.index = AnnIndex(vectors.shape[1])
                self.index.add(ids, vectors)
                last_id = ids[-1]
        self._position = Position(last_id, last_deletion)

    def clear(self) -> None:
        """Drop the index of a database that was cleared."""
        self.replay()
        self.index = None
        self._written_position = None

    def write(self) -> None:
        """Write the index to a new file, record it in the database, and remove the file that it replaces.

        A crash at any point leaves a recorded file that is whole, or none.
        """
        if self._folder is None or self.index is None or self._position == self._written_position:
            return
        file = self._folder / f"{self._namespace}.{uuid.uuid4().hex[:8]}.faiss"
        self.index.write(file)
        record = {
            "file": file.name,
            "bytes": file.stat().st_size,
            "vectors": len(self.index),
            "position": self._position,
        }
        with self._database.transaction():
            self._database.set_setting(_SETTING, record)
        for other in self._folder.glob(f"{self._namespace}.*.faiss"):
            if other != file:
                other.unlink(missing_ok=True)
        self._written_position = self._position

    def _read_file(self) -> None:
        record = self._database.get_setting(_SETTING)
        if record is None or self._folder is None:
            return
        file = self._folder / record["file"]
        try:
            self.index = _read_whole(file, record)
        except (OSError, RuntimeError) as error:
            logger.warning("the faiss file %s cannot be used (%s); rebuilding it from the database", file, error)
            return
        self._position = self._written_position = Position(*record["position"])


def _read_whole(file: Path, record: dict[str, Any]) -> AnnIndex:
    size = file.stat().st_size
    if size != record["bytes"]:
        raise RuntimeError(f"it has {size} bytes instead of {record['bytes']}")
    index = AnnIndex.read(file)
    if len(index) != record["vectors"]:
        raise RuntimeError(f"it has {len(index)} vectors instead of {record['vectors']}")
    return index
