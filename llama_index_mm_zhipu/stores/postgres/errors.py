"""Errors of PostgreSQL as errors that say what to do, without passwords, statements or parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.errors import StoreError

_ADVICE = {
    "08": "check that the server runs and can be reached, and try again",
    "22": "the server cannot store a value of a node; nothing was changed",
    "23505": "two writers used an id at the same time, or the table was changed by other means; try again",
    "25006": "connect to a server that is not read-only",
    "28": "check user and password",
    "3D000": "create the database, or connect to another one",
    "3F000": "create the schema, or choose another schema_name",
    "40": "another process changed the same nodes; try again",
    "42501": "grant the user SELECT, INSERT, UPDATE and DELETE on the table, its sequence and its settings table; the "
    "first opening also alters the table, which only its owner may",
    "42704": "install the extension pgvector on the server, and run CREATE EXTENSION vector",
    "42P01": "the table is gone, or could not be created; make a new PGVectorStore, with a user who may create tables",
    "428C9": "the table was changed by other means; build the index again in another table",
    "53100": "free space on the disk of the server and run the same call again; nodes of earlier calls are there",
    "53300": "the server has too many connections; close some, or raise its max_connections",
    "54": "a node is too large for a row or an index of PostgreSQL; split its text, or give image_storage=… for images",
    "57014": "the statement took longer than the server permits (statement_timeout), or was cancelled",
    "57": "the server stops or starts; try again, nodes of earlier calls are there",
    "58030": "the disk of the server fails; look at the server's log",
}
"""What to do by SQLSTATE or its beginning."""

_SAYS_VALUES = "22"
"""Class of the errors whose messages repeat values of the statement."""

_NO_CONNECTION = "the server cannot be reached, or closed the connection"
_DEADLOCK, _CONFLICT = "40P01", "40001"


@contextmanager
def errors_of(name: str, url: URL) -> Iterator[None]:
    """Turn errors of SQLAlchemy and its drivers into ``StoreError``.

    Args:
        name: What messages call the table.
        url: URL of the database, whose password is removed from messages.

    Raises:
        StoreError: The server cannot be reached, or refuses a statement.
    """
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"{name}: {_described(error, url)}") from None
    except NoFreeConnection:
        raise StoreError(
            f"{name}: no connection became free in time; give PGVectorStore a larger pool "
            "(create_engine_kwargs={'pool_size': …}), or make fewer calls at a time"
        ) from None
    except SQLAlchemyError as error:
        raise StoreError(f"{name}: {type(error).__name__}; check the settings of the PGVectorStore") from None


def may_be_repeated(error: DBAPIError) -> bool:
    """Return whether a transaction failed only because another one ran at the same time."""
    return _sqlstate(error) in (_DEADLOCK, _CONFLICT)


def _described(error: DBAPIError, url: URL) -> str:
    state = _sqlstate(error)
    primary = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    # Errors without a message of the server come from libpq. Their first line names server, user and reason.
    reason = primary or str(error.orig).partition("\n")[0]
    if state is None:
        return f"{_without_password(reason, url) or _NO_CONNECTION}; {_connection_advice(reason)}"
    advice = next((_ADVICE[code] for code in (state, state[:2]) if code in _ADVICE), "see the log of the server")
    said = "" if state.startswith(_SAYS_VALUES) else f"{_without_password(reason, url)} "
    return f"{said}(SQLSTATE {state}); {advice}"


def _connection_advice(reason: str) -> str:
    lower = reason.lower()
    if "password" in lower or "authentication" in lower or "pg_hba" in lower:
        return _ADVICE["28"]
    if 'database "' in lower and "does not exist" in lower:
        return _ADVICE["3D000"]
    return "check that the server runs and can be reached, and try again; nodes of earlier calls are there"


def _without_password(text: str, url: URL) -> str:
    text = one_line(text)
    return text.replace(str(url.password), "***") if url.password else text


def _sqlstate(error: DBAPIError) -> str | None:
    # psycopg2 and psycopg call it differently.
    original: Any = error.orig
    return getattr(original, "pgcode", None) or getattr(original, "sqlstate", None)
