"""``PostgresBackend``: a table of LlamaIndex's ``PGVectorStore`` with everything that an index needs."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
from llama_index.vector_stores.postgres import PGVectorStore
from sqlalchemy import URL, Connection, Engine, create_engine, delete, func, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from llama_index_mm_zhipu.stores.backend import BY_TEXT, BY_VECTOR, Abilities, StoreBackend
from llama_index_mm_zhipu.stores.postgres.errors import errors_of, may_be_repeated
from llama_index_mm_zhipu.stores.postgres.filters import among_uuids, decode_text
from llama_index_mm_zhipu.stores.postgres.setup import prepare_table
from llama_index_mm_zhipu.stores.postgres.table import lock_key, stored_node, vector_of_text
from llama_index_mm_zhipu.stores.postgres.text import best_texts, text_queries
from llama_index_mm_zhipu.stores.postgres.vectors import VectorSearch, find_index
from llama_index_mm_zhipu.stores.records import Record, StoredNode
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.predicates import Predicate
from llama_index_mm_zhipu.vector_store.ranking import Scored
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

ResultT = TypeVar("ResultT")

_BATCH = 100
"""Nodes in memory at a time. Each may hold an image."""

_MAX_ATTEMPTS = 10
"""Attempts of a change that fails because another one runs at the same time."""

_FIRST_PAUSE, _MAX_PAUSE = 0.05, 1.0
"""Seconds between attempts at most, doubled each time. They are random, so that two changes do not meet again."""


class PostgresBackend(StoreBackend):
    """The table of a ``PGVectorStore``, with columns of its own beside LlamaIndex's.

    The first opening adds the columns and their indexes, and completes nodes that LlamaIndex wrote before; only the
    owner of the table may do that. From then on a plain ``PGVectorStore`` can read the table and delete from it, but
    its ``add`` raises an error, because no search would find its nodes.

    Vectors are compared exactly, or with an HNSW or IVFFlat index on the column ``embedding`` if there is one.

    Args:
        store: The store. Its own connections are used.

    Raises:
        StoreError: The server cannot be reached or refuses the user, or the table does not fit.
        ValueError: The store has no URL of a database.
    """

    abilities: ClassVar[Abilities] = Abilities(modes=BY_VECTOR | BY_TEXT, max_k=2**31 - 1)

    def __init__(self, store: PGVectorStore) -> None:
        self._dimension = store.embed_dim
        self._ef_search = int((store.hnsw_kwargs or {}).get("hnsw_ef_search", 0))
        table, schema = f"data_{store.table_name}", store.schema_name
        url = _url_of(store)
        with errors_of(_described(url, schema, table), url):
            self._engine = _initialised(store)
        self._process = os.getpid()
        self._url = self._engine.url
        self._name = _described(self._url, schema, table)
        with self._transaction() as connection:
            self._table = prepare_table(connection, schema, table, self._dimension, self._name)

    @property
    def name(self) -> str:
        """Name of the table, with its database and server."""
        return self._name

    def dimension(self) -> int:
        """Return the ``embed_dim`` of the store."""
        return self._dimension

    # What there is

    def count(self) -> int:
        """Return the number of nodes."""
        return int(self._scalar(select(func.count()).select_from(self._table.nodes)))

    def is_empty(self) -> bool:
        """Return whether there is no node."""
        return not self._scalar(select(self._table.any_node()))

    def has_texts(self) -> bool:
        """Return whether any node has words."""
        with_text = select(self._columns.id).where(self._columns.mm_length > 0).exists()
        return bool(self._scalar(select(with_text)))

    def get_setting(self, key: str) -> Any:
        """Return a setting of the nodes that are there, or None."""
        with self._transaction() as connection:
            if not connection.scalar(select(self._table.any_node())):
                return None
            return self._table.get_setting(connection, key)

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        """Return the texts under a metadata key by node id, without reading the nodes."""
        value = self._table.filters.text_under(key)
        statement = select(self._columns.node_id, value).where(value.is_not(None)).order_by(self._columns.mm_order)
        with self._transaction() as connection:
            return {decode_text(node_id): decode_text(found) for node_id, found in connection.execute(statement)}

    def state_id(self) -> str:
        """Return the number of nodes and the sum of their places in the order.

        Every node that is added or replaced gets a new place. Both are read from an index, without the nodes.
        """
        places = self._columns.mm_order
        with self._transaction() as connection:
            count, total = connection.execute(
                select(func.count(), func.sum(places)).select_from(self._table.nodes)
            ).one()
        return f"{count}/{total or 0}"

    # Changes

    def write(self, records: Sequence[Record], settings: Mapping[str, Any]) -> None:
        """Add or replace records in one transaction.

        Raises:
            ModelMismatchError: There are nodes of another embedding model.
        """
        # Writers run side by side, unless settings have to be changed.
        if not self._change(partial(self._write, records, settings, alone=False)):
            self._change(partial(self._write, records, settings, alone=True))

    def delete(self, predicate: Predicate) -> None:
        """Delete the nodes that meet a predicate."""
        statement = delete(self._table.nodes).where(self._condition(predicate))
        self._change(lambda connection: connection.execute(statement))

    def clear(self) -> None:
        """Delete every node and all settings."""
        self._change(self._table.clear)

    def _write(
        self, records: Sequence[Record], settings: Mapping[str, Any], connection: Connection, *, alone: bool
    ) -> bool:
        everything = records[0].settings
        recorded = self._table.write_settings(connection, settings, everything, self._name, alone=alone)
        if recorded:
            self._table.upsert(connection, records)
        return recorded

    def _change(self, work: Callable[[Connection], ResultT]) -> ResultT:
        """Do some work in a transaction, and again if another transaction got in its way."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            with errors_of(self._name, self._url):
                try:
                    with self._unguarded_transaction() as connection:
                        return work(connection)
                except DBAPIError as error:
                    if attempt == _MAX_ATTEMPTS or not may_be_repeated(error):
                        raise
            time.sleep(random.uniform(0, min(_MAX_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1))))
        raise AssertionError("the last attempt returns or raises")

    # Searches

    def nearest(self, vector: Vectors, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and inner products of the nearest nodes that meet a predicate, best first.

        They are exact if there is no index on the vectors, or if fewer than ``k`` nodes meet the predicate.
        """
        asked = self._table.vector(vector)
        search = VectorSearch(self._table.nodes, asked, self._condition(predicate), self._ef_search)
        with self._transaction() as connection:
            index = find_index(connection, self._table.quoted_name)
            return search.with_index(connection, index, k) if index else search.exact(connection, k)

    def search_text(self, query: str, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and BM25 scores of the best nodes that meet a predicate and have any of ``words_of_query``."""
        queries = text_queries(query)
        if not queries:
            return []
        statement = best_texts(self._table.nodes, queries, self._condition(predicate), k)
        with self._transaction() as connection:
            return [(key, score) for key, score in connection.execute(statement)]

    def select(self, predicate: Predicate, *, with_vectors: bool = False) -> Iterator[list[StoredNode]]:
        """Yield batches of the nodes that meet a predicate, in the order of addition, as they are at one moment."""
        listing = self._select(predicate, with_vectors)
        try:
            # ``yield from`` would close the listing before ``finally``.
            for batch in listing:  # noqa: UP028
                yield batch
        finally:
            # Whoever stops listing needs no error of a server that has failed meanwhile.
            with suppress(StoreError):
                listing.close()

    def _select(self, predicate: Predicate, with_vectors: bool) -> Generator[list[StoredNode], None, None]:
        statement = self._table.select_nodes(with_vectors=with_vectors).where(self._condition(predicate))
        # Two writers may have given nodes the same place.
        statement = statement.order_by(self._columns.mm_order, self._columns.id)
        with self._transaction() as connection:
            rows = connection.execution_options(yield_per=_BATCH).execute(statement)
            for batch in rows.partitions():
                yield [stored_node(row) for row in batch]

    def fetch(self, keys: Sequence[str], *, with_vectors: bool = False) -> dict[str, StoredNode]:
        """Return nodes by key; keys that are not there are left out."""
        statement = self._table.select_nodes(with_vectors=with_vectors).where(self._has_key(keys))
        with self._transaction() as connection:
            return {row[0]: stored_node(row) for row in connection.execute(statement)}

    def vectors_of(self, keys: Sequence[str]) -> dict[str, Vectors]:
        """Return vectors by key; keys that are not there are left out."""
        statement = select(self._columns.mm_key, self._table.vector_text()).where(self._has_key(keys))
        with self._transaction() as connection:
            return {key: vector_of_text(vector) for key, vector in connection.execute(statement)}

    def sample_vectors(self, n: int) -> Vectors:
        """Return vectors of at most ``n`` nodes: keys are hashes or random, so the first ones are a sample."""
        statement = select(self._table.vector_text()).order_by(self._columns.mm_key).limit(n)
        with self._transaction() as connection:
            vectors = [vector_of_text(vector) for (vector,) in connection.execute(statement)]
        return np.stack(vectors) if vectors else np.empty((0, self._dimension), np.float32)

    def close(self) -> None:
        """Close connections; the next call opens them again."""
        self._leave_connections_of_parent()
        self._engine.dispose()

    @property
    def _columns(self) -> Any:
        return self._table.nodes.c

    def _condition(self, predicate: Predicate) -> Any:
        return self._table.filters.condition(predicate)

    def _has_key(self, keys: Sequence[str]) -> Any:
        return self._columns.mm_key == among_uuids(keys)

    def _scalar(self, statement: Any) -> Any:
        with self._transaction() as connection:
            return connection.scalar(statement)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with errors_of(self._name, self._url), self._unguarded_transaction() as connection:
            yield connection

    @contextmanager
    def _unguarded_transaction(self) -> Iterator[Connection]:
        self._leave_connections_of_parent()
        with self._engine.connect() as connection:
            _require_alive(connection)
            yield connection
            connection.commit()

    def _leave_connections_of_parent(self) -> None:
        """Open connections of its own in a forked process: two processes would read each other's answers."""
        if self._process != os.getpid():
            self._engine.dispose(close=False)
            self._process = os.getpid()


def _require_alive(connection: Connection) -> None:
    """Begin a transaction, with another connection if this one was closed while it waited in the pool.

    A restart of the server closes all of them.
    """
    try:
        connection.scalar(text("select 1"))
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        connection.rollback()
        connection.scalar(text("select 1"))


def _initialised(store: PGVectorStore) -> Engine:
    """Return the engine of a store that has created its table.

    Transactions must see what others have committed, whatever isolation level the user's engine has.
    """
    initialise = partial(store.get_nodes, node_ids=[""])
    if store.client is None and _has_url(store):
        _call_alone(store, initialise)
    else:
        initialise()
    engine: Engine = store.client.execution_options(isolation_level="READ COMMITTED")
    return engine


def _call_alone(store: PGVectorStore, initialise: Callable[[], object]) -> None:
    """Let a store create its extension and table while no other one in this database does.

    PostgreSQL does not create the same thing twice at a time, and a store that fails, or whose server is away, only
    logs a warning, counts as initialised and never creates its table.
    """
    engine = create_engine(store.connection_string, **store.create_engine_kwargs)
    try:
        with engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(lock_key("initialisation"))))
            initialise()
    finally:
        engine.dispose()


def _url_of(store: PGVectorStore) -> URL:
    if not _has_url(store):
        # An engine was given, which the store does not show yet.
        return URL.create("postgresql")
    try:
        return make_url(store.connection_string)
    except (ArgumentError, ValueError):
        # The message could repeat the URL, with its password.
        raise ValueError(
            "SQLAlchemy cannot read the connection_string of the PGVectorStore; give postgresql+psycopg2://USER:PASSWORD"
            "@HOST:PORT/DATABASE, with special characters of the password as %XX"
        ) from None


def _has_url(store: PGVectorStore) -> bool:
    return bool(store.connection_string != "None")


def _described(url: URL, schema: str, table: str) -> str:
    host = url.host or url.query.get("host") or "local socket"
    port = f":{url.port}" if url.port else ""
    place = f" (database {url.database!r} at {host}{port})" if url.database else ""
    return f'PostgreSQL table "{schema}.{table}"{place}'
