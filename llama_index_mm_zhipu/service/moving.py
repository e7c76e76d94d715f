"""Export an index from a folder and import one into a folder, without loading its embedding model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llama_index_mm_zhipu.index.build import has_index
from llama_index_mm_zhipu.index.stores import IMAGE_NAMESPACE, TEXT_NAMESPACE
from llama_index_mm_zhipu.stores.transfer.importer import finished_manifest
from llama_index_mm_zhipu.stores.transfer.manifest import MANIFEST, Precision
from llama_index_mm_zhipu.stores.transfer.moving import IMAGES, TEXTS, TransferReport, export_index, import_index
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore


@dataclass(frozen=True)
class _Stores:
    """The two stores of an index, which is all that moving needs."""

    image_store: FaissMultiModalVectorStore
    text_store: FaissMultiModalVectorStore


def export_folder(store: Path, folder: Path, *, vectors: Precision = "float32", show_progress: bool) -> TransferReport:
    """Export the index in a folder, as ``export_index`` does.

    Args:
        store: Folder of the index.
        folder: Folder of the shards.
        vectors: Type of the numbers of vectors.
        show_progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: There is no index.
        StoreError: The index cannot be read, or the folder cannot be written to.
        ValueError: The folder holds something else.
    """
    if not has_index(store):
        raise FileNotFoundError(f"no index in {store}")
    with _opened(store) as stores:
        return export_index(stores, folder, vectors=vectors, show_progress=show_progress)


def import_folder(folder: Path, store: Path, *, show_progress: bool) -> TransferReport:
    """Import shards into the index in a folder, which is created if it is missing, as ``import_index`` does.

    Args:
        folder: Folder of the shards.
        store: Folder of the index.
        show_progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: There is no export in the folder.
        ModelMismatchError: The index has vectors of another model.
        StoreError: The export is damaged, or the index cannot be written to.
    """
    if not (folder / IMAGES / MANIFEST).is_file():
        raise FileNotFoundError(f"no export of an index in {folder}")
    # No index is created for a folder that holds no finished export of one.
    for part in (IMAGES, TEXTS):
        finished_manifest(folder / part)
    with _opened(store) as stores:
        return import_index(folder, stores, show_progress=show_progress)


@contextmanager
def _opened(folder: Path) -> Iterator[_Stores]:
    with (
        FaissMultiModalVectorStore(folder, namespace=IMAGE_NAMESPACE) as images,
        FaissMultiModalVectorStore(folder, namespace=TEXT_NAMESPACE) as texts,
    ):
        yield _Stores(images, texts)
