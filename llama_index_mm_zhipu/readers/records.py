"""Image records: their nodes, ids, locations and errors."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, ImageNode, NodeRelationship, RelatedNodeInfo

from llama_index_mm_zhipu.images import MISSING_IMAGE, STORED_IMAGE
from llama_index_mm_zhipu.prompts.wording import WORDING

FILE_NAME = "file_name"
"""Metadata key of the name of a file, or of its path within a folder of images, as in LlamaIndex's readers."""

FILE_PATH = "file_path"
"""Metadata key of the path of a file, as in LlamaIndex's readers."""

CONTENT_HASH = "content_hash"
"""Metadata key of the SHA-256 of an image's bytes, hidden from LLMs and embedding models."""

SOURCE_ROOT = "source_root"
"""Metadata key of the folder or file from which an image was read, hidden from LLMs and embedding models."""

SOURCE_LOCATION = "source_location"
"""Metadata key of the location of an image (see ``Source``), hidden from LLMs and embedding models."""

TIME = "time"
"""Metadata key of the time of a frame in its video, such as ``"00:01:23"``."""

TIME_SECONDS = "time_seconds"
"""Metadata key of the time of a frame in its video in seconds, as a float."""

RESERVED_KEYS = frozenset(
    {
        CONTENT_HASH,
        SOURCE_ROOT,
        SOURCE_LOCATION,
        STORED_IMAGE,
        MISSING_IMAGE,
        *(wording.label_key for wording in WORDING.values()),
    }
)
"""Metadata keys that this package writes itself; data sets must not use them."""

RECORD_SEPARATOR = "//"
"""Separates the source from the id of the record in a location; no path contains it."""

_HASH_DIGITS = 6
_TIME = re.compile(r"[0-9]{2,}:[0-9]{2}:[0-9]{2}")

# Python represents bytes of file names that are not UTF-8 as surrogates, which no store can hold.
_PRIVATE_OF_SURROGATE = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
_SURROGATE_OF_PRIVATE = {private: surrogate for surrogate, private in _PRIVATE_OF_SURROGATE.items()}


class RecordError(ValueError):
    """A record of a data set cannot be used.

    Attributes:
        position: File and line of the record, or the file alone.
        reason: What is wrong, and how to correct it.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("incomplete.jsonl").write_text('{"image_id": "1", "caption": "红苹果"}', encoding="utf-8")
        >>> read_jsonl("incomplete.jsonl")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.readers.records.RecordError: incomplete.jsonl, line 1: not an object with image_id,
        image_base64 and caption, but with image_id, caption; read other keys with
        ColumnReader(Columns(caption='caption', base64=…, id='image_id')).load_data('incomplete.jsonl')
    """

    def __init__(self, position: str, reason: str) -> None:
        # Both arguments are passed on, so that the error can be pickled.
        super().__init__(position, reason)
        self.position = position
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.position}: {self.reason}"


class EmptySourceError(ValueError):
    """A folder or file contains no images. The message says what was expected."""


class ImageRecord(ImageNode):
    """An ``ImageNode`` that is its own document, and whose hash depends on its image, caption and metadata.

    LlamaIndex's ``IngestionPipeline`` compares hashes to find changed documents. The hash of a plain ``ImageNode``
    depends on the path of the image, not on its content.
    """

    @classmethod
    def of(
        cls,
        node_id: str,
        digest: str | None,
        *,
        image: str | None = None,
        image_path: str | None = None,
        image_url: str | None = None,
        text: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> ImageNode:
        """Return a node.

        Args:
            node_id: Id of the node, which is also its document: ``delete_ref_doc(node_id)`` removes it.
            digest: Hash of the image's content, or None if it is unknown.
            image: The image in base64.
            image_path: Path of the image.
            image_url: URL of the image.
            text: Captions, one a line.
            metadata: Metadata of the node; ``content_hash`` is added.
        """
        hidden = [CONTENT_HASH] if digest is not None else []
        return cls(
            id_=node_id,
            image=image,
            image_path=image_path,
            image_url=image_url,
            text=text,
            metadata={**(metadata or {}), **dict.fromkeys(hidden, digest)},
            excluded_llm_metadata_keys=hidden,
            excluded_embed_metadata_keys=hidden,
        )

    @property
    def ref_doc_id(self) -> str:
        """Id of the source document; that of the node itself if it has none.

        LlamaIndex's stores write ``"None"`` as the document of other nodes: deleting an image by its id deletes nothing
        then, and deleting ``"None"`` deletes all of them. There is no ``SOURCE`` relationship, because LlamaIndex's
        docstores cannot delete a node that is its own source: ``delete_document`` says that there is none.
        """
        return super().ref_doc_id or self.node_id

    @property
    def hash(self) -> str:
        """Hash of id, content, path, caption and metadata."""
        # Docstores list documents by hash. Without the id, equal images would be one document.
        metadata = json.dumps(self.metadata, ensure_ascii=False, sort_keys=True, default=str)
        identity = f"{self.node_id}-{super().hash}-{metadata}"
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Source:
    """A folder, or a file that contains several images.

    The location of an image is ``<root>/<path>`` for a file in a folder and ``<root>//<id>`` for a record.

    Attributes:
        root: The folder or file as an absolute path without links.
        id_prefix: Prefix of node ids, without the slash after it.
        ids_are_files: Whether ids within the source are paths of files, or of pages in files; otherwise they are ids
            of records.
    """

    root: Path
    id_prefix: str
    ids_are_files: bool = True

    @classmethod
    def of(cls, root: Path, id_prefix: str | None = None, *, ids_are_files: bool = True) -> Source:
        """Return the source of a folder or file.

        Args:
            root: The folder or file.
            id_prefix: Prefix of node ids; ``""`` adds none. None makes a prefix from the name of the source and a hash
                of its path, so that two folders of the same name have different ids.
            ids_are_files: See the attribute.
        """
        resolved = root.expanduser().resolve()
        return cls(resolved, default_prefix(resolved) if id_prefix is None else id_prefix.rstrip("/"), ids_are_files)

    @property
    def location(self) -> str:
        """The root as it is written in metadata."""
        return _without_surrogates(self.root.as_posix().rstrip("/"))

    def id_of(self, name: str) -> str:
        """Return the node id for an id within the source."""
        return f"{self.id_prefix}/{name}" if self.id_prefix else name

    def identify(self, node: ImageNode) -> ImageNode:
        """Set the globally unique id and the location of a node whose id is unique within the source."""
        name = node.node_id
        node.id_ = self.id_of(name)
        separator = "/" if self.ids_are_files else RECORD_SEPARATOR
        location = f"{self.location}{separator}{name}"
        node.metadata = {**node.metadata, SOURCE_ROOT: self.location, SOURCE_LOCATION: location}
        node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, SOURCE_ROOT, SOURCE_LOCATION]
        node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, SOURCE_ROOT, SOURCE_LOCATION]
        return node

    def identify_relatives(self, node: ImageNode) -> ImageNode:
        """Set the globally unique ids of parent and children of a node, which are nodes of this source."""
        for relation in (NodeRelationship.PARENT, NodeRelationship.CHILD):
            related = node.relationships.get(relation)
            if isinstance(related, RelatedNodeInfo):
                node.relationships[relation] = self._identified(related)
            elif related is not None:
                node.relationships[relation] = [*map(self._identified, related)]
        return node

    def _identified(self, related: RelatedNodeInfo) -> RelatedNodeInfo:
        return related.model_copy(update={"node_id": self.id_of(related.node_id)})


