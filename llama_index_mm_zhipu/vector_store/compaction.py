"""Compaction of a vector file: the vectors of deleted and replaced nodes are left out of a new file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from llama_index_mm_zhipu.shared_folders import write_lock
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE
from llama_index_mm_zhipu.vector_store.database import Database
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.sessions import Reader
from llama_index_mm_zhipu.vector_store.vector_file import VectorLayout, Vectors, path_of

_MIN_DELETED = 10_000
_MAX_DELETED_SHARE = 0.5
"""A file is compacted if more of its rows belong to deleted nodes."""

_BATCH = 4096


def is_due(reader: Reader, nodes: int) -> bool:
    """Return whether most rows of the vector file belong to deleted nodes.

    Args:
        reader: Reader of the store.
        nodes: Number of nodes.
    """
    rows = reader.vector_rows()
    if rows is None:
        return False
    total = rows.count_until(reader.last_changes()[0])
    return total - nodes > max(_MIN_DELETED, _MAX_DELETED_SHARE * total)


def compact(database: Database, is_stopped: Callable[[], bool]) -> None:
    """Replace the vector file of a store by one with the vectors of its nodes alone.

    Queries go on, and so do additions until the last of them are copied. Processes that have the present file open keep
    it until their next call.

    Args:
        database: The store.
        is_stopped: Asked between blocks; true ends the compaction without a change.

    Raises:
        StoreError: The new file cannot be written; the present one stays.
    """
    with database.reading() as reader:
        rows, last_id = reader.vector_rows(), reader.last_changes()[0]
        ids = reader.select_ids(EVERY_NODE)
    if rows is None:
        return
    layout = VectorLayout.new(rows.layout.dimension, listed=len(ids), after=last_id)

    def blocks() -> Iterator[Vectors]:
        for start in range(0, len(ids), _BATCH):
            if is_stopped():
                raise _StoppedError
            yield rows.read(ids[start : start + _BATCH])

    try:
        with ExitStack() as stack:
            if database.path is not None:
                # The lock keeps other processes from removing the file before it is recorded.
                stack.enter_context(write_lock(path_of(database.path, layout)))
            database.vector_files.create(layout, ids, blocks())
            with database.writing() as writer:
                writer.use_vector_file(layout, instead_of=rows.layout)
    except _StoppedError:
        return
    except OSError as error:
        raise StoreError(f"cannot compact the vector file of {database.path} ({error}); nothing was changed") from None
    database.remove_stale_vector_files()


class _StoppedError(Exception):
    """The store is being closed."""
