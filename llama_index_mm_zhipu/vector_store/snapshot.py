"""The faiss file beside the database: a cache of its vectors that makes opening fast."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import NamedTuple

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


def write_snapshot(index: AnnIndex, position: Position, database: Database, folder: Path, namespace: str) -> None:
    """Write the index to a new file, record it in the database, and remove the file that it replaces.

    A crash at any point leaves a recorded file that is whole, or none.
    """
    file = folder / f"{namespace}.{uuid.uuid4().hex[:8]}.faiss"
    index.write(file)
    with database.transaction():
        database.set_setting(
            _SETTING, {"file": file.name, "bytes": file.stat().st_size, "vectors": len(index), "position": position}
        )
    for other in folder.glob(f"{namespace}.*.faiss"):
        if other != file:
            other.unlink(missing_ok=True)


def read_snapshot(database: Database, folder: Path | None) -> tuple[AnnIndex, Position] | None:
    """Read the recorded file, if there is one and it is whole; else the caller rebuilds the index."""
    record = database.get_setting(_SETTING)
    if record is None or folder is None:
        return None
    file = folder / record["file"]
    try:
        if file.stat().st_size != record["bytes"]:
            raise RuntimeError(f"it has {file.stat().st_size} bytes instead of {record['bytes']}")
        index = AnnIndex.read(file)
        if len(index) != record["vectors"]:
            raise RuntimeError(f"it has {len(index)} vectors instead of {record['vectors']}")
    except (OSError, RuntimeError) as error:
        logger.warning("the faiss file %s cannot be used (%s); rebuilding it from the database", file, error)
        return None
    return index, Position(*record["position"])
