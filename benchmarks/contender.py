"""The interface behind which ``vector_store.py`` compares stores."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from dataset import Batch
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery

K = 10

FEW = 250_000
"""The most nodes for contenders that would take more than six minutes with 1,000,000."""

FILE = "vectors.faiss"
"""Name of the file of indexes that are one file."""

COLLECTION = "nodes"
"""Name of the collection or table of stores that have several."""


class Contender:
    """A store with LlamaIndex's interface. Subclasses open and close it.

    ``prepare`` and ``ids`` are separate from ``query``, so that only the query is timed.

    Attributes:
        modules: Modules that must be installed.
        install: Requirements that install them.
        filters: Whether queries can be filtered.
        deletes: Whether documents can be deleted.
        takes_nodes: Whether ``add`` needs the nodes of a batch, and not only its vectors.
        max_nodes: Largest number of nodes with which it takes part; None for any number.
        why_not_more: What was measured with fewer nodes that excludes it from more.
        remark: Note for readers of the table.
    """

    modules: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""
    filters: ClassVar[bool] = True
    deletes: ClassVar[bool] = True
    takes_nodes: ClassVar[bool] = True
    max_nodes: ClassVar[int | None] = None
    why_not_more: ClassVar[str] = ""
    remark: ClassVar[str] = ""

    store: Any

    def __init__(self) -> None:
        # Imported now, so that no measurement includes an import.
        for module in self.modules:
            importlib.import_module(module)

    @classmethod
    def is_installed(cls) -> bool:
        """Return whether its modules can be imported."""
        return all(_exists(module) for module in cls.modules)

    @classmethod
    def why_left_out(cls, nodes: int) -> str:
        """Return why it is not measured with a number of nodes; empty if it is."""
        if cls.max_nodes is None or nodes <= cls.max_nodes:
            return ""
        return f"takes part up to {cls.max_nodes:,} nodes: {cls.why_not_more}"

    def open(self, folder: Path) -> None:
        """Open the store in a folder, which is created if it is missing."""
        raise NotImplementedError

    def close(self) -> None:
        """Write everything to disk and close the files."""
        raise NotImplementedError

    def settle(self) -> None:
        """Build the index, or wait for what the store does in the background."""

    def add(self, batch: Batch) -> None:
        """Add the nodes of a batch."""
        self.store.add(batch.nodes)

    def prepare(self, vector: np.ndarray, filters: MetadataFilters | None = None) -> Any:
        """Return the argument of ``query``."""
        return VectorStoreQuery(query_embedding=vector.tolist(), similarity_top_k=K, filters=filters)

    def query(self, prepared: Any, **options: Any) -> Any:
        """Find the ten nearest nodes."""
        return self.store.query(prepared, **options)

    def ids(self, answer: Any) -> list[str]:
        """Return the node ids of an answer."""
        return list(answer.ids)

    def delete(self, document_id: str) -> None:
        """Delete a document's nodes."""
        self.store.delete(document_id)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        # A parent package is missing.
        return False
