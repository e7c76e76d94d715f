"""What an index asks of a vector store, beyond what LlamaIndex asks of every store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryResult
from numpy.typing import NDArray

from llama_index_mm_zhipu.store_file import EMBED_MODEL

# Keys of settings. Stores hold them: they cannot be changed.
MODEL = "model"
CAPTION_WEIGHT = "caption_weight"
PRECISION = "precision"
TEXTS_APART = "texts_apart"

INDEX_SETTINGS = (MODEL, CAPTION_WEIGHT, PRECISION, TEXTS_APART, EMBED_MODEL)
"""Keys of the settings that an index records."""


@dataclass
class ScoredQueryResult(VectorStoreQueryResult):
    """LlamaIndex's result of a query, with what its scores were made of.

    Attributes:
        inner_products: Inner product of each node with the query's vector, the cosine for vectors of unit length; None
            in the modes that search by text alone.
        words_found: Share of the query's words that each node's text has, 0 to 1; None in the modes that search by
            vector alone.
    """

    inner_products: Sequence[float | None] = ()
    words_found: Sequence[float | None] = ()


@runtime_checkable
class IndexStore(Protocol):
    """What an index asks of a vector store.

    ``FaissMultiModalVectorStore`` has all of it, and ``stores.ExternalVectorStore`` gives it to other stores.

    Examples:
        Settings are recorded together with nodes:

        >>> from llama_index.core.schema import TextNode
        >>> from llama_index_mm_zhipu.vector_store.contract import IndexStore
        >>> store: IndexStore = FaissMultiModalVectorStore()
        >>> store.add([TextNode(id_="a", embedding=[1.0, 0.0])], settings={"caption_weight": 0.5})
        ['a']
        >>> store.get_setting("caption_weight"), store.is_empty()
        (0.5, False)
    """

    @property
    def lists_nodes(self) -> bool:
        """Whether ``get_nodes`` finds nodes by metadata, so that an index recognises what it has stored before."""

    @property
    def searches_text(self) -> bool:
        """Whether the store has full text search, so that texts that are not in vectors can be found."""

    def is_empty(self) -> bool:
        """Return whether the store holds no node."""

    def has_texts(self) -> bool:
        """Return whether full text search can find any node."""

    def add(self, nodes: Sequence[BaseNode], *, settings: Mapping[str, Any] | None = None) -> list[str]:
        """Add nodes with embeddings, and record settings; a node replaces the one with its id."""

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        include_images: bool = True,
    ) -> list[BaseNode]:
        """Return nodes by id or by metadata; without images that are kept apart from them, if so wanted."""

    def get_nodes_of_document(self, ref_doc_id: str) -> list[BaseNode]:
        """Return the nodes that came from a document."""

    def get_vectors(self, node_ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Return the ids that are there and their vectors, shape ``(n, dimension)``."""

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        """Return the texts under a metadata key by node id."""

    def image_paths(self) -> Mapping[str, str]:
        """Return the paths of images that are files by node id, for stores that earlier versions wrote."""

    def delete(self, ref_doc_id: str) -> None:
        """Delete the nodes of a document."""

    def delete_nodes(self, node_ids: list[str]) -> None:
        """Delete nodes by id; unknown ids are ignored."""

    def get_setting(self, key: str) -> Any:
        """Return a JSON value that ``add`` recorded, or None."""

    def require_model(self, fingerprint: str) -> None:
        """Record the embedding model of an empty store; raise ``ModelMismatchError`` if another filled it."""

    def checkpoint(self) -> None:
        """Write caches, so that the next opening is fast."""

    def close(self) -> None:
        """Close the store's files and connections."""


@runtime_checkable
class MovableStore(IndexStore, Protocol):
    """What ``stores.export_index`` and ``stores.import_index`` ask of a store, beyond what an index does."""

    def count(self) -> int:
        """Return the number of nodes."""

    def dimension(self) -> int | None:
        """Return the dimension of the vectors; None if that is not fixed yet."""

    def settings(self) -> dict[str, Any]:
        """Return the recorded settings by key, among them the embedding model."""

    def state_id(self) -> str | None:
        """Return a text that changes with every change of nodes; None if the store cannot tell."""

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        include_embeddings: bool = False,
        include_images: bool = True,
    ) -> list[BaseNode]:
        """Return nodes by id or by metadata, with their vectors if these are asked for."""

    def iter_nodes(
        self, batch_size: int = 256, *, include_embeddings: bool = True, after: str | None = None
    ) -> Iterator[list[BaseNode]]:
        """Yield all nodes in the order of addition, in batches."""

    def with_images_inline(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes that came from this store, with the images that it keeps in files of its own."""
