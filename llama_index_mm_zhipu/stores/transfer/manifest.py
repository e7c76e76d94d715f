"""The manifest of a folder of shards: what they hold, and the size and hash of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from llama_index_mm_zhipu.shared_folders import replaced_file
from llama_index_mm_zhipu.vector_store.errors import StoreError

MANIFEST = "manifest.json"
"""Name of the file in the folder of the shards."""

Precision: TypeAlias = Literal["float32", "float16"]
"""Type of the numbers of vectors in shards."""

_FORMAT = "llama-index-mm-zhipu nodes"
_VERSION = 1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Shard:
    """A file of nodes.

    Attributes:
        file: Name of the file.
        nodes: Number of nodes.
        bytes: Size of the file.
        sha256: SHA-256 of the file, in hexadecimal digits.
    """

    file: str
    nodes: int
    bytes: int
    sha256: str

    def is_intact(self, folder: Path) -> bool:
        """Return whether the file in a folder is there and has the size and hash."""
        try:
            with (folder / self.file).open("rb") as opened:
                return self.is_content_of(opened)
        except FileNotFoundError:
            return False

    def is_content_of(self, opened: BinaryIO) -> bool:
        """Return whether an open file has the size and hash."""
        return size_and_hash(opened) == (self.bytes, self.sha256)


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds.

    Attributes:
        vectors: Type of the numbers of vectors.
        dimension: Dimension of the vectors; None if there are none.
        settings: Settings of the store by key, among them ``"model"``, the fingerprint of the embedding model.
        source_state: State of the exported store, ``MovableStore.state_id``, for resuming the export.
        shards: The shards, in the order of the nodes.
        skipped: Nodes that were left out because their images are missing, with the reason for each, by id.
        is_complete: Whether all shards are written.
    """

    vectors: Precision
    dimension: int | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    source_state: str | None = None
    shards: tuple[Shard, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    is_complete: bool = False

    @property
    def nodes(self) -> int:
        """Number of nodes in all shards."""
        return sum(shard.nodes for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    def save(self, folder: Path) -> None:
        """Write the manifest into a folder, in place of the one there."""
        fields = {
            "format": _FORMAT,
            "version": _VERSION,
            "complete": self.is_complete,
            "nodes": self.nodes,
            "dimension": self.dimension,
            "vectors": self.vectors,
            "settings": self.settings,
            "source_state": self.source_state,
            "shards": [asdict(shard) for shard in self.shards],
            "skipped": self.skipped,
        }
        with replaced_file(folder / MANIFEST) as opened:
            opened.write(json.dumps(fields, ensure_ascii=False, indent=1).encode())


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in a folder; None if there is none.

    Raises:
        StoreError: It cannot be read, or a newer version of this package wrote it.
    """
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_bytes())
        version, is_ours = fields["version"], fields["format"] == _FORMAT
        if is_ours and version == _VERSION:
            return _manifest_of(fields)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is no manifest of an export ({type(error).__name__}: {error})") from None
    if not is_ours:
        raise StoreError(f"{path} is no manifest of an export of llama-index-mm-zhipu")
    raise StoreError(f"{path} has version {version}, this package reads {_VERSION}; upgrade llama-index-mm-zhipu")


def size_and_hash(opened: BinaryIO) -> tuple[int, str]:
    """Return the size and SHA-256 of an open file, which is read from its beginning."""
    opened.seek(0)
    size, sha256 = 0, hashlib.sha256()
    while chunk := opened.read(_CHUNK):
        size += len(chunk)
        sha256.update(chunk)
    return size, sha256.hexdigest()


def _manifest_of(fields: Mapping[str, Any]) -> Manifest:
    if fields["vectors"] not in ("float32", "float16"):
        raise ValueError(f"vectors is {fields['vectors']!r:.60}")
    return Manifest(
        vectors=fields["vectors"],
        dimension=fields["dimension"],
        settings=dict(fields["settings"]),
        source_state=fields.get("source_state"),
        shards=tuple(map(_shard_of, fields["shards"])),
        skipped=dict(fields.get("skipped", {})),
        is_complete=bool(fields["complete"]),
    )


def _shard_of(fields: Mapping[str, Any]) -> Shard:
    shard = Shard(str(fields["file"]), int(fields["nodes"]), int(fields["bytes"]), str(fields["sha256"]))
    if Path(shard.file).name != shard.file:
        raise ValueError(f"{shard.file!r:.200} is not the name of a file in this folder")
    return shard
