"""``export_index`` and ``import_index``: move an index or a store to Parquet shards, and from shards into any other.

Both hold one row group in memory, and both continue where an interrupted run ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from llama_index.core.vector_stores.types import BasePydanticVectorStore

from llama_index_mm_zhipu.arguments import as_path, require_choice, require_positive
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.stores.external import ExternalVectorStore
from llama_index_mm_zhipu.stores.transfer.exporter import Exporter, skipped_nodes
from llama_index_mm_zhipu.stores.transfer.importer import Importer, finished_manifest
from llama_index_mm_zhipu.stores.transfer.manifest import MANIFEST, Manifest, Precision
from llama_index_mm_zhipu.stores.transfer.shards import ROWS_AT_A_TIME
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store.contract import MovableStore
from llama_index_mm_zhipu.vector_store.errors import StoreError

IMAGES, TEXTS = "images", "texts"
"""Subfolders for the two stores of an index."""


@runtime_checkable
class IndexOfStores(Protocol):
    """An index with a store of images and one of texts, such as ``ImageIndex``."""

    @property
    def image_store(self) -> Any:
        """The store of images."""

    @property
    def text_store(self) -> Any:
        """The store of texts."""


@dataclass(frozen=True)
class TransferReport:
    """What an export or import did; with an index, in both stores together.

    Attributes:
        nodes: Nodes that are in the shards now, or those of the shards that are in the store now.
        kept: How many of these were there already, from an earlier run.
        shards: Number of shards.
        bytes: Size of the shards in bytes.
        seconds: Duration in seconds.
        skipped: Nodes that were left out, with the reason for each, by id.

    Examples:
        >>> from llama_index_mm_zhipu.stores import export_index
        >>> report = export_index(index, "export", nodes_per_shard=5, show_progress=False)
        >>> report.nodes, report.kept, report.shards, report.bytes > 0
        (12, 0, 3, True)
    """

    nodes: int
    kept: int
    shards: int
    bytes: int
    seconds: float
    skipped: Skipped


def export_index(
    source: IndexOfStores | BasePydanticVectorStore,
    folder: str | Path,
    *,
    vectors: Precision = "float32",
    nodes_per_shard: int = 10_000,
    on_error: OnError = "raise",
    show_progress: bool = True,
) -> TransferReport:
    """Write all nodes of an index or a store, with vectors, images and settings, into Parquet shards.

    docs/en/guides/moving.md describes the files. Each is complete or not there. If the export is interrupted, the same
    call continues it after the last shard, if the store can tell that it was not changed since; stores other than the
    embedded one and Postgres cannot, and their export starts again. The store must not be changed meanwhile.

    Images that a store keeps, in its nodes or beside them, are in the shards. Images that are files or URLs of the
    user's stay paths and URLs.

    Args:
        source: An index, whose stores are written into the subfolders ``images`` and ``texts``; or a store. Stores of
            LlamaIndex are wrapped in ``ExternalVectorStore``.
        folder: The folder, which is created if it is missing, accessible only to its owner.
        vectors: Type of the numbers of vectors; ``"float16"`` halves their size, and rounds to three digits.
        nodes_per_shard: Maximum number of nodes in a shard.
        on_error: ``"raise"`` at the first node whose image the store keeps beside itself and cannot read, or ``"skip"``
            such nodes.
        show_progress: Whether to show a progress bar.

    Returns:
        What was written, and which nodes were skipped.

    Raises:
        StoreError: The store was changed meanwhile, it or an image cannot be read, or the folder cannot be written to.
        ValueError: The folder holds something else, such as a finished export; or the store cannot list its nodes.

    Examples:
        >>> from llama_index_mm_zhipu.stores import export_index, import_index
        >>> report = export_index(index, "export", show_progress=False)
        >>> report.nodes, report.shards, report.skipped.count
        (12, 1, 0)
        >>> copy = build_index(nodes[:1], embed_model)
        >>> import_index("export", copy, show_progress=False).nodes, copy.image_store.count()
        (12, 12)
    """
    require_choice(vectors, "vectors", "float32", "float16")
    require_choice(on_error, "on_error", "raise", "skip")
    require_positive(nodes_per_shard, "nodes_per_shard")
    runs = [
        Exporter(store, path, vectors, nodes_per_shard, on_error, show_progress)
        for path, store in _stores_by_folder(source, as_path(folder, "folder"))
    ]
    for run in runs:
        if not run.source.lists_nodes:
            raise ValueError(f"{run.source} does not list its nodes, so that it cannot be exported")
    return _together([_exported(run) for run in runs])


def import_index(
    folder: str | Path,
    target: IndexOfStores | BasePydanticVectorStore,
    *,
    batch_size: int = ROWS_AT_A_TIME,
    on_error: OnError = "raise",
    show_progress: bool = True,
) -> TransferReport:
    """Add the nodes of shards to an index or a store, with their vectors, images and settings.

    A node replaces the one with its id; other nodes of the store stay. Each shard is checked before it is used; if one
    is damaged, the nodes of those before it stay in the store. If the import is interrupted, or after repair, the same
    call continues it: nodes that the store has already are compared and not written again.

    Args:
        folder: The folder of the shards, with a manifest by ``export_index`` or ``write_manifest``; that of an index
            has the subfolders ``images`` and ``texts``.
        target: An index if the folder is that of one, or a store. Stores of LlamaIndex are wrapped in
            ``ExternalVectorStore``.
        batch_size: How many nodes are written together, 256 by default.
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
        ValueError: A node cannot be read or stored, with ``on_error="raise"``; the images in the store have another
            share of captions in their vectors; or the folder is that of a store and the target an index, or the other
            way round.

    Examples:
        >>> from llama_index_mm_zhipu.stores import export_index, import_index
        >>> _ = export_index(index, "export", show_progress=False)
        >>> store = FaissMultiModalVectorStore("store")
        >>> import_index("export/images", store, show_progress=False).nodes
        12
        >>> import_index("export/images", store, show_progress=False).kept
        12
    """
    require_choice(on_error, "on_error", "raise", "skip")
    require_positive(batch_size, "batch_size")
    runs = [
        Importer(path, finished_manifest(path), store, batch_size, on_error, show_progress)
        for path, store in _stores_by_folder(target, as_path(folder, "folder"))
    ]
    # Nothing is written to one store of an index if the other one cannot take its nodes.
    for run in runs:
        _expect_vectors(run.target, run.manifest)
        run.check()
    return _together([_imported(run) for run in runs])


def _stores_by_folder(given: IndexOfStores | BasePydanticVectorStore, folder: Path) -> list[tuple[Path, MovableStore]]:
    """Return the stores of an index with their subfolders, or a store with the folder.

    Raises:
        TypeError: Neither was given.
        ValueError: The folder holds the shards of a store, and an index was given, or the other way round.
    """
    if isinstance(given, BasePydanticVectorStore):
        if (folder / IMAGES / MANIFEST).exists():
            raise ValueError(
                f"{folder} holds the two stores of an index: give the index, or one of its stores with the subfolder "
                f"{IMAGES!r} or {TEXTS!r}"
            )
        return [(folder, _movable(given))]
    if not isinstance(given, IndexOfStores):
        raise TypeError(f"{given!r:.80} cannot be moved; give an index or a vector store of LlamaIndex")
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} holds a single store: give index.image_store or index.text_store, not the index")
    return [(folder / IMAGES, _movable(given.image_store)), (folder / TEXTS, _movable(given.text_store))]


def _movable(store: BasePydanticVectorStore) -> MovableStore:
    return store if isinstance(store, MovableStore) else ExternalVectorStore(store)


def _expect_vectors(store: MovableStore, manifest: Manifest) -> None:
    if isinstance(store, ExternalVectorStore) and manifest.dimension:
        store.expect_vector([1.0, *[0.0] * (manifest.dimension - 1)].copy)


def _exported(run: Exporter) -> TransferReport:
    started = time.monotonic()
    try:
        manifest = run.run()
    except OSError as error:
        raise StoreError(f"cannot write the export to {run.folder}: {error.strerror or error}") from None
    seconds = time.monotonic() - started
    return TransferReport(
        manifest.nodes, run.kept, len(manifest.shards), manifest.bytes, seconds, skipped_nodes(manifest)
    )


def _imported(run: Importer) -> TransferReport:
    started = time.monotonic()
    run.run()
    nodes, seconds = run.written + run.kept, time.monotonic() - started
    return TransferReport(nodes, run.kept, len(run.manifest.shards), run.manifest.bytes, seconds, run.skipped)


def _together(reports: Sequence[TransferReport]) -> TransferReport:
    skipped = Skipped()
    for report in reports:
        for node_id, reason in report.skipped.items():
            skipped.add(node_id, reason)
    return TransferReport(
        nodes=sum(report.nodes for report in reports),
        kept=sum(report.kept for report in reports),
        shards=sum(report.shards for report in reports),
        bytes=sum(report.bytes for report in reports),
        seconds=sum(report.seconds for report in reports),
        skipped=skipped,
    )
