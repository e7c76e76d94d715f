"""One warning for all the texts that a call cut, however many batches and threads it took."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from llama_index_mm_zhipu.embedding.tokenizer import MAX_WORD_PIECES

logger = logging.getLogger(__name__)

_counts: ContextVar[list[int] | None] = ContextVar("_counts", default=None)


@contextmanager
def one_warning_for_cut_texts() -> Iterator[list[int]]:
    """Give a list to which each batch adds how many texts it cut; the outermost call warns when it is done."""
    counts = _counts.get()
    if counts is not None:
        yield counts
        return
    counts = []
    token = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(token)
        if any(counts):
            logger.warning(
                "%d text(s) longer than %d word pieces were cut; "
                'ChineseClipEmbedding(long_text="mean") embeds them whole',
                sum(counts),
                MAX_WORD_PIECES,
            )
