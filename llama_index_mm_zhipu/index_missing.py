"""Which stored images and texts have lost their files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from llama_index_mm_zhipu.readers.picture_record import CONTENT_HASH, SOURCE_LOCATION, SOURCE_ROOT
from llama_index_mm_zhipu.readers.records import Source, is_missing, resolved
from llama_index_mm_zhipu.index.stored_files import FILE_PATH, has_random_ids
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
    folders = _listed(roots)
    locations = store.metadata_texts(SOURCE_LOCATION)
    missing = [
        node_id
        for node_id, root in store.metadata_texts(SOURCE_ROOT).items()
        if root in folders and node_id in locations and is_missing(locations[node_id], root)
    ]
    return [*missing, *_missing_of_earlier_version(store, tuple(folders), locations)]


def missing_text_ids(
    store: FaissMultiModalVectorStore, roots: Iterable[Path], files: Collection[str], written: Collection[str]
) -> list[str]:
    """Return the ids of stored texts whose files are gone, and of old parts of files that have changed.

    Args:
        store: The store of texts.
        roots: Folders. Texts of files in other folders, also in folders in these, are not looked at, nor are those
            without the metadata ``file_path``.
        files: Of the texts that were read anew, as their metadata name them.
        written: Ids of these texts. Others of the same files are old, unless they were given their ids.

    Raises:
        OSError: As ``missing_ids``.
    """
    folders = _listed(roots)
    stored = store.metadata_texts(FILE_PATH)
    gone = {file for file in set(stored.values()) if _is_gone_from(folders, resolved(file))}
    old = [node_id for node_id, file in stored.items() if file in files and node_id not in written]
    return [
        *(node_id for node_id, file in stored.items() if file in gone),
        *(node.node_id for node in (store.get_nodes(node_ids=old) if old else []) if has_random_ids(node)),
    ]


def _listed(roots: Iterable[Path]) -> dict[str, Path]:
    """Return the folders among the roots by their location.

    Raises:
        OSError: One is not there or cannot be listed.
    """
    folders = {Source.of(root).location: root for root in roots if not root.is_file()}
    for folder in folders.values():
        with os.scandir(folder):
            # It can be listed.
            pass
    return folders


def _is_gone_from(folders: Collection[str], file: str) -> bool:
    folder = file.rpartition("/")[0]
    return folder in folders and is_missing(file, folder)


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
