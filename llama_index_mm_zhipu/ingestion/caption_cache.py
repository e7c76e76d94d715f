"""Captions on disk, by what they were written for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from llama_index.core.utils import get_cache_dir

from llama_index_mm_zhipu.shared_folders import make_folder

_WAIT_SECONDS = 30.0


class CaptionCacheError(OSError):
    """The file with the captions cannot be read or written."""


class CaptionCache:
    """A SQLite file that threads and processes may share; what was put is on disk.

    Args:
        path: The file, made if missing; None takes ``llama_index_mm_zhipu/captions.sqlite3`` in LlamaIndex's cache
            folder, which ``LLAMA_INDEX_CACHE_DIR`` names.

    Raises:
        CaptionCacheError: The file cannot be written, or is something else.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        default = Path(get_cache_dir()) / "llama_index_mm_zhipu" / "captions.sqlite3"
        self.path = Path(path).expanduser() if path is not None else default
        make_folder(self.path.parent)
        with self._connection() as connection:
            # A file that cannot be written is told before anything is paid for.
            connection.execute("begin immediate")
            connection.execute("create table if not exists captions (key text primary key, caption text not null)")

    def get(self, key: str) -> str | None:
        """Return what was put under a key, or None."""
        with self._connection() as connection:
            row = connection.execute("select caption from captions where key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def put(self, key: str, caption: str) -> None:
        """Keep a caption."""
        with self._connection() as connection:
            connection.execute("insert or replace into captions values (?, ?)", (key, caption))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            told = f"the cache of captions at {self.path} cannot be used: {error}; give another path"
            raise CaptionCacheError(told) from None
