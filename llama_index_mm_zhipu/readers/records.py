"""Where images come from: ids that tell sources apart, and the location by which an index finds an image again."""

from __future__ import annotations

import errno
import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, ImageNode

from llama_index_mm_zhipu.prompts.wording import WORDING


class RecordError(ValueError):
    """A record of a data set cannot be used. The message names file and line, and says what is wrong."""


class EmptySourceError(ValueError):
    """A folder or file holds no image. The message says what was expected."""


CONTENT_HASH = "content_hash"
"""Metadata key of the SHA-256 of an image's bytes, hidden from LLMs and embedding models."""

SOURCE_ROOT = "source_root"
"""Metadata key of the folder or file that an image was read from; hidden from both, too."""

SOURCE_LOCATION = "source_location"
"""Metadata key of the path of an image, or of the source that holds it with its id; hidden from both, too."""

RESERVED_KEYS = frozenset(
    {CONTENT_HASH, SOURCE_ROOT, SOURCE_LOCATION, *(wording.label_key for wording in WORDING.values())}
)
"""Metadata keys that this package writes itself, so that data may not be called so."""


class ImageRecord(ImageNode):
    """An ``ImageNode`` that LlamaIndex's ``IngestionPipeline`` finds changed when its image, caption or metadata did.

    The hash of a plain one depends on the path, and metadata is what the pipeline's cache tells nodes apart by.
    """

    @classmethod
    def of(
        cls, node_id: str, digest: str | None, *, metadata: dict[str, Any] | None = None, **fields: Any
    ) -> ImageNode:
        """Make a node.

        Args:
            node_id: Its id, and that of the document which it is: ``delete_ref_doc(node_id)`` removes it.
            digest: Of the image's content, if known.
            metadata: What else to say of it.
            **fields: Of ``ImageNode``.
        """
        hidden = [CONTENT_HASH] if digest is not None else []
        return cls(
            id_=node_id,
            metadata={**(metadata or {}), **dict.fromkeys(hidden, digest)},
            excluded_llm_metadata_keys=hidden,
            excluded_embed_metadata_keys=hidden,
            **fields,
        )

    @property
    def hash(self) -> str:
        """Hash of id, content, path, caption and metadata."""
        # The id, as docstores list documents by hash: equal images would be one to them.
        metadata = json.dumps(self.metadata, ensure_ascii=False, sort_keys=True, default=str)
        identity = f"{self.node_id}-{super().hash}-{metadata}"
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


def content_hash(data: bytes) -> str:
    """Return the SHA-256 of an image's bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


RECORD_SEPARATOR = "//"
"""Stands in locations between a file, or a folder of a data set, and the id of a record in it; no path holds it."""

_HASH_DIGITS = 6

_CODED_BYTES = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
_DECODED_BYTES = {coded: byte for byte, coded in _CODED_BYTES.items()}


@dataclass(frozen=True)
class Source:
    """A folder, or a file that holds several images.

    Attributes:
        root: The folder or file, absolute and without links.
        id_prefix: Before the slash of node ids.
        ids_are_files: Whether ids within the source are paths of files, or of pages in files; else they are of records.
    """

    root: Path
    id_prefix: str
    ids_are_files: bool = True

    @classmethod
    def of(cls, root: Path, id_prefix: str | None = None, *, ids_are_files: bool = True) -> Source:
        """Make a source.

        Args:
            root: The folder or file.
            id_prefix: What ids begin with; ``""`` leaves them as they are. None makes one of the name of the source
                and of a hash of its path: two folders of one name have different ids.
            ids_are_files: As the attribute.
        """
        resolved = root.expanduser().resolve()
        return cls(resolved, default_prefix(resolved) if id_prefix is None else id_prefix.rstrip("/"), ids_are_files)

    def id_of(self, name: str) -> str:
        """Return the id of the node that has a certain id within the source."""
        return f"{self.id_prefix}/{name}" if self.id_prefix else name

    @property
    def location(self) -> str:
        """The root, as it stands in metadata."""
        return _storable(self.root.as_posix().rstrip("/"))

    def identify(self, node: ImageNode) -> ImageNode:
        """Give a node, whose id is unique within the source, an id and a location that are unique beyond it."""
        name = node.node_id
        node.id_ = self.id_of(name)
        separator = "/" if self.ids_are_files else RECORD_SEPARATOR
        location = f"{self.location}{separator}{name}"
        node.metadata = {**node.metadata, SOURCE_ROOT: self.location, SOURCE_LOCATION: location}
        node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, SOURCE_ROOT, SOURCE_LOCATION]
        node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, SOURCE_ROOT, SOURCE_LOCATION]
        return node


def location_of(node: BaseNode) -> str | None:
    """Return where a reader found an image; None for nodes that no reader made, and in stores of earlier versions."""
    location = node.metadata.get(SOURCE_LOCATION)
    return location if isinstance(location, str) else None


def name_in_source(node: BaseNode) -> str | None:
    """Return the id of a node of a reader within its source, which is all of its id with ``id_prefix=""``."""
    location, root = location_of(node), node.metadata.get(SOURCE_ROOT)
    if location is None or not isinstance(root, str) or not location.startswith(root):
        return None
    return location[len(root) :].lstrip("/")


def location_of_file(path: str) -> str:
    """Return the path of a file as it stands in locations: its folder without links, its name as it is."""
    file = Path(path).expanduser().absolute()
    return _storable(f"{file.parent.resolve().as_posix().rstrip('/')}/{file.name}")


def is_missing(location: str, root: str | None = None) -> bool:
    """Whether neither an image's file nor a file that holds it is there any more.

    Args:
        location: Of the image.
        root: Of its source, if it is known.

    Raises:
        OSError: That cannot be said: a folder on the way cannot be looked into, or is a link that leads nowhere.
    """
    if root is not None and location.startswith(f"{root}{RECORD_SEPARATOR}"):
        location = root
    candidates = {location, path_of_location(location)}
    return all(_is_missing(Path(candidate)) for candidate in candidates)


def _is_missing(place: Path) -> bool:
    for path in (place, *place.parents):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if path != place and path.is_symlink():
                raise OSError(errno.ENOENT, "a link to a folder leads nowhere", str(path)) from None
            continue
        # What leads through a file is inside of it: a page of a PDF.
        return path != place and stat.S_ISDIR(mode)
    return True


def default_prefix(root: Path) -> str:
    """Return the name of a folder or file, without its suffix, and some digits of the hash of its path."""
    name = root.name if root.is_dir() else root.stem
    return _storable(f"{name}-{short_hash(str(root))}")


def short_hash(text: str) -> str:
    """Return some hexadecimal digits that tell texts apart in ids."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]


def path_of_location(location: str) -> str:
    """Return the path that a location, or a part of it, stands for."""
    return location.translate(_DECODED_BYTES)


def _storable(text: str) -> str:
    """Code what is not UTF-8 in the names of files, which Python gives as surrogates, in characters of private use."""
    return text.translate(_CODED_BYTES)
