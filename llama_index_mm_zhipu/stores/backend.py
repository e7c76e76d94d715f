"""``StoreBackend``: what ``ExternalVectorStore`` asks of one type of store, and what such a store is able to do."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu.stores.records import Record, StoredNode, uuid_of
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.contract import INDEX_SETTINGS
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.predicates import Predicate
from llama_index_mm_zhipu.vector_store.ranking import Scored
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

BY_VECTOR = frozenset({VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR})
BY_TEXT = frozenset({VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.HYBRID})


_SECRETS = re.compile(
    r"(?<=//)[^/\s@]*@|((?<=password)|(?<=passwd)|(?<=secret)|(?<=token)|(?<=api_key)|(?<=api-key)|(?<=apikey))"
    r"['\"]?\s*[=:]\s*['\"]?[^\s,;&'\"]+",
    re.IGNORECASE,
)
"""Matches user and password of a URL, and what follows ``password=`` and the like."""

_DATA = re.compile(r"[A-Za-z0-9+/=_-]{80,}")
_SHOWN_MESSAGE = 300


@dataclass(frozen=True)
class Abilities:
    """What a type of store is able to do, as the tests of ``tests/stores`` measure it.

    Attributes:
        modes: Query modes that the store really has; others are refused by name.
        lists_nodes: Whether nodes can be found by metadata alone, without a query vector.
        max_row_bytes: Maximum size of a node as JSON in UTF-8; None if there is no limit that users meet.
        max_k: Maximum number of results of one search.
    """

    modes: frozenset[VectorStoreQueryMode]
    lists_nodes: bool = True
    max_row_bytes: int | None = None
    max_k: int = 2**31 - 1


class StoreBackend(ABC):
    """One collection of one type of store. Nodes go in as ``Record`` and come out as ``StoredNode``.

    Every method raises ``StoreError`` if the server cannot be reached or refuses a call. The message names the store
    and what to do, and holds neither passwords nor parameters of the call.
    """

    abilities: ClassVar[Abilities]

    @property
    @abstractmethod
    def name(self) -> str:
        """What errors call the store, such as ``PostgreSQL table "data_slides"``; without passwords."""

    @property
    def collection(self) -> str | None:
        """What tells this collection from others of all stores; None if that is not known."""
        return self.name

    def key_of(self, node_id: str) -> str:
        """Return the id in the store of a node: by default a UUID, which every store takes."""
        return uuid_of(node_id)

    def expect_vector(self, make_vector: Callable[[], Sequence[float]]) -> None:  # noqa: B027
        """Take a function that returns any vector of the right dimension; for stores that only answer queries."""

    @abstractmethod
    def dimension(self) -> int | None:
        """Return the dimension of the store's vectors; None if that is not fixed yet."""

    @abstractmethod
    def count(self) -> int:
        """Return the number of nodes."""

    def is_empty(self) -> bool:
        """Return whether there is no node."""
        return self.count() == 0

    @abstractmethod
    def has_texts(self) -> bool:
        """Return whether full text search can find any node; False for a store without full text search."""

    @abstractmethod
    def get_setting(self, key: str) -> Any:
        """Return a setting that was written with any node that is still there, or None."""

    def settings(self) -> dict[str, Any]:
        """Return the recorded settings by key: by default those of an index, for stores that cannot list them."""
        recorded = {key: self.get_setting(key) for key in INDEX_SETTINGS}
        return {key: value for key, value in recorded.items() if value is not None}

    def state_id(self) -> str | None:
        """Return a text that changes with every change of nodes; None if the store cannot tell."""
        return None

    @abstractmethod
    def write(self, records: Sequence[Record], settings: Mapping[str, Any]) -> None:
        """Add records; each replaces the record with its key. All or none, if the store has transactions.

        Args:
            records: At most one record of each key.
            settings: Settings that are new with these records; ``Record.settings`` has all of them.

        Raises:
            ModelMismatchError: Records of another embedding model were written in the meantime, if the store can tell.
        """

    @abstractmethod
    def delete(self, predicate: Predicate) -> None:
        """Delete the nodes that meet a predicate."""

    @abstractmethod
    def clear(self) -> None:
        """Delete every node and all settings."""

    @abstractmethod
    def nearest(self, vector: Vectors, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and inner products with a vector of the nearest nodes that meet a predicate, best first."""

    @abstractmethod
    def search_text(self, query: str, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and BM25 scores of the best nodes that meet a predicate and have any of ``words_of_query``."""

    @abstractmethod
    def select(self, predicate: Predicate, *, with_vectors: bool = False) -> Iterator[list[StoredNode]]:
        """Yield batches of the nodes that meet a predicate, in a memory that does not grow with their number.

        Batches are in the order of addition if the store can sort. Otherwise, ``StoredNode.order`` and
        ``keys_in_order`` tell it.

        Args:
            predicate: The predicate.
            with_vectors: Whether to return vectors.
        """

    def keys_in_order(self) -> list[str] | None:
        """Return all keys in the order of addition; None if ``select`` yields the nodes in this order."""
        return None

    @abstractmethod
    def fetch(self, keys: Sequence[str], *, with_vectors: bool = False) -> dict[str, StoredNode]:
        """Return nodes by key; keys that are not there are left out."""

    @abstractmethod
    def vectors_of(self, keys: Sequence[str]) -> dict[str, Vectors]:
        """Return vectors by key; keys that are not there are left out."""

    @abstractmethod
    def sample_vectors(self, n: int) -> Vectors:
        """Return vectors of at most ``n`` nodes, spread over the store as well as it can: shape ``(m, dimension)``."""

    @abstractmethod
    def metadata_texts(self, key: str) -> Mapping[str, str]:
        """Return the texts under a metadata key by node id, without reading the nodes."""

    @abstractmethod
    def close(self) -> None:
        """Close connections."""


def unsupported(store: str, what: str, advice: str) -> ValueError:
    """Return the error of something that a store does not do.

    Args:
        store: Name of the store.
        what: What it does not do, such as ``filter by text_match (key 'title')``.
        advice: What to do instead.
    """
    return ValueError(f"{store} cannot {what}; {advice}")


def require_same_process(store: str, process: int) -> None:
    """Check that a store is used by the process that opened it, for clients that two processes cannot share.

    Args:
        store: Name of the store.
        process: Id of the process that opened it.

    Raises:
        StoreError: This process was forked from it.
    """
    if os.getpid() != process:
        raise StoreError(f"{store} was opened before this process was forked; make client and store again in it")


def message_without_secrets(error: Exception | str) -> str:
    """Return the message of an error of a driver on one line, shortened, without passwords, keys and image bytes.

    Examples:
        >>> message_without_secrets("no route to redis://user:secret@host:6379, password=secret")
        'no route to redis://…host:6379, password…'
    """
    message = _SECRETS.sub("…", _DATA.sub("…", str(error)))
    return one_line(message)[:_SHOWN_MESSAGE]


def too_large(store: str, node_id: str, part: str, size: int, limit: int) -> ValueError:
    """Return the error of a node that is larger than a store takes.

    Args:
        store: Name of the store.
        node_id: Id of the node.
        part: Part of the node that is too large, such as `` for its text``; empty for the node as a whole.
        size: Its size in bytes.
        limit: Maximum size in bytes.
    """
    return ValueError(
        f"node {node_id} takes {size:,} bytes{part}, and {store} takes at most {limit:,}; give image_storage=… (a "
        "folder or a URL) for images, and split long texts; nothing was added"
    )
