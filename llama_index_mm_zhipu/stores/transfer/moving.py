"""``export_index`` and ``import_index``: move a store to Parquet shards, and from shards into any store.

Both hold a few hundred nodes in memory, and both continue where an interrupted run ended.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from llama_index.core.vector_stores.types import BasePydanticVectorStore

from llama_index_mm_zhipu.arguments import as_path, require_choice, require_positive
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.stores.external import ExternalVectorStore
from llama_index_mm_zhipu.stores.transfer.exporter import Exporter
from llama_index_mm_zhipu.stores.transfer.importer import Importer, finished_manifest
from llama_index_mm_zhipu.stores.transfer.manifest import Precision
from llama_index_mm_zhipu.stores.transfer.shards import ROWS_AT_A_TIME
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store.contract import MovableStore
from llama_index_mm_zhipu.vector_store.errors import StoreError


@dataclass(frozen=True)
class TransferReport:
    """What an export or import did.

    Attributes:
        nodes: Nodes that are in the shards now, or those of the shards that are in the store now.
        kept: How many of these were there already, from an earlier run.
        shards: Number of shards.
        bytes: Size of the shards.
        seconds: Duration.
        skipped: Nodes that were left out, with the reason for each, by id.
    """

    nodes: int
    kept: int
    shards: int
    bytes: int
    seconds: float
    skipped: Skipped


def export_index(
    store: BasePydanticVectorStore,
    folder: str | Path,
    *,
    vectors: Precision = "float32",
    nodes_per_shard: int = 10_000,
    show_progress: bool = True,
) -> TransferReport:
    """Write all nodes of a store, their vectors and the settings of the index into Parquet shards.

    docs/moving.md describes the files. Each is complete or not there. If the export is interrupted, the same call
    continues it after the last shard, if the store can tell that it was not changed since; ``ExternalVectorStore``
    cannot, and its export starts again. The store must not be changed meanwhile.

    Args:
        store: The store. Stores of LlamaIndex are wrapped in ``ExternalVectorStore``.
        folder: The folder, which is created if it is missing, accessible only to its owner.
        vectors: Type of the numbers of vectors; ``"float16"`` halves their size, and rounds to three digits.
        nodes_per_shard: Maximum number of nodes in a shard.
        show_progress: Whether to show a progress bar.

    Returns:
        What was written.

    Raises:
        StoreError: The store was changed meanwhile, it cannot be read, or the folder cannot be written to.
        ValueError: The folder holds something else, such as a finished export; or the store cannot list its nodes.

    Examples:
        >>> from tempfile import mkdtemp
        >>> from llama_index.core.schema import TextNode
        >>> from llama_index_mm_zhipu import FaissMultiModalVectorStore
        >>> one, other = FaissMultiModalVectorStore(), FaissMultiModalVectorStore()
        >>> one.add([TextNode(id_="a", text="飞机", embedding=[1.0, 0.0])])
        ['a']
        >>> folder = mkdtemp()
        >>> export_index(one, folder, show_progress=False).nodes, import_index(folder, other, show_progress=False).nodes
        (1, 1)
        >>> [node.get_content() for node in other.get_nodes(include_embeddings=True)]
        ['飞机']
    """
    require_choice(vectors, "vectors", "float32", "float16")
    require_positive(nodes_per_shard, "nodes_per_shard")
    path = as_path(folder, "folder")
    source = _movable(store)
    if not source.lists_nodes:
        raise ValueError(f"{source} does not list its nodes, so that it cannot be exported")
    started = time.monotonic()
    try:
        kept, manifest = Exporter(source, path, vectors, nodes_per_shard, show_progress).run()
    except OSError as error:
        raise StoreError(f"cannot write the export to {path}: {error.strerror or error}") from None
    seconds = time.monotonic() - started
    return TransferReport(manifest.nodes, kept, len(manifest.shards), manifest.bytes, seconds, Skipped())


def import_index(
    folder: str | Path,
    store: BasePydanticVectorStore,
    *,
    batch_size: int = ROWS_AT_A_TIME,
    on_error: OnError = "raise",
    show_progress: bool = True,
) -> TransferReport:
    """Add the nodes of shards to a store, with their vectors and the settings of the index.

    A node replaces the one with its id; other nodes of the store stay. Each shard is checked before it is used; if one
    is damaged, the nodes of those before it stay in the store. If the import is interrupted, or after repair, the same
    call continues it: nodes that the store has already are compared and not written again.

    Args:
        folder: The folder of the shards, with a manifest by ``export_index`` or ``write_manifest``.
        store: The store. Stores of LlamaIndex are wrapped in ``ExternalVectorStore``.
        batch_size: How many nodes are written together.
        on_error: ``"raise"`` at the first node that cannot be read or that the store refuses, or ``"skip"`` such
            nodes.
        show_progress: Whether to show a progress bar.

    Returns:
        What was added, and which nodes were skipped.

    Raises:
        FileNotFoundError: The folder has no manifest.
        ModelMismatchError: The store has vectors of another model or dimension.
        StoreError: The export is not finished, a shard is missing or damaged, the store cannot be written to, or it has
            fewer nodes in the end than were added.
        ValueError: A node cannot be read or stored, with ``on_error="raise"``; or the images in the store have another
            share of captions in their vectors.
    """
    require_choice(on_error, "on_error", "raise", "skip")
    require_positive(batch_size, "batch_size")
    path = as_path(folder, "folder")
    started = time.monotonic()
    manifest = finished_manifest(path)
    target = _movable(store)
    if isinstance(target, ExternalVectorStore) and manifest.dimension:
        target.expect_vector([1.0, *[0.0] * (manifest.dimension - 1)].copy)
    run = Importer(path, manifest, target, batch_size, on_error, show_progress)
    run.run()
    return TransferReport(
        nodes=run.written + run.kept,
        kept=run.kept,
        shards=len(manifest.shards),
        bytes=manifest.bytes,
        seconds=time.monotonic() - started,
        skipped=run.skipped,
    )


def _movable(store: BasePydanticVectorStore) -> MovableStore:
    return store if isinstance(store, MovableStore) else ExternalVectorStore(store)