def content_hash(data: bytes) -> str:
    """Return the SHA-256 of an image's bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def clock_time(seconds: float, *, digits: int = 0) -> str:
    """Return a time as hours, minutes and seconds, such as ``00:01:23``; the rest of the last digit is cut off.

    Args:
        seconds: The time in seconds, 0 or more.
        digits: Number of decimals of the seconds.
    """
    whole, fraction = divmod(int(seconds * 10**digits + 1e-6), 10**digits)
    time = f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{time}.{fraction:0{digits}}" if digits else time


def time_of(node: BaseNode) -> str:
    """Return the time of a video frame, such as ``00:01:23``; empty for other nodes."""
    time, seconds = node.metadata.get(TIME), node.metadata.get(TIME_SECONDS)
    # Other data sets may have a key of that name, whose values must not reach prompts as labels.
    return time if isinstance(seconds, int | float) and isinstance(time, str) and _TIME.fullmatch(time) else ""


def default_prefix(root: Path) -> str:
    """Return the name of a folder or file without its suffix, and a short hash of its path."""
    name = root.name if root.is_dir() else root.stem
    return _without_surrogates(f"{name}-{short_hash(str(root))}")


def short_hash(text: str) -> str:
    """Return six hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]


def location_of(node: BaseNode) -> str | None:
    """Return the location of an image, or None if no reader, or an earlier version of one, made the node."""
    location = node.metadata.get(SOURCE_LOCATION)
    return location if isinstance(location, str) else None


def name_in_source(node: BaseNode) -> str | None:
    """Return the id within the source of a node that a reader made, or None; with ``id_prefix=""`` it is the id."""
    location, root = location_of(node), node.metadata.get(SOURCE_ROOT)
    if location is None or not isinstance(root, str) or not location.startswith(root):
        return None
    return location[len(root) :].lstrip("/")


def location_of_file(path: str) -> str:
    """Return the location of an image file: links in its folder are resolved, the file itself may be a link."""
    file = Path(path).expanduser().absolute()
    return _without_surrogates(f"{file.parent.resolve().as_posix().rstrip('/')}/{file.name}")


def path_of_location(location: str) -> str:
    """Return the path for a location, or for the beginning of one."""
    return location.translate(_SURROGATE_OF_PRIVATE)


def is_missing(location: str, root: str | None = None) -> bool:
    """Return whether neither the file of an image nor a file that contains the image exists.

    Args:
        location: Location of the image.
        root: Location of its source, if it is known.

    Raises:
        OSError: A parent folder cannot be accessed or is a broken link, so it is unknown whether the file exists.
    """
    if root is not None and location.startswith(f"{root}{RECORD_SEPARATOR}"):
        location = root
    candidates = {location, path_of_location(location)}
    return all(_is_missing(Path(candidate)) for candidate in candidates)


def _is_missing(file: Path) -> bool:
    for path in (file, *file.parents):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if path != file and path.is_symlink():
                raise OSError(errno.ENOENT, "the link to a folder is broken", str(path)) from None
            continue
        # A path below a file is within it, as a page is within a PDF.
        return path != file and stat.S_ISDIR(mode)
    return True


def _without_surrogates(text: str) -> str:
    """Replace surrogates, which stand for bytes that are not UTF-8, with private use characters."""
    return text.translate(_PRIVATE_OF_SURROGATE)
