"""Texts to vectors: each distinct text once, with others of about its length."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Literal

import numpy as np
from llama_index.core.base.embeddings.base import Embedding

from llama_index_mm_zhipu.embedding.backend import Backend, Vectors
from llama_index_mm_zhipu.embedding.tokenizer import MAX_WORD_PIECES, token_batch, windows, word_pieces

LongText = Literal["truncate", "mean"]


def text_vectors(
    backend: Backend, texts: Sequence[str], *, long_text: LongText, batch_size: int
) -> tuple[Vectors, int]:
    """Embed texts.

    Args:
        backend: The model.
        texts: Any number of them, of any length.
        long_text: Whether texts of more than ``MAX_WORD_PIECES`` word pieces are cut, or embedded as the mean over
            windows of so many.
        batch_size: Texts in one forward pass.

    Returns:
        Unit vectors of shape ``(len(texts), embed_dim)``, and how many texts were cut.
    """
    pieces = [word_pieces(text) for text in texts]
    if long_text == "mean":
        return _mean_over_windows(backend, pieces, batch_size), 0
    vectors = _vectors_of_runs(backend, [text[:MAX_WORD_PIECES] for text in pieces], batch_size)
    return vectors, sum(len(text) > MAX_WORD_PIECES for text in pieces)


def by_length(texts: Sequence[str]) -> list[int]:
    """Return the order of texts in which equal ones, and those of about one length, stand together."""
    return sorted(range(len(texts)), key=lambda index: (len(texts[index]), texts[index]))


def in_given_order(embeddings: Sequence[Embedding], order: Sequence[int]) -> list[Embedding]:
    """Bring the embeddings of texts that ``by_length`` sorted back into the order that these were given in."""
    return [embedding for _, embedding in sorted(zip(order, embeddings, strict=True), key=itemgetter(0))]


def _mean_over_windows(backend: Backend, pieces: Sequence[Sequence[int]], batch_size: int) -> Vectors:
    runs = [list(windows(text)) for text in pieces]
    vectors = _vectors_of_runs(backend, [run for text in runs for run in text], batch_size)
    first_runs = np.cumsum([0, *map(len, runs)])[:-1]
    sums = np.add.reduceat(vectors, first_runs, axis=0)
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), dtype=np.float32)


def _vectors_of_runs(backend: Backend, runs: Sequence[Sequence[int]], batch_size: int) -> Vectors:
    """Embed runs of word pieces: padding to the longest of a batch costs time, hence like beside like."""
    distinct = sorted({tuple(run) for run in runs}, key=len)
    vectors = np.concatenate(
        [
            backend.text_vectors(token_batch(distinct[start : start + batch_size]))
            for start in range(0, len(distinct), batch_size)
        ]
    )
    row_of = {run: row for row, run in enumerate(distinct)}
    return vectors[[row_of[tuple(run)] for run in runs]]
