"""``MilvusBackend``: nodes in a collection of ``MilvusVectorStore``, on a server or in Milvus Lite.

What the code relies on was measured on Milvus 2.3.5 and Milvus Lite 3.2. All reads are ``Strong``: weaker ones miss
what was just written or deleted. On a server each of them waits for its clock, about 0.2 seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import grpc
import numpy as np
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.milvus import MilvusVectorStore
from pymilvus import DataType, MilvusException

from llama_index_mm_zhipu.stores.backend import (
    BY_VECTOR,
    Abilities,
    StoreBackend,
    message_without_secrets,
    require_same_process,
    unsupported,
)
from llama_index_mm_zhipu.stores.batches import batches_by_size, best_by_inner_product, cosine_candidates
from llama_index_mm_zhipu.stores.milvus.filters import (
    ID,
    exists,
    expression_of,
    keys_of_text_parts,
    literal,
    one_of,
    text_field,
)
from llama_index_mm_zhipu.stores.milvus.rows import LENGTH, ORDER, Row, RowFormat, setting_field
from llama_index_mm_zhipu.stores.records import Record, StoredNode
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.predicates import EVERY_NODE, Predicate
from llama_index_mm_zhipu.vector_store.ranking import Scored
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

_MAX_K = 16_384
"""Maximum results of a search, and of a page of a query."""

_PAGE = 10_000
_READ = 2_000
"""Rows that are read at once; fewer if they are larger than the server's messages."""

_MAX_MESSAGE = 16 << 20
"""Bytes of rows or ids that are sent at once. The server takes 64 MiB."""

_READING = {"consistency_level": "Strong"}
_RETRIES = {"retry_times": 7}
"""pymilvus repeats calls for some 7 seconds if the server does not answer; by default for minutes."""

_LITE_PAGING = {"iterator": "True", "reduce_stop_for_best": "True"}
"""Options of pymilvus' iterators. Milvus Lite needs them to sort by id. A server sorts anyway, and would not read
``Strong`` with them."""


