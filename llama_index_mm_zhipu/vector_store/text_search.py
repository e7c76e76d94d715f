"""Search by words: BM25, as FTS5's own function ``bm25`` computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.vector_store.ann import Found, best_of
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, Condition
from llama_index_mm_zhipu.vector_store.fulltext import QueryWord, match_all, occurrences, query_words, repeated
from llama_index_mm_zhipu.vector_store.sessions import Reader, listing_budget, sorted_and_unique
from llama_index_mm_zhipu.vector_store.text_table import TextRows, TextSize
from llama_index_mm_zhipu.vector_store.vector_file import Ids

_K1, _B = 1.2, 0.75
_MIN_IDF = 1e-6
"""Weight of words that more than half of the texts have."""

_MAX_WORDS_OF_BEST = 2
"""Maximum words of which only the best texts are read. Of more words, finding them takes as long as reading all."""

_FIRST_TEXTS = 2_000
"""Texts with a word that are read at least. Reading fewer saves no time."""

_TESTED_PER_RESULT = 4
_TESTED_GROWTH = 8

Floats = npt.NDArray[np.float64]

_NO_ROWS: Ids = np.empty(0, np.int64)


class _Word(NamedTuple):
    """Texts with a word of the query.

    Attributes:
        texts: The texts.
        times: How many times each of them has the word.
        weight: Weight of the word, its inverse document frequency.
    """

    texts: TextRows
    times: Floats
    weight: float


class _Matches(NamedTuple):
    """Texts that have any of the words.

    Attributes:
        ids: Row ids of the nodes.
        scores: BM25 scores.
    """

    ids: Ids
    scores: Floats


class _Both(NamedTuple):
    """Texts that have both words of a query; empty if they are not needed.

    Attributes:
        once: Rows of the texts that have both.
        twice: Rows of those that have a word at least twice, by word.
    """

    once: Ids = _NO_ROWS
    twice: Mapping[str, Ids] = MappingProxyType({})


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
    # Without a condition, this finds out whether the nodes exist: see TextSize.is_exact.
    every_match_counts = condition is EVERY_NODE and size.is_exact
    if len(words) <= _MAX_WORDS_OF_BEST:
        limit = max(_FIRST_TEXTS, k if every_match_counts else _TESTED_PER_RESULT * k)
        matches = _matches(_read_best(reader, words, size, limit), size)
        if every_match_counts:
            return best_of(*matches, k)
        found = _best_meeting(reader, matches, condition, k, limit)
        # Fewer texts than the limit are all texts with a word.
        if len(found) == k or len(matches.ids) < limit:
            return found
    matches = _matches([_read(reader, word, size) for word in words], size)
    if every_match_counts:
        return best_of(*matches, k)
    if condition is not EVERY_NODE:
        matches = _restricted(reader, matches, condition, size)
    return _best_meeting(reader, matches, condition, k, len(matches.ids))


# Texts with one word


def _read(reader: Reader, word: QueryWord, size: TextSize) -> _Word:
    """Read all texts with a word."""
    return _with_times(reader, word, reader.text_rows(match_all(word.terms)), size)


def _read_best(reader: Reader, words: list[QueryWord], size: TextSize, limit: int) -> list[_Word]:
    """Read, of one or two words, texts among which are the ``limit`` best.

    A list begins with the shortest texts. Of the texts that have the words equally often, the first are best, so that
    ``limit`` of them suffice. Of further texts, not all words may be known, which ranks them lower and never higher.
    """
    first = [reader.text_rows(match_all(word.terms), limit if word.is_exact else None) for word in words]
    is_cut = [word.is_exact and len(texts.rows) == limit for word, texts in zip(words, first, strict=True)]
    both = _read_both(reader, words, is_cut, limit) if len(words) > 1 and any(is_cut) else _Both()
    read: list[_Word] = []
    for word, texts, cut in zip(words, first, is_cut, strict=True):
        if not cut:
            read.append(_with_times(reader, word, texts, size))
            continue
        repetitions = _first_repetitions(reader, word, both, limit)
        known = TextRows(sorted_and_unique(np.concatenate([texts.rows, both.once, *both.twice.values(), *repetitions])))
        weight = _weight(reader.count_texts(match_all(word.terms)), size)
        read.append(_Word(known, _times(known, repetitions), weight))
    return read


def _read_both(reader: Reader, words: list[QueryWord], is_cut: list[bool], limit: int) -> _Both:
    """Read the texts that have two words, of which one is in more than ``limit`` texts.

    Of those that have both once, the first suffice. The others are few, and read completely.
    """
    once = reader.text_rows(match_all([*words[0].terms, *words[1].terms]), limit if all(is_cut) else None)
    twice = {
        word.word: _rows(reader, word, 2, other.terms)
        for word, other, cut in zip(words, reversed(words), is_cut, strict=True)
        if cut
    }
    return _Both(once.rows, twice)


def _first_repetitions(reader: Reader, word: QueryWord, both: _Both, limit: int) -> list[Ids]:
    """Return ``_repetitions`` as far as the ``limit`` best texts need them."""
    if not both.twice:
        return _repetitions(reader, word, limit)
    twice = [_rows(reader, word, 2, limit=limit), both.twice[word.word]]
    return [sorted_and_unique(np.concatenate(twice)), *_repetitions(reader, word, times=3)]


def _with_times(reader: Reader, word: QueryWord, texts: TextRows, size: TextSize) -> _Word:
    """Find how many times a text has a word, given all texts with its terms."""
    if word.is_exact:
        return _Word(texts, _times(texts, _repetitions(reader, word)), _weight(len(texts.rows), size))
    tokens = reader.tokens_of_texts(texts.ids.tolist())
    counted = [occurrences(word.word, tokens.get(id_, "")) for id_ in texts.ids.tolist()]
    times = np.array(counted, dtype=np.float64)
    return _Word(TextRows(texts.rows[times > 0]), times[times > 0], _weight(int(np.count_nonzero(times)), size))


def _repetitions(reader: Reader, word: QueryWord, limit: int | None = None, times: int = 2) -> list[Ids]:
    """Return the rows of the texts that have a word at least ``times`` times, once more, and so on."""
    found: list[Ids] = []
    while len(rows := _rows(reader, word, times + len(found), limit=limit)):
        found.append(rows)
    return found


def _rows(reader: Reader, word: QueryWord, times: int, terms: Sequence[str] = (), limit: int | None = None) -> Ids:
    """Return the rows of the texts that have a word at least ``times`` times, 2 or more, and other terms."""
    term = repeated(word.terms[0], times)
    return _NO_ROWS if term is None else reader.text_rows(match_all([term, *terms]), limit).rows


def _times(texts: TextRows, repetitions: list[Ids]) -> Floats:
    """Return how many times each text has a word."""
    times: Floats = np.ones(len(texts.rows))
    for more_often, more in enumerate(repetitions if len(times) else (), 2):
        # Both are in order, and the repetitions are few.
        places = np.minimum(np.searchsorted(texts.rows, more), len(times) - 1)
        times[places[texts.rows[places] == more]] = more_often
    return times


def _weight(count: int, size: TextSize) -> float:
    """Return the weight of a word that so many texts have."""
    return max(_MIN_IDF, math.log((size.texts - count + 0.5) / (count + 0.5))) if count < size.texts else _MIN_IDF


def _scores(word: _Word, size: TextSize) -> Floats:
    """Return what a word adds to the scores of its texts."""
    relative_lengths = word.texts.lengths * (size.texts / max(1, size.tokens))
    return word.weight * word.times * (_K1 + 1) / (word.times + _K1 * (1 - _B + _B * relative_lengths))


# Texts with any word


def _matches(words: list[_Word], size: TextSize) -> _Matches:
    """Return the texts with any of the words, and the sums of their scores."""
    scores = [_scores(word, size) for word in words]
    if len(words) == 1:
        return _Matches(words[0].texts.ids, scores[0])
    every = [word.texts.rows for word in words]
    rows, positions = np.unique(np.concatenate([np.empty(0, np.int64), *every]), return_inverse=True)
    sums = np.bincount(positions, np.concatenate([np.empty(0), *scores]), minlength=len(rows))
    return _Matches(TextRows(rows).ids, sums.astype(np.float64))


def _restricted(reader: Reader, matches: _Matches, condition: Condition, size: TextSize) -> _Matches:
    """Leave out what does not meet a condition, if the nodes that meet it are listed quickly."""
    allowed = reader.select_ids_within(condition, listing_budget(size.texts))
    if allowed is None:
        return matches
    kept = np.isin(matches.ids, allowed)
    return _Matches(matches.ids[kept], matches.scores[kept])


def _best_meeting(reader: Reader, matches: _Matches, condition: Condition, k: int, limit: int) -> Found:
    """Return the ``k`` best of those that meet a condition, among the ``limit`` best."""
    found: Found = []
    depth, tested = k if condition is EVERY_NODE else _TESTED_PER_RESULT * k, 0
    while len(found) < k and tested < min(limit, len(matches.ids)):
        part = best_of(*matches, min(depth, limit))[tested:]
        meeting = reader.select_matching([id_ for id_, _ in part], condition)
        found += [(id_, score) for id_, score in part if id_ in meeting]
        tested, depth = tested + len(part), depth * _TESTED_GROWTH
    return found[:k]
