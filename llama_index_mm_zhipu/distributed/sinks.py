"""Where embedded parts go: Parquet shards in a folder, or an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from llama_index.core.utils import iter_batch

from llama_index_mm_zhipu.distributed.checkpoint import CHECKPOINT, LOCK
from llama_index_mm_zhipu.distributed.parts import Part, SkippedImage
from llama_index_mm_zhipu.embedding.nodes import EmbeddedNodes
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.reporting import Skipped, report
from llama_index_mm_zhipu.shared_folders import TEMPORARY, replaced_file
from llama_index_mm_zhipu.stores.transfer.manifest import Manifest, Precision, Shard, read_manifest
from llama_index_mm_zhipu.stores.transfer.shards import write_shard
from llama_index_mm_zhipu.vector_store.contract import MovableStore
from llama_index_mm_zhipu.vector_store.errors import StoreError

SKIPPED = "skipped.parquet"
"""File that lists the images that were left out, and those that are stored without the result of a stage."""

_SKIPPED_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in SkippedImage._fields])

# Of a hundred million URLs, many cannot be reached.
_LISTED_AT_A_TIME = 10_000

_SHARDS = "nodes-*.parquet"


@dataclass(frozen=True)
class StoredParts:
    """All parts that are stored, of this run and earlier ones.

    Attributes:
        shards: Files of the parts, in the order of the images.
        skipped: Images that were left out or are incomplete.
        settings: What a store records: model, caption weight and precision.
        unfinished: Keys of sources that an interrupted run has stored in part.
    """

    shards: Sequence[Shard]
    skipped: Iterable[SkippedImage]
    settings: dict[str, Any]
    unfinished: Sequence[str]


class Sink(Protocol):
    """Stores parts. Writing a part again replaces what was stored for it."""

    def check(self) -> None:
        """Check that parts can be stored here; nothing is written."""

    def has(self, shard: Shard | None) -> bool:
        """Return whether a part is still there that was written by an earlier run."""

    def has_nodes(self, count: int) -> bool:
        """Return whether at least so many nodes are there."""

    def write(self, part: Part) -> Shard | None:
        """Store a part; return its file, if there is one."""

    def finish(self, stored: StoredParts) -> None:
        """Complete the whole, after all parts are stored."""


@dataclass
class ShardSink:
    """Parquet shards in a folder, in the format of ``export_index``.

    Attributes:
        folder: The folder.
        dimension: Dimension of the vectors.
        vectors: Type of the numbers of vectors.
    """

    folder: Path
    dimension: int
    vectors: Precision
    _is_marked: bool = field(init=False, default=False)

    def check(self) -> None:
        """Check that the folder is empty, or that of earlier runs.

        Raises:
            ValueError: The folder holds other files.
        """
        if not self.folder.is_dir() or (self.folder / CHECKPOINT).exists():
            return
        if any(path.name != LOCK for path in self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds other files, and no {CHECKPOINT}; choose another folder")

    def has(self, shard: Shard | None) -> bool:
        """Return whether the file of a part is there and whole."""
        return shard is None or shard.is_intact(self.folder)

    def has_nodes(self, count: int) -> bool:
        """Return True: ``has`` compares the files."""
        return True

    def write(self, part: Part) -> Shard | None:
        """Write the file of a part, complete or not at all; a part without nodes has none.

        Raises:
            StoreError: The file cannot be written.
        """
        if not part.nodes:
            return None
        name = _SHARDS.replace("*", f"{part.source}-{part.number:06}")
        with self._named_errors():
            self._mark_unfinished()
            return write_shard(self.folder, name, part.nodes, self.dimension, self.vectors)

    def finish(self, stored: StoredParts) -> None:
        """Write the list of skipped images and the manifest, and remove files of parts that no longer exist.

        Raises:
            StoreError: A file cannot be written.
        """
        with self._named_errors():
            self._write_skipped(stored.skipped)
            manifest = Manifest(self.vectors, self.dimension, stored.settings, shards=tuple(stored.shards))
            replace(manifest, is_complete=not stored.unfinished).save(self.folder)
            listed = {shard.file for shard in stored.shards}
            for path in (*self.folder.glob(_SHARDS), *self.folder.glob(TEMPORARY)):
                if path.name not in listed:
                    path.unlink(missing_ok=True)
        if stored.unfinished:
            report(
                f"{self.folder} cannot be imported yet: an interrupted run has stored a part of "
                f"{', '.join(stored.unfinished)}; embed these sources again"
            )

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.folder}: {error.strerror or error}; the parts that are stored stay"
            ) from None

    def _mark_unfinished(self) -> None:
        """Keep others from importing a part of the images; a run that writes nothing leaves the folder as it is."""
        if not self._is_marked:
            manifest = read_manifest(self.folder) or Manifest(self.vectors, self.dimension)
            replace(manifest, is_complete=False).save(self.folder)
            self._is_marked = True

    def _write_skipped(self, skipped: Iterable[SkippedImage]) -> None:
        file = self.folder / SKIPPED
        batches = iter(iter_batch(skipped, _LISTED_AT_A_TIME))
        first = next(batches, None)
        if first is None:
            file.unlink(missing_ok=True)
            return
        with replaced_file(file) as opened, pq.ParquetWriter(opened, _SKIPPED_SCHEMA, compression="zstd") as writer:
            for batch in chain([first], batches):
                writer.write_table(pa.Table.from_pylist([image._asdict() for image in batch], _SKIPPED_SCHEMA))


@dataclass
class IndexSink:
    """An index, whose stores replace nodes with the same ids.

    Attributes:
        index: The index.
        caption_weight: Share of captions in the vectors.
    """

    index: ImageIndex
    caption_weight: float

    def check(self) -> None:
        """Do nothing: the index is open."""

    def has(self, shard: Shard | None) -> bool:
        """Return True: a store does not know parts. ``has_nodes`` compares the numbers."""
        return True

    def has_nodes(self, count: int) -> bool:
        """Return whether the store of images holds at least so many nodes, or cannot tell."""
        store = self.index.image_store
        return not (isinstance(store, MovableStore) and store.lists_nodes) or store.count() >= count

    def write(self, part: Part) -> None:
        """Add the nodes of a part, or replace those that are there."""
        if part.nodes:
            nodes = EmbeddedNodes(part.nodes, self.caption_weight, part.model or "", Skipped())
            self.index.insert_embedded(nodes)

    def finish(self, stored: StoredParts) -> None:
        """Write the caches of the store."""
        self.index.checkpoint()
