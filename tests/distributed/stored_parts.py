"""What the checkpoint of a running ``embed_dataset`` says, read from another process or thread."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from llama_index_mm_zhipu.distributed.checkpoint import CHECKPOINT


def stored_parts(folder: Path) -> int:
    """Return how many parts the checkpoint in a folder says are stored."""
    file = folder / CHECKPOINT
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db, suppress(sqlite3.OperationalError):
        return int(db.execute("SELECT count(*) FROM parts").fetchone()[0])
    return 0


def wait_for_parts(folder: Path, count: int, is_running: Callable[[], bool] = lambda: True) -> bool:
    """Wait until so many parts are stored; return False if the run ended before."""
    while is_running():
        if stored_parts(folder) >= count:
            return True
        time.sleep(0.02)
    return False
