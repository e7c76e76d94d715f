"""Search by words: BM25, as FTS5's own function ``bm25`` computes it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.vector_store.ann import Found
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, Condition
from llama_index_mm_zhipu.vector_store.fulltext import QueryWord, match_all, occurrences, query_words, repeated
from llama_index_mm_zhipu.vector_store.sessions import Ids, Reader
from llama_index_mm_zhipu.vector_store.text_table import TextRows, TextSize

_K1, _B = 1.2, 0.75
_MIN_IDF = 1e-6
"""Weight of words that more than half of the texts have."""

_BUDGET_PER_NODE = 0.1
_MIN_BUDGET = 10_000
"""Budget of listing the nodes that meet a condition, in steps of SQLite. If it is exceeded, the best texts are tested
one after another."""

_TESTED_PER_RESULT = 4
_TESTED_GROWTH = 8

Floats = npt.NDArray[np.float64]


class _Matches(NamedTuple):
    """Texts that have any of the words.

    Attributes:
        ids: Row ids of the nodes.
        scores: BM25 scores.
    """

    ids: Ids
    scores: Floats


def search_texts(reader: Reader, query: str, condition: Condition, k: int) -> Found:
    """Return the row ids and BM25 scores of the ``k`` best texts with any word of a query, best first.

    Args:
        reader: Reader of a store with full text.
        query: The words, as a user writes them.
        condition: Condition on the nodes.
        k: Maximum number of texts.
    """
    size = reader.text_size()
    found = [scored for word in query_words(query) if (scored := _scored(reader, word, size)) is not None]
    if not found:
        return []
    matches = _summed(found)
    if condition is not EVERY_NODE:
        matches = _restricted(reader, matches, condition, size)
    return _best(reader, matches, condition, k)


def _scored(reader: Reader, word: QueryWord, size: TextSize) -> tuple[TextRows, Floats] | None:
    """Return the texts with a word, and what it adds to their scores; None if there are none."""
    texts = reader.text_rows(match_all(word.terms))
    texts, times = _repetitions(reader, word.terms[0], texts) if word.is_exact else _counted(reader, word.word, texts)
    count = len(texts.rows)
    if not count:
        return None
    weight = max(_MIN_IDF, math.log((size.texts - count + 0.5) / (count + 0.5))) if count < size.texts else _MIN_IDF
    relative_lengths = texts.lengths * (size.texts / max(1, size.tokens))
    return texts, weight * times * (_K1 + 1) / (times + _K1 * (1 - _B + _B * relative_lengths))


def _repetitions(reader: Reader, term: str, texts: TextRows) -> tuple[TextRows, Floats]:
    """Return the texts with a term, and how many times each has it."""
    times: Floats = np.ones(len(texts.rows))
    number, more = 2, len(texts.rows)
    while more and (repeated_term := repeated(term, number)):
        with_more = reader.text_rows(match_all([repeated_term]))
        times[np.searchsorted(texts.rows, with_more.rows)] += 1
        number, more = number + 1, len(with_more.rows)
    return texts, times


def _counted(reader: Reader, word: str, texts: TextRows) -> tuple[TextRows, Floats]:
    """Return the texts with a word among those with its terms, and how many times each has it."""
    tokens = reader.tokens_of_texts(texts.ids.tolist())
    times = np.array([occurrences(word, tokens.get(id_, "")) for id_ in texts.ids.tolist()], dtype=np.float64)
    return TextRows(texts.rows[times > 0]), times[times > 0]


def _summed(found: list[tuple[TextRows, Floats]]) -> _Matches:
    if len(found) == 1:
        ((texts, scores),) = found
        return _Matches(texts.ids, scores)
    rows, positions = np.unique(np.concatenate([texts.rows for texts, _ in found]), return_inverse=True)
    sums = np.bincount(positions, np.concatenate([scores for _, scores in found]))
    return _Matches(TextRows(rows).ids, sums.astype(np.float64))


def _restricted(reader: Reader, matches: _Matches, condition: Condition, size: TextSize) -> _Matches:
    """Leave out what does not meet a condition, if the nodes that meet it are listed quickly."""
    allowed = reader.select_ids_within(condition, max(_MIN_BUDGET, int(_BUDGET_PER_NODE * size.texts)))
    if allowed is None:
        return matches
    kept = np.isin(matches.ids, allowed)
    return _Matches(matches.ids[kept], matches.scores[kept])


def _best(reader: Reader, matches: _Matches, condition: Condition, k: int) -> Found:
    """Return the ``k`` best of those that meet a condition."""
    found: Found = []
    depth, tested = k if condition is EVERY_NODE else _TESTED_PER_RESULT * k, 0
    while len(found) < k and tested < len(matches.ids):
        best = _first(matches, depth)
        ids, scores = best.ids[tested:].tolist(), best.scores[tested:].tolist()
        # Without a condition, this leaves out what was added by a Python with other Unicode data, whose tokens this one
        # could not remove.
        meeting = reader.select_matching(ids, condition)
        found += [(id_, score) for id_, score in zip(ids, scores, strict=True) if id_ in meeting]
        tested, depth = len(best.ids), depth * _TESTED_GROWTH
    return found[:k]


def _first(matches: _Matches, count: int) -> _Matches:
    """Return the best in order, older nodes first among equals."""
    ids, scores = matches
    if count < len(ids):
        least = np.partition(scores, len(ids) - count)[len(ids) - count]
        ids, scores = ids[scores >= least], scores[scores >= least]
    order = np.lexsort((ids, -scores))[:count]
    return _Matches(ids[order], scores[order])