class MilvusBackend(StoreBackend):
    """A collection of Milvus.

    Args:
        store: The store. Its collection must be empty or have been filled through ``ExternalVectorStore``, and rank by
            ``IP`` (recommended) or ``COSINE``.

    Raises:
        StoreError: The server cannot be reached, or the collection has another dimension than the store.
        ValueError: The collection cannot be used.
    """

    # The size of a row is checked exactly by write: the text has a limit of its own.
    abilities: ClassVar[Abilities] = Abilities(modes=BY_VECTOR, max_k=_MAX_K)

    def __init__(self, store: MilvusVectorStore) -> None:
        self._store = store
        self._client = store.client
        self._process = os.getpid()
        # The store does not keep the address that it was given, and the client has it in no public place.
        self._name = f'Milvus collection "{store.collection_name}" at {store.client._config.address}'
        with self._calls():
            schema = self._client.describe_collection(store.collection_name, **_RETRIES)
            self._metric = self._metric_of_index()
            # Milvus Lite loads no collection of a file that a process opens, and a server's may have been released.
            self._client.load_collection(store.collection_name, **_RETRIES)
            is_lite = self._client.get_server_version(**_RETRIES).startswith("milvus_lite")
        self._paging = _LITE_PAGING if is_lite else {}
        # The upsert of Milvus Lite keeps dynamic fields that the new row lacks, and its insert replaces rows.
        self._write = self._client.insert if is_lite else self._client.upsert
        self._dimension = self._dimension_of(schema)
        self._format = self._format_of(schema)
        self._require_own_rows()

    @property
    def name(self) -> str:
        """Collection, host and port."""
        return self._name

    def key_of(self, node_id: str) -> str:
        """Return the node id: Milvus takes any text."""
        return node_id

    def dimension(self) -> int | None:
        """Return the dimension of the collection."""
        return self._dimension

    def count(self) -> int:
        """Return the number of nodes."""
        return int(self._query("", ["count(*)"])[0]["count(*)"])

    def has_texts(self) -> bool:
        """Return False: there is no full text search."""
        return False

    def get_setting(self, key: str) -> Any:
        """Return a setting that is written beside each node, or None."""
        field = setting_field(key)
        # Any node has the settings of its time. Looking for one with a later setting reads the whole collection.
        rows = [row for row in self._query("", [field], limit=1) if field in row]
        rows = rows or self._query(exists(field), [field], limit=1)
        return json.loads(rows[0][field]) if rows else None

    def write(self, records: Sequence[Record], settings: Mapping[str, Any]) -> None:
        """Add records; each replaces the one with its key. If the server fails, some may have been added."""
        rows = [self._format.row(record) for record in records]
        if self._metric == "COSINE":
            self._require_directions(records)
        for batch in batches_by_size(rows, self._size_of, _MAX_MESSAGE):
            with self._calls("some nodes may have been added; add all of them again"):
                self._write(self._store.collection_name, batch, **_RETRIES)

    def delete(self, predicate: Predicate) -> None:
        """Delete the nodes that meet a predicate."""
        for keys in self._pages_of_keys(self._expression(predicate)):
            for batch in batches_by_size(keys, len, _MAX_MESSAGE):
                with self._calls("some nodes may have been deleted; delete again"):
                    self._client.delete(self._store.collection_name, filter=one_of(ID, batch), **_RETRIES)

    def clear(self) -> None:
        """Delete every node, and the settings beside them."""
        self.delete(EVERY_NODE)

    def nearest(self, vector: Vectors, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and inner products of the nearest nodes, best first."""
        if self._metric == "IP":
            return [(hit[ID], hit["distance"]) for hit in self._search(vector, k, predicate, [])]
        hits = self._search(vector, min(_MAX_K, cosine_candidates(k)), predicate, [LENGTH])
        lengths = [self._format.own_value({ID: hit[ID], **hit["entity"]}, LENGTH) for hit in hits]
        scored = [(hit[ID], hit["distance"], length) for hit, length in zip(hits, lengths, strict=True)]
        return best_by_inner_product(scored, vector, k)

    def search_text(self, query: str, k: int, predicate: Predicate) -> Scored[str]:
        """Raise an error: there is no full text search."""
        raise unsupported(self._name, "search text", f"use query mode {VectorStoreQueryMode.DEFAULT.value!r}")

    def select(self, predicate: Predicate, *, with_vectors: bool = False) -> Iterator[list[StoredNode]]:
        """Yield batches of the nodes that meet a predicate, by ascending key."""
        for keys in self._pages_of_keys(self._expression(predicate)):
            for rows in self._rows(keys, self._fields(with_vectors)):
                yield [self._format.stored_node(row) for row in rows]

    def keys_in_order(self) -> list[str]:
        """Return all keys in the order of addition; the whole collection is read, without its nodes."""
        pages = self._pages_of_keys(self._expression(EVERY_NODE))
        orders = [
            (int(row[ORDER]), row[ID]) for keys in pages for rows in self._rows(keys, [ID, ORDER]) for row in rows
        ]
        return [key for _, key in sorted(orders)]

    def fetch(self, keys: Sequence[str], *, with_vectors: bool = False) -> dict[str, StoredNode]:
        """Return nodes by key."""
        batches = self._rows(keys, self._fields(with_vectors))
        return {row[ID]: self._format.stored_node(row) for rows in batches for row in rows}

    def vectors_of(self, keys: Sequence[str]) -> dict[str, Vectors]:
        """Return vectors by key."""
        field = self._store.embedding_field
        found = {row[ID]: row[field] for rows in self._rows(keys, [ID, field]) for row in rows}
        return {key: np.asarray(found[key], np.float32) for key in keys if key in found}

    def sample_vectors(self, n: int) -> Vectors:
        """Return vectors of the first nodes by key: ids that are UUIDs or hashes are a random sample."""
        rows = self._query("", [self._store.embedding_field], limit=min(n, _READ))
        return np.asarray([row[self._store.embedding_field] for row in rows], np.float32).reshape(-1, self._dimension)

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        """Return the texts under a metadata key by node id."""
        field = text_field(key)
        pages = self._pages_of_keys(exists(field))
        return {row[ID]: row[field] for keys in pages for rows in self._rows(keys, [ID, field]) for row in rows}

    def close(self) -> None:
        """Close the client of the store."""
        self._client.close()

    # Checks

    def _metric_of_index(self) -> str:
        # The metric of the store object may differ from that of a collection that was there before.
        field, collection = self._store.embedding_field, self._store.collection_name
        names = self._client.list_indexes(collection, field_name=field, **_RETRIES)
        found = [self._client.describe_index(collection, name, **_RETRIES) for name in names]
        metric = found[0]["metric_type"] if found else "no metric"
        if metric not in ("IP", "COSINE"):
            advice = "make another collection with similarity_metric='IP'"
            raise unsupported(self._name, f"rank nodes by {metric} of field {field!r}", advice)
        return str(metric)

    def _dimension_of(self, schema: Mapping[str, Any]) -> int:
        fields = {field["name"]: field for field in schema["fields"]}
        vector = fields.get(self._store.embedding_field, {})
        if vector.get("type") != DataType.FLOAT_VECTOR:
            what = f"keep vectors in field {self._store.embedding_field!r}, which is no FLOAT_VECTOR"
            raise unsupported(self._name, what, "give the right embedding_field, or make another collection")
        dimension = int(vector["params"]["dim"])
        if self._store.dim not in (None, dimension):
            raise StoreError(
                f"{self._name} has vectors of dimension {dimension}, and the store has dim={self._store.dim}; use the "
                "model that the collection was filled with, or another collection"
            )
        return dimension

    def _format_of(self, schema: Mapping[str, Any]) -> RowFormat:
        texts = {field["name"]: field for field in schema["fields"] if field["name"] != self._store.embedding_field}
        expected = {ID, self._store.text_key, self._store.doc_id_field}
        fits = texts.keys() == expected and all(field["type"] == DataType.VARCHAR for field in texts.values())
        if not fits or not schema["enable_dynamic_field"] or schema["auto_id"]:
            what = f"keep nodes in the fields {', '.join(sorted(texts))}"
            advice = "let MilvusVectorStore make a collection, without enable_sparse and scalar_field_names"
            raise unsupported(self._name, what, advice)
        return RowFormat(
            store=self._name,
            vector=self._store.embedding_field,
            text=self._store.text_key,
            document=self._store.doc_id_field,
            max_bytes={name: int(field["params"]["max_length"]) for name, field in texts.items()},
        )

    def _require_own_rows(self) -> None:
        # One row: reading more would take long. ``RowFormat`` checks each row that is found.
        for row in self._query("", [ID, ORDER], limit=1):
            self._format.own_value(row, ORDER)

    def _require_directions(self, records: Sequence[Record]) -> None:
        for record in records:
            if not record.vector.any():
                what = f"find node {record.node_id}, whose vector is zero, by COSINE; nothing was added"
                raise unsupported(self._name, what, "make a collection with similarity_metric='IP'")

    # Calls

    def _expression(self, predicate: Predicate) -> str:
        """Return the expression of a predicate.

        Raises:
            ValueError: It looks for parts of texts, which Milvus 2.3 does not find. That matters only if a node has a
                text under the key: the lists that ``contains`` looks into as well are no problem.
        """
        for key in sorted(keys_of_text_parts(predicate)):
            if self._query(exists(text_field(key)), [ID], limit=1):
                what = f"filter by text_match, or by contains on a text (key {key!r})"
                raise unsupported(self._name, what, "compare whole texts, or put words into a list and use contains")
        return expression_of(predicate, self._store.doc_id_field)

    def _search(self, vector: Vectors, k: int, predicate: Predicate, fields: Sequence[str]) -> list[Row]:
        expression = "" if predicate == EVERY_NODE else self._expression(predicate)
        config = dict(self._store.search_config or {})
        if "ef" in config:
            # HNSW finds no more nodes than this.
            config["ef"] = max(config["ef"], k)
        with self._calls():
            found = self._client.search(
                self._store.collection_name,
                data=[vector.tolist()],
                anns_field=self._store.embedding_field,
                filter=expression,
                limit=k,
                output_fields=list(fields),
                search_params={"metric_type": self._metric, "params": config},
                **_READING,
                **_RETRIES,
            )
        return list(found[0])

    def _pages_of_keys(self, expression: str) -> Iterator[list[str]]:
        """Yield the keys of the nodes that meet an expression, in ascending order; nodes may be deleted meanwhile."""
        page = self._query(expression, [ID], limit=_PAGE, **self._paging)
        while page:
            yield [row[ID] for row in page]
            after = f"({expression}) and ({ID} > {literal(page[-1][ID])})"
            page = self._query(after, [ID], limit=_PAGE, **self._paging) if len(page) == _PAGE else []

    def _rows(self, keys: Sequence[str], fields: Sequence[str]) -> Iterator[list[Row]]:
        """Yield batches of rows by key. Rows that are too large for one message are read in smaller batches."""
        waiting = [list(keys[start : start + _READ]) for start in range(0, len(keys), _READ)][::-1]
        while waiting:
            batch = waiting.pop()
            try:
                rows = self._query(one_of(ID, batch), fields)
            except _MessageTooLargeError:
                if len(batch) == 1:
                    raise
                half = len(batch) // 2
                waiting += [batch[half:], batch[:half]]
            else:
                yield rows

    def _query(self, expression: str, fields: Sequence[str], **options: Any) -> list[Row]:
        with self._calls():
            return list(
                self._client.query(
                    self._store.collection_name,
                    filter=expression,
                    output_fields=list(fields),
                    **_READING,
                    **_RETRIES,
                    **options,
                )
            )

    def _fields(self, with_vectors: bool) -> list[str]:
        return [*self._format.fields, *([self._store.embedding_field] if with_vectors else [])]

    def _size_of(self, row: Row) -> int:
        # Numbers are few and short beside the vector and the texts.
        texts = sum(len(value.encode()) for value in row.values() if isinstance(value, str))
        return texts + 4 * self._dimension

    @contextmanager
    def _calls(self, consequence: str = "") -> Iterator[None]:
        """Turn the errors of pymilvus into ``StoreError``, without the expressions that they may quote.

        Args:
            consequence: What the error means for the data, and what to do.
        """
        require_same_process(self._name, self._process)
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            message = str(getattr(error, "message", None) or error)
            if any(sign in message for sign in _TOO_LARGE):
                raise _MessageTooLargeError(f"{self._name} refuses a message: it is too large") from None
            reasons = [_reason_of(message), *([consequence] if consequence else [])]
            raise StoreError(f"{self._name} {'; '.join(reasons)}") from None


class _MessageTooLargeError(StoreError):
    """A request or its answer is larger than the server's messages."""


_TOO_LARGE = ("larger than max", "exceed the limit size")

_UNREACHABLE = "cannot be reached; check that the server runs and that the address is right"
_REASONS = {
    "UNAVAILABLE": _UNREACHABLE,
    "Fail connecting": _UNREACHABLE,
    "should create connection first": "was closed; make another store",
    "closed channel": "was closed; make another store",
    "collection not found": "is not there any more; make the store again",
    "auth": "refuses the user; check the token",
    "UNAUTHENTICATED": "refuses the user; check the token",
    "PERMISSION_DENIED": "refuses the user; check the token",
    "cannot parse expression": "does not take the filter; give fewer or shorter conditions",
    "recursion": "does not take the filter; give fewer nested conditions",
}


def _reason_of(message: str) -> str:
    """Return what an error means and what to do; the beginning of its message if that is not known."""
    known = next((reason for sign, reason in _REASONS.items() if sign in message), None)
    return known or f"refuses a call: {message_without_secrets(message)}"
