"""Full text over Chinese: what goes into SQLite's FTS5, and what is asked of it.

Chinese is written without spaces, so characters and pairs of neighbours are indexed; other words as words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from llama_index_mm_zhipu.scripts import UNSPACED

_RUNS = re.compile(rf"(?P<unspaced>[{UNSPACED}]+)|[^\W{UNSPACED}]+")

TOKENS_VERSION = 2
"""To be raised with any change of ``tokens_of`` or of the table: stores fill their full text anew when opened."""

RRF_CONSTANT = 60
"""Of reciprocal rank fusion, as in Cormack, Clarke and Büttcher 2009."""


def tokens_of(text: str) -> str:
    """Return the tokens of a text for the index, set apart by spaces; empty where there are none."""
    return " ".join(token for run, unspaced in _runs(text) for token in (_grams(run) if unspaced else [run]))


def match_expression(query: str) -> str:
    """Return the FTS5 expression that finds texts with any word or pair of characters of a query.

    Single characters are asked for only where they stand alone: as part of longer words they would match too much.
    """
    tokens = {
        token
        for run, unspaced in _runs(query)
        for token in (map("".join, pairwise(run)) if unspaced and len(run) > 1 else [run])
    }
    return " OR ".join(f'"{token}"' for token in sorted(tokens))


def fuse(rankings: list[tuple[float, list[int]]]) -> list[tuple[int, float]]:
    """Fuse rankings by reciprocal ranks: the score of an id is the sum of ``weight / (60 + rank)``, ranks from 1.

    Args:
        rankings: A weight and ids, best first, for each ranking.

    Returns:
        Ids and scores, best first; older ids first among equals.
    """
    scores: dict[int, float] = {}
    for weight, ids in rankings:
        for rank, id_ in enumerate(ids, start=1):
            scores[id_] = scores.get(id_, 0.0) + weight / (RRF_CONSTANT + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """Yield runs of characters of one kind, and whether these are of a script without spaces."""
    for match in _RUNS.finditer(unicodedata.normalize("NFKC", text).lower()):
        yield match[0], match["unspaced"] is not None


def _grams(run: str) -> Iterator[str]:
    yield from run
    yield from map("".join, pairwise(run))
