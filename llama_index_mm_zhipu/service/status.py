"""Status of an index in a folder, read from its files without llama-index-core."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.store_file import (
    EMBED_MODEL,
    IMAGES_FILE,
    INTERNAL_METADATA_KEYS,
    TEXTS_FILE,
    read_store_file,
)


@dataclass(frozen=True)
class IndexSource:
    """A folder or file that images were read from.

    Attributes:
        path: The folder or file.
        images: Number of its images in the index.
        exists: Whether it is there now.

    Examples:
        >>> from pathlib import Path
        >>> from llama_index_mm_zhipu.service.status import status_of
        >>> build_index(nodes, embed_model, persist_dir="storage").close()
        >>> [source] = status_of(Path("storage")).sources
        >>> Path(source.path).name, source.images, source.exists
        ('images', 12, True)
    """

    path: str
    images: int
    exists: bool


@dataclass(frozen=True)
class IndexStatus:
    """What an index in a folder holds.

    Attributes:
        folder: The folder.
        images: Number of images.
        texts: Number of texts.
        model: Name or path of the embedding model; empty if the index did not record it.
        fingerprint: Architecture and hash of the model's weights.
        dimension: Dimension of the vectors; None before the first.
        precision: Precision of the first vectors, such as ``"fp32"``.
        caption_weight: Share of captions in the vectors; None before the first image.
        index_type: Type of the faiss index.
        bytes: Size of all files in bytes.
        sources: The folders and files that images were read from.
        metadata_keys: Keys under which images and texts have metadata, for filters.

    Examples:
        >>> from pathlib import Path
        >>> from llama_index_mm_zhipu.service.status import status_of
        >>> build_index(nodes, embed_model, persist_dir="storage").close()
        >>> status = status_of(Path("storage"))
        >>> status.images, status.precision, status.as_dict()["caption_weight"]
        (12, 'fp32', 0.5)
    """

    folder: str
    images: int
    texts: int
    model: str
    fingerprint: str
    dimension: int | None
    precision: str
    caption_weight: float | None
    index_type: str
    bytes: int
    sources: list[IndexSource]
    metadata_keys: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def status_of(folder: Path) -> IndexStatus:
    """Return the status of an index.

    Args:
        folder: The folder that ``build_index`` was given as ``persist_dir``.

    Raises:
        FileNotFoundError: There is no index in the folder.
        ValueError: A file of the index is damaged.

    Examples:
        >>> from pathlib import Path
        >>> from llama_index_mm_zhipu.service.status import status_of
        >>> build_index(nodes, embed_model, persist_dir="storage").close()
        >>> status = status_of(Path("storage"))
        >>> status.images, status.dimension, status.index_type, status.metadata_keys
        (12, 256, 'flat', ['file_name', '价格'])
    """
    if not (folder / IMAGES_FILE).is_file():
        raise FileNotFoundError(f"no index in {folder}")
    images = read_store_file(folder / IMAGES_FILE)
    texts = read_store_file(folder / TEXTS_FILE) if (folder / TEXTS_FILE).is_file() else None
    settings = images.settings
    keys = {*images.metadata_keys, *(texts.metadata_keys if texts is not None else ())}
    return IndexStatus(
        folder=str(folder),
        images=images.nodes,
        texts=texts.nodes if texts is not None else 0,
        model=(settings.get(EMBED_MODEL) or {}).get("model_name", ""),
        fingerprint=settings.get("model") or "",
        dimension=settings.get("dimension"),
        precision=settings.get("precision") or "",
        caption_weight=settings.get("caption_weight"),
        index_type=(settings.get("snapshot") or {}).get("kind", "flat"),
        bytes=images.bytes + (texts.bytes if texts is not None else 0),
        sources=[IndexSource(path, count, _exists(path)) for path, count in images.sources.items()],
        metadata_keys=sorted(keys - INTERNAL_METADATA_KEYS),
    )


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:
        # It is in a folder that may not be read.
        return False
