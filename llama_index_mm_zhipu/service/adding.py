"""Read inputs into an index, and report what was done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from llama_index_mm_zhipu.index.fill import INSERT_BATCH_SIZE, IndexReader
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.read import IndexItem
from llama_index_mm_zhipu.service.inputs import IndexInputs
from llama_index_mm_zhipu.service.results import IndexReport

_WATCHED_BATCH_SIZE = 32
"""How many images are written together where the reading is watched, and may be stopped."""


def reader_of(
    inputs: IndexInputs,
    remove_missing: bool,
    *,
    allow_empty: bool,
    on_read: Callable[[int], None] | None = None,
) -> IndexReader:
    """Return what reads the inputs into an index.

    Args:
        inputs: What to index.
        remove_missing: Whether images whose files are gone from the given folders are deleted.
        allow_empty: Whether none of the paths may have images.
        on_read: Called with the number of images read so far; those before the present batch are stored.
    """
    items = inputs.items(allow_empty=allow_empty)
    return IndexReader(
        items if on_read is None else _watched(items, on_read),
        batch_size=INSERT_BATCH_SIZE if on_read is None else _WATCHED_BATCH_SIZE,
        on_error=inputs.on_error,
        remove_missing=remove_missing,
        # A folder without images has lost those that it had.
        roots={folder.resolve() for folder in inputs.folders} if remove_missing else set(),
        # The readers of large files show how far they are.
        show_progress=inputs.show_progress and inputs.is_light,
    )


def _watched(items: Iterable[IndexItem], on_read: Callable[[int], None]) -> Iterator[IndexItem]:
    for count, item in enumerate(items, 1):
        yield item
        on_read(count)


def report_of(index: ImageIndex, inputs: IndexInputs, before: int, started: float) -> IndexReport:
    """Return what was done.

    Args:
        index: The index after it.
        inputs: What was to be indexed.
        before: Number of images before it.
        started: When it began, by ``time.monotonic``.
    """
    images = index.image_store.count()
    skipped = {**inputs.skipped, **index.skipped}
    return IndexReport(
        images=images,
        texts=index.text_store.count(),
        new_images=images - before + index.removed_images,
        kept=index.kept,
        removed=index.removed_images + index.removed_texts,
        skipped=skipped,
        skipped_count=inputs.skipped.count + index.skipped.count,
        seconds=time.monotonic() - started,
    )
