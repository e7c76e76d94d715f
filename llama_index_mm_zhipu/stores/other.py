"""Any vector store of LlamaIndex, used with caution: its methods are known, but not how well they work.

A node goes into the store as a text node that carries it: node, vector and what filters compare are in its metadata, in
plain letters and digits. So nothing depends on the classes, value types and scores that a store knows, and nothing that
users write becomes part of a query. Each answer is checked: a store that ignores a filter is an error, not a wrong
result.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, ClassVar

import numpy as np
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

from llama_index_mm_zhipu.stores.backend import (
    BY_VECTOR,
    Abilities,
    StoreBackend,
    message_without_secrets,
    unsupported,
)
from llama_index_mm_zhipu.stores.filterable import plain_key
from llama_index_mm_zhipu.stores.records import Record, StoredNode, uuid_of
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.predicates import (
    AllOf,
    AnyOf,
    DocumentIs,
    IdIs,
    Predicate,
    Scalar,
    ScalarIs,
    description_of,
)
from llama_index_mm_zhipu.vector_store.ranking import Scored
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

# Metadata of the carrying nodes. Stores hold these names: they cannot be changed.
_KEY = "mm_key"
_NODE_ID = "mm_id"
_DOCUMENT = "mm_document"
_CLASS = "mm_class"
_CONTENT = "mm_content"
_VECTOR = "mm_vector"
_SETTINGS = "mm_settings"
_ORDER = "mm_order"
_FILTER = "mm_filter_"

_CANDIDATES = 4
"""Candidates per wanted node. Stores rank by scores of their own, cosines mostly; these are ranked by inner product."""

_MAX_QUERIES = 100
"""Maximum number of queries for one filter: other stores are only trusted with equality, so that a list of values takes
one query each."""

_NO_COLLECTION = re.compile(
    r"(collection|table|index|class|namespace|dataset|schema)\b.{0,300}(not.?found|does.?n.t exist|does not exist|"
    r"not initialized)|(index|collection|table).not.found|results are empty",
    re.IGNORECASE | re.DOTALL,
)
"""Matches the errors of stores whose collection is made by the first ``add``. Others, such as ``404 Not Found`` for a
wrong URL, are no sign of an empty store."""

_REMEDY = "only ==, in, and, or are used with this type of store"


class _MissingMethodError(ValueError):
    """A store does not have a method that not every store of LlamaIndex has."""


class OtherBackend(StoreBackend):
    """A store about which nothing is known but that it keeps text nodes with vectors and metadata.

    Args:
        store: The store.

    Raises:
        ValueError: The store keeps no nodes.
    """

    abilities: ClassVar[Abilities] = Abilities(modes=BY_VECTOR, lists_nodes=False, max_k=10_000)

    def __init__(self, store: BasePydanticVectorStore) -> None:
        if not store.stores_text:
            raise ValueError(f"{type(store).__name__} keeps vectors only; an index needs a store that keeps nodes")
        self._store = store
        self._make_vector: Callable[[], Sequence[float]] | None = None
        self._last = threading.local()

    @property
    def name(self) -> str:
        """The class of the store."""
        return type(self._store).__name__

    @property
    def collection(self) -> str | None:
        """None: stores do not tell which collection they use."""
        return None

    def expect_vector(self, make_vector: Callable[[], Sequence[float]]) -> None:
        """Take a function that returns any vector of the store's dimension, to look into the store with."""
        self._make_vector = self._make_vector or make_vector

    def dimension(self) -> int | None:
        """Return the dimension of the vector of some node; None if the store is empty."""
        sample = self._sample()
        return None if sample is None else len(_vector_of(sample))

    def count(self) -> int:
        """Raise an error: LlamaIndex's stores do not count."""
        raise unsupported(self.name, "count its nodes", "ask the store's own client")

    def is_empty(self) -> bool:
        """Return whether a query finds no node; True as well while no vector to query with is known."""
        return self._sample() is None

    def has_texts(self) -> bool:
        """Return False: whether the store searches Chinese text is not known."""
        return False

    def get_setting(self, key: str) -> Any:
        """Return a setting that some node was written with, or None."""
        sample = self._sample()
        return None if sample is None else json.loads(sample.metadata[_SETTINGS]).get(key)

    def write(self, records: Sequence[Record], settings: Mapping[str, Any]) -> None:
        """Delete the records' keys, since not every store replaces nodes, and add the records."""
        vector = records[0].vector.tolist()
        self.expect_vector(lambda: vector)
        self._delete_records(records)
        self._call("add nodes", lambda: self._store.add([_carrier(record) for record in records]), is_write=True)

    def delete(self, predicate: Predicate) -> None:
        """Delete nodes by id, or those of documents.

        Raises:
            ValueError: The predicate is another one.
        """
        if isinstance(predicate, IdIs):
            keys = [uuid_of(node_id) for node_id in predicate.node_ids]
            self._call("delete nodes by id", lambda: self._store.delete_nodes(keys))
        elif isinstance(predicate, DocumentIs):
            for ref_doc_id in predicate.ref_doc_ids:
                self._call("delete documents", partial(self._store.delete, uuid_of(ref_doc_id)))
        else:
            raise unsupported(self.name, "delete nodes by metadata", "give node ids, or the id of a document")

    def clear(self) -> None:
        """Delete every node."""
        self._call("delete all nodes", self._store.clear)

    def nearest(self, vector: Vectors, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and inner products of the nearest nodes, best first, as far as the store's candidates go."""
        found: dict[str, BaseNode] = {}
        for values in _conjunctions(predicate, self.name):
            for carrier in self._query(vector.tolist(), _CANDIDATES * k, values):
                found[carrier.metadata[_KEY]] = carrier
        scored = [(key, float(_vector_of(carrier) @ vector)) for key, carrier in found.items()]
        best = sorted(scored, key=lambda item: (-item[1], found[item[0]].metadata[_ORDER]))[:k]
        # The calls that follow in this query need the same nodes, which not every store returns by id.
        self._last.found = {key: _stored(found[key]) for key, _ in best}
        return best

    def search_text(self, query: str, k: int, predicate: Predicate) -> Scored[str]:
        """Raise an error: whether the store searches Chinese text is not known."""
        raise unsupported(self.name, "search text", "query with a vector")

    def select(self, predicate: Predicate, *, with_vectors: bool = False) -> Iterator[list[StoredNode]]:
        """Raise an error: LlamaIndex's stores do not list nodes."""
        raise unsupported(self.name, "list its nodes", "query with a vector")

    def fetch(self, keys: Sequence[str], *, with_vectors: bool = False) -> dict[str, StoredNode]:
        """Return nodes by key: those of the last search in this thread, or those that the store returns by id."""
        found = self._take_last(keys)
        if found is None:
            carriers = self._call("return nodes by id", lambda: self._store.get_nodes(node_ids=list(keys))) or []
            found = {each.key: each for each in map(_stored, self._own(carriers)) if each.key in keys}
        return {key: each if with_vectors else _without_vector(each) for key, each in found.items()}

    def vectors_of(self, keys: Sequence[str]) -> dict[str, Vectors]:
        """Return vectors by key."""
        last = getattr(self._last, "found", {})
        found = {key: last[key] for key in keys if key in last}
        if len(found) < len(keys):
            found = self.fetch(keys, with_vectors=True)
        return {key: each.vector for key, each in found.items() if each.vector is not None}

    def sample_vectors(self, n: int) -> Vectors:
        """Raise an error: only hybrid search needs a sample."""
        raise unsupported(self.name, "search text", "query with a vector")

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        """Raise an error: LlamaIndex's stores do not list nodes."""
        raise unsupported(self.name, "list its nodes", "query with a vector")

    def close(self) -> None:
        """Close the store, if it has a method for that."""
        close = getattr(self._store, "close", None)
        if close is not None:
            close()

    def _delete_records(self, records: Sequence[Record]) -> None:
        try:
            self._call("replace nodes", lambda: self._store.delete_nodes([record.key for record in records]))
        except _MissingMethodError:
            parts = [record for record in records if record.ref_doc_id != record.node_id]
            if any(self._query(record.vector.tolist(), 1, {_KEY: record.key}) for record in parts):
                raise unsupported(self.name, "replace single nodes of a document", "delete the document") from None
            for record in records:
                if record.ref_doc_id == record.node_id:
                    self._call("replace nodes", partial(self._store.delete, record.key))

    def _sample(self) -> BaseNode | None:
        if self._make_vector is None:
            return None
        return next(iter(self._query(list(self._make_vector()), 1, {})), None)

    def _query(self, vector: list[float], k: int, values: Mapping[str, str]) -> list[BaseNode]:
        """Return the carrying nodes that a store finds, with certain metadata.

        Raises:
            ValueError: The store ignores filters.
        """
        filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value) for key, value in values.items()])
        asked = VectorStoreQuery(query_embedding=vector, similarity_top_k=k, filters=filters if values else None)
        result = self._call("be searched", lambda: self._store.query(asked))
        found = self._own(result.nodes or [] if result is not None else [])
        if any(carrier.metadata.get(key) != value for carrier in found for key, value in values.items()):
            raise unsupported(self.name, "filter by metadata", "it returned nodes that do not meet the filter")
        return found

    def _own(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        for node in nodes:
            if _CONTENT not in node.metadata:
                raise StoreError(
                    f"{self.name} holds nodes that were not written through an index of this package, such as "
                    f"{one_line(node.node_id)}; give the index a collection of its own"
                )
        return list(nodes)

    def _take_last(self, keys: Sequence[str]) -> dict[str, StoredNode] | None:
        last = getattr(self._last, "found", {})
        if not all(key in last for key in keys):
            return None
        self._last.found = {}
        return {key: last[key] for key in keys}

    def _call(self, what: str, call: Callable[[], Any], *, is_write: bool = False) -> Any:
        """Return what a method of the store returns; None if there is no collection yet.

        Args:
            what: What the store does, for the error.
            call: Calls the method.
            is_write: Whether the method makes the collection, so that a missing one is an error.

        Raises:
            StoreError: The store raised an error.
            ValueError: The store does not have the method.
        """
        try:
            return call()
        except NotImplementedError:
            raise _MissingMethodError(f"{self.name} cannot {what}: it does not have that method") from None
        except Exception as error:
            # Several stores make their collection with the first node, and raise errors of their own before that.
            if not is_write and not isinstance(error, OSError) and _NO_COLLECTION.search(str(error)):
                return None
            raise StoreError(
                f"{self.name} cannot {what}: {type(error).__name__}: {message_without_secrets(error)}"
            ) from None


def _conjunctions(predicate: Predicate, store: str) -> list[dict[str, str]]:
    """Return metadata values, one mapping for each query that is needed: a node meets the predicate if it has one.

    Raises:
        ValueError: The predicate is more than equality.
    """
    if isinstance(predicate, ScalarIs):
        key = f"{_FILTER}{plain_key(predicate.key)}"
        found = [{key: _plain_value(value)} for value in predicate.values]
    elif isinstance(predicate, IdIs):
        found = [{_KEY: uuid_of(node_id)} for node_id in predicate.node_ids]
    elif isinstance(predicate, DocumentIs):
        found = [{_DOCUMENT: uuid_of(ref_doc_id)} for ref_doc_id in predicate.ref_doc_ids]
    elif isinstance(predicate, AnyOf):
        found = [values for part in predicate.parts for values in _conjunctions(part, store)]
    elif isinstance(predicate, AllOf):
        parts = [_conjunctions(part, store) for part in predicate.parts]
        found = [each for values in product(*parts) if (each := _merged(values)) is not None]
    else:
        raise unsupported(store, f"filter by {description_of(predicate)}", _REMEDY)
    if len(found) > _MAX_QUERIES:
        raise unsupported(store, f"filter by {len(found):,} values", f"give at most {_MAX_QUERIES}")
    return found


def _merged(values: Sequence[Mapping[str, str]]) -> dict[str, str] | None:
    """Return mappings as one; None if they contradict each other."""
    merged: dict[str, str] = {}
    for each in values:
        if any(merged.get(key, value) != value for key, value in each.items()):
            return None
        merged |= each
    return merged


def _carrier(record: Record) -> TextNode:
    """Return the text node that carries a record."""
    scalars = [row for row in record.rows if row.kind == "scalar"]
    metadata = {
        _KEY: record.key,
        _NODE_ID: record.node_id,
        _DOCUMENT: uuid_of(record.ref_doc_id),
        _CLASS: record.class_name,
        _CONTENT: record.content,
        _VECTOR: base64.b64encode(record.vector.astype("<f4").tobytes()).decode("ascii"),
        _SETTINGS: json.dumps(dict(record.settings)),
        _ORDER: str(record.order),
        **{f"{_FILTER}{plain_key(row.key)}": _plain_value(row.value) for row in scalars},
    }
    source = RelatedNodeInfo(node_id=uuid_of(record.ref_doc_id))
    return TextNode(
        id_=record.key,
        # Some stores refuse empty texts.
        text=record.text or " ",
        embedding=record.vector.tolist(),
        metadata=metadata,
        relationships={NodeRelationship.SOURCE: source},
        excluded_embed_metadata_keys=list(metadata),
        excluded_llm_metadata_keys=list(metadata),
    )


def _stored(carrier: BaseNode) -> StoredNode:
    metadata = carrier.metadata
    return StoredNode(
        key=metadata[_KEY],
        node_id=metadata[_NODE_ID],
        class_name=metadata[_CLASS],
        content=metadata[_CONTENT],
        order=int(metadata[_ORDER]),
        vector=_vector_of(carrier),
    )


def _without_vector(stored: StoredNode) -> StoredNode:
    return StoredNode(stored.key, stored.node_id, stored.class_name, stored.content, stored.order)


def _vector_of(carrier: BaseNode) -> Vectors:
    return np.frombuffer(base64.b64decode(carrier.metadata[_VECTOR]), dtype="<f4").astype(np.float32)


def _plain_value(value: Scalar) -> str:
    """Return a text or number as letters and digits that are equal for equal values: 2, 2.0 and True are one value."""
    if isinstance(value, str):
        return "t" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    number = int(value) if isinstance(value, int) or value.is_integer() else value
    return "n" + str(number).replace("-", "m").replace(".", "p").replace("+", "")
