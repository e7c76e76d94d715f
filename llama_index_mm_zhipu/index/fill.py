"""Fill an index: read what was given in batches, insert it, and delete what is gone from the folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.read import (
    IndexInput,
    IndexItem,
    items_of,
    nodes_of,
    roots_of,
    text_files_of,
    transformed,
)
from llama_index_mm_zhipu.index.stored_files import missing_ids, missing_text_ids
from llama_index_mm_zhipu.ingestion.ocr import ocr_to_follow
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.types import OnError

INSERT_BATCH_SIZE = 256
"""How many nodes are embedded and written together: a crash can lose at most these."""


@dataclass
class IndexReader:
    """Reads what was given to an index, batch after batch, and remembers which folders and files it came from.

    Attributes:
        given: As ``nodes_or_documents`` of ``build_index``.
        on_error: As in ``build_index``.
        remove_missing: As in ``build_index``.
        batch_size: How many items of an iterator make a batch; a sequence is one batch.
        show_progress: Whether to show a progress bar for folders.
        skipped: The items that were left out.
        roots: The folders that were read.
        text_files: The files that texts were read from.
    """

    given: IndexInput
    on_error: OnError
    remove_missing: bool
    batch_size: int = INSERT_BATCH_SIZE
    show_progress: bool = False
    skipped: Skipped = field(default_factory=Skipped)
    roots: set[Path] = field(default_factory=set)
    text_files: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        items = items_of(self.given)
        self.is_whole = isinstance(items, Sequence)
        """Whether all items are known, so that they are one batch."""
        batches = [list(items)] if isinstance(items, Sequence) else _batches(items, self.batch_size)
        self._rest = filter(None, map(self._read, batches))

    @cached_property
    def first(self) -> list[BaseNode]:
        """The nodes of the first batch that has any; it may be empty if nodes are only to be removed.

        Raises:
            ValueError: There is nothing to index.
        """
        first = next(self._rest, None)
        if first is None and not self.roots:
            reason = next(iter(self.skipped.values()), "no nodes or documents were given")
            raise ValueError(f"nothing to index: {reason}")
        return first or []

    def batches(self) -> Iterator[list[BaseNode]]:
        """Yield the nodes of each batch, once."""
        return chain([self.first], self._rest)

    def _read(self, batch: list[IndexItem]) -> list[BaseNode]:
        nodes = nodes_of(
            batch,
            self.skipped,
            on_error=self.on_error,
            allow_empty=self.remove_missing,
            show_progress=self.show_progress,
        )
        if self.remove_missing:
            self.roots.update(roots_of(batch), roots_of(nodes))
            self.text_files.update(text_files_of(nodes))
        return nodes


def fill_index(index: ImageIndex, reader: IndexReader) -> None:
    """Insert what a reader reads into an open index, and delete nodes whose files are gone, if so wanted.

    Args:
        index: The index; its ``skipped``, ``kept``, ``removed_images`` and ``removed_texts`` tell what happened.
        reader: What to insert.

    Raises:
        ImageError: An image cannot be read. The images before it are stored, as they are after Ctrl-C.
        OSError: With ``remove_missing``, a folder cannot be listed.
        ValueError: There is nothing to index, or a store cannot list its nodes, which ``remove_missing`` needs.
    """
    index.skipped, index.kept, index.removed_images, index.removed_texts = reader.skipped, 0, 0, 0
    if reader.remove_missing:
        _require_listing(index)
    with ocr_to_follow(index.has_ocr):
        if reader.is_whole:
            index.insert_nodes(transformed(reader.first, index.transformations))
        else:
            index.insert_batches(transformed(batch, index.transformations) for batch in reader.batches())
    if reader.remove_missing:
        _remove_missing(index, reader)
    index.checkpoint()


def _require_listing(index: ImageIndex) -> None:
    for store in (index.image_store, index.text_store):
        if not store.lists_nodes:
            raise ValueError(f"{store} cannot list its nodes, which remove_missing needs; nothing was indexed")


def _remove_missing(index: ImageIndex, reader: IndexReader) -> None:
    if not reader.roots:
        raise ValueError("remove_missing needs a folder, or nodes that a reader found in one; nothing was removed")
    texts, images = index.text_store, index.image_store
    missing = missing_ids(images, reader.roots)
    missing_texts = missing_text_ids(texts, reader.roots, reader.text_files, index.written_texts)
    # A text and an image may have the same id: each is deleted from its own store.
    for store, node_ids in ((images, missing), (texts, missing_texts)):
        if node_ids:
            store.delete_nodes(node_ids)
    index.removed_images, index.removed_texts = len(missing), len(missing_texts)


def _batches(items: Iterable[IndexItem], batch_size: int) -> Iterator[list[IndexItem]]:
    batch: list[IndexItem] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == batch_size:
                yield batch
                batch = []
    except (Exception, KeyboardInterrupt):
        # What was read before the error is not lost.
        if batch:
            yield batch
        raise
    if batch:
        yield batch
