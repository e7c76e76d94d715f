"""Which stored images have lost their files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from llama_index_mm_zhipu.readers.picture_record import CONTENT_HASH, SOURCE_LOCATION, SOURCE_ROOT
from llama_index_mm_zhipu.readers.source import Source, is_missing, resolved
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore


def missing_ids(store: FaissMultiModalVectorStore, roots: Iterable[Path]) -> list[str]:
    """Return the ids of stored images that were read from certain folders and whose files are gone.

    Args:
        store: The store of images.
        roots: Folders, absolute and without links. Images that were read from other folders, also from folders in
            these, are not looked at, nor are those without a source (``bytes``, ``PIL.Image``, nodes that no reader
            made).

    Raises:
        OSError: A folder is not there or cannot be listed, such as a network share that is not mounted.
    """
    folders = {Source.of(root).location: root for root in roots if not root.is_file()}
    for folder in folders.values():
        with os.scandir(folder):
            # It can be listed.
            pass
    locations = store.metadata_texts(SOURCE_LOCATION)
    missing = [
        node_id
        for node_id, root in store.metadata_texts(SOURCE_ROOT).items()
        if root in folders and node_id in locations and is_missing(locations[node_id], root)
    ]
    return [*missing, *_missing_of_earlier_version(store, tuple(folders), locations)]


def _missing_of_earlier_version(
    store: FaissMultiModalVectorStore, folders: tuple[str, ...], locations: dict[str, str]
) -> list[str]:
    """Return the missing images that readers of earlier versions found, which recorded hashes but no sources.

    Their own folder must be there: nobody knows whether one above it was their source.
    """
    hashed = store.metadata_texts(CONTENT_HASH)
    paths = {
        node_id: path for node_id, path in store.image_paths().items() if node_id in hashed and node_id not in locations
    }
    prefixes = tuple(f"{folder}/" for folder in folders)
    return [
        node_id
        for node_id, path in paths.items()
        if resolved(path).startswith(prefixes) and Path(path).parent.is_dir() and is_missing(path)
    ]
