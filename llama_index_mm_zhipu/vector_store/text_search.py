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

_FIRST_TEXTS = 4_000
_FIRST_PER_RESULT = 4
_MAX_PARTLY_READ = 2
"""Texts of each word that are read first. If more have it, these often include the best already: of one word nearly
always, of two words mostly. Of more words, the best texts are seldom among them."""

_TESTED_PER_RESULT = 4
_TESTED_GROWTH = 8

Floats = npt.NDArray[np.float64]


class _Word(NamedTuple):
    """The texts with a word of the query.

    Attributes:
        texts: The texts. If there are very many, the shortest ones, and all that have the word more than once.
        times: How many times each of them has the word.
        weight: Weight of the word, its inverse document frequency.
        read_to: Row id up to which ``texts`` are all texts with the word; None if they are all.
    """

    texts: TextRows
    times: Floats
    weight: float
    read_to: int | None


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
    words = query_words(query)
    if condition is EVERY_NODE and len(words) <= _MAX_PARTLY_READ:
        read = [_read(reader, word, size, max(_FIRST_TEXTS, _FIRST_PER_RESULT * k)) for word in words]
        matches = _matches_of_first(read, size, k)
        if matches is None:
            whole = [
                _read(reader, word, size) if first.read_to else first for word, first in zip(words, read, strict=True)
            ]
            matches = _matches(whole, size)
    else:
        matches = _restricted(reader, _matches([_read(reader, word, size) for word in words], size), condition, size)
    return _best(reader, matches, condition, k, has_only_nodes=size.is_exact)


# Texts with one word


def _read(reader: Reader, word: QueryWord, size: TextSize, limit: int | None = None) -> _Word:
    """Read the texts with a word: all, or of more texts than a limit the first ones in the order of their lengths."""
    expression = match_all(word.terms)
    if not word.is_exact:
        texts, counted = _counted(reader, word.word, reader.text_rows(expression))
        return _Word(texts, counted, _weight(len(counted), size), None)
    rows = reader.text_rows(expression, limit).rows
    read_to = int(rows[-1]) if len(rows) == limit else None
    count = len(rows) if read_to is None else reader.count_texts(expression)
    repetitions = _repetitions(reader, word.terms[0]) if count else []
    if read_to is not None and repetitions:
        rows = np.union1d(rows, repetitions[0])
    times: Floats = np.ones(len(rows))
    for more in repetitions:
        times[np.isin(rows, more, assume_unique=True)] += 1
    return _Word(TextRows(rows), times, _weight(count, size), read_to)


def _repetitions(reader: Reader, term: str) -> list[Ids]:
    """Return the rows of the texts that have a term at least twice, three times, and so on."""
    found: list[Ids] = []
    while (repeated_term := repeated(term, len(found) + 2)) and len(
        rows := reader.text_rows(match_all([repeated_term])).rows
    ):
        found.append(rows)
    return found


def _counted(reader: Reader, word: str, texts: TextRows) -> tuple[TextRows, Floats]:
    """Return the texts with a word among those with its terms, and how many times each has it."""
    tokens = reader.tokens_of_texts(texts.ids.tolist())
    times = np.array([occurrences(word, tokens.get(id_, "")) for id_ in texts.ids.tolist()], dtype=np.float64)
    return TextRows(texts.rows[times > 0]), times[times > 0]


def _weight(count: int, size: TextSize) -> float:
    """Return the weight of a word that so many texts have."""
    return max(_MIN_IDF, math.log((size.texts - count + 0.5) / (count + 0.5))) if count < size.texts else _MIN_IDF


def _scores(texts: TextRows, times: Floats | float, weight: float, size: TextSize) -> Floats:
    """Return what a word adds to the scores of texts that have it so many times."""
    relative_lengths = texts.lengths * (size.texts / max(1, size.tokens))
    return np.asarray(weight * times * (_K1 + 1) / (times + _K1 * (1 - _B + _B * relative_lengths)))


# Texts with any word


def _matches(words: list[_Word], size: TextSize) -> _Matches:
    """Return all matches, given all texts with each word."""
    texts, scores, _ = _summed(words, size)
    return _Matches(texts.ids, scores)


def _matches_of_first(words: list[_Word], size: TextSize, k: int) -> _Matches | None:
    """Return matches that include the ``k`` best with their scores; None if these cannot be told from what was read.

    A text that was not read is longer than those that were, and has no word more than once.
    """
    texts, scores, positions = _summed(words, size)
    partly_read = [(word, of_word) for word, of_word in zip(words, positions, strict=True) if word.read_to is not None]
    if not partly_read:
        return _Matches(texts.ids, scores)
    if len(scores) < k:
        return None
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    read_to = min(word.read_to for word, _ in partly_read if word.read_to is not None)
    best_unread = sum(_scores(TextRows(np.array([read_to])), 1.0, word.weight, size)[0] for word, _ in partly_read)
    unread: Floats = np.zeros(len(scores))
    for word, of_word in partly_read:
        of_texts = _scores(texts, 1.0, word.weight, size)
        of_texts[of_word] = 0
        unread += of_texts
    unread[texts.rows <= read_to] = 0
    is_uncertain = best_unread > least or ((unread > 0) & (scores + unread >= least)).any()
    return None if is_uncertain else _Matches(texts.ids, scores)


def _summed(words: list[_Word], size: TextSize) -> tuple[TextRows, Floats, list[Ids]]:
    """Return the texts with any of the words, the sums of their scores, and the positions of each word's texts."""
    every = np.concatenate([word.texts.rows for word in words]) if words else np.empty(0, np.int64)
    rows, positions = np.unique(every, return_inverse=True)
    scores = [_scores(word.texts, word.times, word.weight, size) for word in words]
    sums = np.bincount(positions, np.concatenate(scores) if scores else None, minlength=len(rows)).astype(np.float64)
    ends = np.cumsum([len(word.times) for word in words])
    return TextRows(rows), sums, np.split(positions, ends[:-1]) if words else []


def _restricted(reader: Reader, matches: _Matches, condition: Condition, size: TextSize) -> _Matches:
    """Leave out what does not meet a condition, if the nodes that meet it are listed quickly."""
    allowed = reader.select_ids_within(condition, max(_MIN_BUDGET, int(_BUDGET_PER_NODE * size.texts)))
    if allowed is None:
        return matches
    kept = np.isin(matches.ids, allowed)
    return _Matches(matches.ids[kept], matches.scores[kept])


def _best(reader: Reader, matches: _Matches, condition: Condition, k: int, *, has_only_nodes: bool) -> Found:
    """Return the ``k`` best of those that meet a condition.

    Args:
        reader: Reader of the store.
        matches: Texts and scores.
        condition: Condition on the nodes.
        k: Maximum number of texts.
        has_only_nodes: Whether all matches are texts of nodes.
    """
    if condition is EVERY_NODE and has_only_nodes:
        ids, scores = _first(matches, k)
        return list(zip(ids.tolist(), scores.tolist(), strict=True))
    found: Found = []
    depth, tested = k if condition is EVERY_NODE else _TESTED_PER_RESULT * k, 0
    while len(found) < k and tested < len(matches.ids):
        best = _first(matches, depth)
        part = list(zip(best.ids[tested:].tolist(), best.scores[tested:].tolist(), strict=True))
        meeting = reader.select_matching([id_ for id_, _ in part], condition)
        found += [(id_, score) for id_, score in part if id_ in meeting]
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
