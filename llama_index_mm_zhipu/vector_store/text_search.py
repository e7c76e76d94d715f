"""Search by words: BM25, as FTS5's own function ``bm25`` computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
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

_MAX_FREQUENT = 2
"""Maximum frequent words of which the beginnings of lists suffice. Three have too many lists of texts with some."""

_PAIRED_TIMES = 2
_ROUNDING = 1 + 1e-9

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


class _FrequentWord(NamedTuple):
    """A word that more than ``_FIRST_TEXTS`` texts have.

    Attributes:
        word: The word.
        rows: First rows of the texts that have the word at least once, twice, and so on.
        texts: Number of texts that have it.
    """

    word: QueryWord
    rows: list[Ids]
    texts: int


class _Pairs(NamedTuple):
    """Texts that have two frequent words; empty if they are not needed.

    Attributes:
        once: First rows of the texts that have both.
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
    wanted = k if every_match_counts else _TESTED_PER_RESULT * k
    matches = _matches(_read_best(reader, words, size, wanted), size)
    if every_match_counts:
        return best_of(*matches, k)
    found = _best_meeting(reader, matches, condition, k, wanted)
    # Fewer texts than wanted are all texts that have a word.
    if len(found) == k or len(matches.ids) < wanted:
        return found
    matches = _matches([_read(reader, word, size) for word in words], size)
    if condition is not EVERY_NODE:
        matches = _restricted(reader, matches, condition, size)
    return _best_meeting(reader, matches, condition, k, len(matches.ids))


# The best texts


def _read_best(reader: Reader, words: list[QueryWord], size: TextSize, wanted: int) -> list[_Word]:
    """Read texts with the words, among which are the ``wanted`` best.

    The lists of rare words are read completely. Of one or two frequent words, the beginnings of their lists suffice:
    they have the shortest texts first, and of the texts that have the words equally often, the shortest are best. Of
    further frequent words, those of lists are not read whose texts are worse than the best with rarer words.

    Some texts may be returned without all of their words. They are not among the best.
    """
    limit = max(_FIRST_TEXTS, wanted)
    read: dict[str, _Word] = {}
    frequent: list[_FrequentWord] = []
    for word in words:
        first = reader.text_rows(match_all(word.terms), limit if word.is_exact else None)
        if word.is_exact and len(first.rows) == limit:
            count = reader.count_texts(match_all(word.terms))
            frequent.append(_FrequentWord(word, [first.rows, *_repetitions(reader, word, limit)], count))
        else:
            read[word.word] = _with_times(reader, word, first, size)
    frequent.sort(key=lambda each: each.texts)
    while not (are_worse := _are_worse(frequent, list(read.values()), size, wanted)) and len(frequent) > _MAX_FREQUENT:
        rarest = frequent.pop(0).word
        read[rarest.word] = _read(reader, rarest, size)
    others = [word for word in words if word.word in read]
    pairs = _Pairs() if are_worse or len(frequent) < _MAX_FREQUENT else _read_pairs(reader, frequent, limit)
    for each in frequent:
        read[each.word.word] = _read_frequent(reader, each, others, pairs, limit, size)
    return [read[word.word] for word in words]


def _are_worse(frequent: list[_FrequentWord], read: list[_Word], size: TextSize, wanted: int) -> bool:
    """Return whether texts that have only frequent words are worse than the ``wanted`` best that were read."""
    if len(frequent) < _MAX_FREQUENT or not read:
        return False
    scores = _matches(read, size).scores
    if len(scores) < wanted:
        return False
    highest = 0.0
    for each in frequent:
        # The shortest text that has the word so often.
        shortest = TextRows(np.array([rows[0] for rows in each.rows]))
        times = np.arange(1, len(each.rows) + 1, dtype=np.float64)
        highest += _scores(_Word(shortest, times, _weight(each.texts, size)), size).max()
    return bool(highest * _ROUNDING < np.partition(scores, -wanted)[-wanted])


def _read_pairs(reader: Reader, frequent: list[_FrequentWord], limit: int) -> _Pairs:
    """Read texts that have two frequent words: the first of them, and all that have one of the words repeatedly."""
    terms = [each.word.terms[0] for each in frequent]
    once = reader.text_rows(match_all(terms), limit).rows
    twice = {
        each.word.word: _rows(reader, each.word, 2, match_all([other]))
        for each, other in zip(frequent, reversed(terms), strict=True)
    }
    return _Pairs(once, twice)


def _read_frequent(
    reader: Reader, frequent: _FrequentWord, others: list[QueryWord], pairs: _Pairs, limit: int, size: TextSize
) -> _Word:
    """Read the beginnings of the lists of a frequent word, and the texts that have any of other words as well."""
    word = frequent.word
    any_other = " OR ".join(f"({match_all(other.terms)})" for other in others)
    rows: list[Ids] = []
    for times, first in enumerate(frequent.rows, 1):
        found = [first]
        if len(first) == limit and pairs.twice and times > _PAIRED_TIMES:
            found = [_rows(reader, word, times)]
        elif len(first) == limit and others:
            found.append(_rows(reader, word, times, any_other))
        if times == 1:
            found += [pairs.once, *pairs.twice.values()]
        elif times == _PAIRED_TIMES and pairs.twice:
            found.append(pairs.twice[word.word])
        rows.append(sorted_and_unique(np.concatenate(found)))
    known = TextRows(sorted_and_unique(np.concatenate(rows)))
    return _Word(known, _times(known, rows[1:]), _weight(frequent.texts, size))


# Texts with one word


def _read(reader: Reader, word: QueryWord, size: TextSize) -> _Word:
    """Read all texts with a word."""
    return _with_times(reader, word, reader.text_rows(match_all(word.terms)), size)


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


def _rows(reader: Reader, word: QueryWord, times: int, also: str = "", limit: int | None = None) -> Ids:
    """Return the rows of the texts that have a word at least ``times`` times, and match an FTS5 expression as well."""
    term = word.terms[0] if times == 1 else repeated(word.terms[0], times)
    if term is None:
        return _NO_ROWS
    expression = match_all([term])
    return reader.text_rows(f"{expression} AND ({also})" if also else expression, limit).rows


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
