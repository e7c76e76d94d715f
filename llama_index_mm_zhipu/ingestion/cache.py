"""Results by key in a SQLite file, so that work on an image is done once: captions, and lines that OCR read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from llama_index.core.utils import get_cache_dir

from llama_index_mm_zhipu.shared_folders import make_folder


class CacheError(OSError):
    """A cache file cannot be read or written."""


_BUSY_SECONDS = 30.0
"""How long to wait while another process writes."""


class ResultCache:
    """Texts by key in a SQLite file, which threads and processes may share. After ``put`` a text is on disk.

    Args:
        path: The file, which is created if necessary; None is ``llama_index_mm_zhipu/<name>.sqlite3`` in LlamaIndex's
            cache folder (environment variable ``LLAMA_INDEX_CACHE_DIR``).
        name: What the cache holds, in the plural; the name of the table.
        column: Name of the column of texts.
        error: Class of the error for a file that cannot be used.

    Raises:
        CacheError: The file cannot be written, or is not such a file.
    """

    def __init__(
        self, path: str | Path | None, *, name: str, column: str, error: type[CacheError] = CacheError
    ) -> None:
        default = Path(get_cache_dir()) / "llama_index_mm_zhipu" / f"{name}.sqlite3"
        self.path = Path(path).expanduser() if path is not None else default
        self._name = name
        self._column = column
        self._error = error
        make_folder(self.path.parent)
        with self._connection() as connection:
            # Fails for a file that cannot be written, before any work is done.
            connection.execute("begin immediate")
            connection.execute(f"create table if not exists {name} (key text primary key, {column} text not null)")
            # Fails for a table of other columns.
            connection.execute(f"select key, {column} from {name} limit 0")

    def get(self, key: str) -> str | None:
        """Return the text for a key, or None."""
        with self._connection() as connection:
            row = connection.execute(f"select {self._column} from {self._name} where key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def put(self, key: str, text: str) -> None:
        """Store a text."""
        with self._connection() as connection:
            connection.execute(f"insert or replace into {self._name} (key, {self._column}) values (?, ?)", (key, text))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise self._error(
                f"the cache of {self._name} at {self.path} cannot be used: {error}; give another path"
            ) from None
