"""Search by words: BM25, as FTS5's own function ``bm25`` computes it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.vector_store.ann import Found, best_of
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, Condition
from llama_index_mm_zhipu.vector_store.fulltext import QueryWord, match_all, occurrences, query_words, repeated
from llama_index_mm_zhipu.vector_store.sessions import Reader, listing_budget, sorted_and_unique
from llama_index_mm_zhipu.vector_store.text_table import TextRows, TextSize, text_row
from llama_index_mm_zhipu.vector_store.vector_file import Ids

_K1, _B = 1.2, 0.75
_MIN_IDF = 1e-6
"""Weight of words that more than half of the texts have."""

_MAX_WORDS_OF_BEST = 16
"""Maximum words of which only the best texts are read. Of more words, finding them takes as long as reading all."""

_READ_PER_FOUND = 2
_LISTS_PER_ROW = 50
"""Texts that are read in the time of finding one that has any of other words, and lists of words at which FTS5 looks in
the time that reading a text takes."""

_FIRST_TEXTS = 2_000
"""Texts with a word that are read at least, and maximum texts with a rare word. Reading fewer saves no time."""

_ROUNDING = 1 + 1e-9
"""Factor by which sums of scores in another order are smaller at most."""

_TESTED_PER_RESULT = 4
_TESTED_GROWTH = 8
_TESTED_SAMPLE = 64
_LISTED_PER_TEST = 18
"""Nodes that are listed in the time that testing one of them takes."""

_READ_PER_TEXT, _READ_PER_TOKEN = 400, 6
"""Rows of a list that are read in the time of looking into a text, and in the further time for each of its tokens."""

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
    """Texts that have two frequent words.

    Attributes:
        once: First rows of the texts that have both.
        twice: Rows of those that have a word at least twice, by word.
    """

    once: Ids
    twice: dict[str, Ids]


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
    if condition is EVERY_NODE and size.is_exact:
        return best_of(*_matches(_read_best(reader, words, size, k), size), k)
    allowed = _listed(reader, words, condition, k, size)
    if allowed is None:
        wanted = _TESTED_PER_RESULT * k
        matches = _matches(_read_best(reader, words, size, wanted), size)
        found = _best_meeting(reader, matches, condition, k, wanted)
        # Fewer texts than wanted are all texts that have a word.
        if len(found) == k or len(matches.ids) < wanted:
            return found
    if allowed is not None and _is_looking_faster(reader, words, allowed, size):
        return best_of(*_matches(_look_into(reader, words, allowed, size), size), k)
    matches = _matches([_read(reader, word, size) for word in words], size)
    if allowed is not None:
        kept = np.isin(matches.ids, allowed)
        return best_of(matches.ids[kept], matches.scores[kept], k)
    # Without a condition, this finds out whether the nodes exist: see TextSize.is_exact.
    return _best_meeting(reader, matches, condition, k, len(matches.ids))


# Texts of the nodes that meet a condition


def _listed(reader: Reader, words: list[QueryWord], condition: Condition, k: int, size: TextSize) -> Ids | None:
    """Return the ids of the nodes that meet a condition; None if testing the best texts takes less time."""
    if condition is EVERY_NODE:
        return None
    allowed = reader.select_ids_within(condition, listing_budget(size.texts))
    if allowed is not None or condition.reads_all or not words:
        return allowed
    sample = reader.text_rows(match_all(words[0].terms), _TESTED_SAMPLE).ids.tolist()
    share = len(reader.select_matching(sample, condition)) / max(1, len(sample))
    # Testing k / share texts takes more time than listing a share of the nodes.
    return reader.select_ids(condition) if share**2 * size.texts < _LISTED_PER_TEST * k else None


def _is_looking_faster(reader: Reader, words: list[QueryWord], ids: Ids, size: TextSize) -> bool:
    """Return whether looking into the texts of nodes takes less time than reading the lists of words."""
    # Of very long words, the lists do not tell how often a text has them.
    if not size.is_exact or not all(word.is_exact and repeated(word.terms[0], 2) for word in words):
        return False
    rows = len(ids) * (_READ_PER_TEXT + _READ_PER_TOKEN * size.tokens / max(1, size.texts))
    # Counting takes a third of the time of reading.
    return rows < len(words) * size.texts and rows < sum(reader.count_texts(match_all(word.terms)) for word in words)


def _look_into(reader: Reader, words: list[QueryWord], ids: Ids, size: TextSize) -> list[_Word]:
    """Find words in the texts of nodes."""
    tokens = reader.tokens_of_texts(ids.tolist())
    rows = np.array([text_row(id_, len(text.split())) for id_, text in tokens.items()], dtype=np.int64)
    found: list[_Word] = []
    for word in words:
        times = np.array([occurrences(word.word, text) for text in tokens.values()], dtype=np.float64)
        weight = _weight(reader.count_texts(match_all(word.terms)), size)
        found.append(_Word(TextRows(rows[times > 0]), times[times > 0], weight))
    return found


# The best texts


def _read_best(reader: Reader, words: list[QueryWord], size: TextSize, wanted: int) -> list[_Word]:
    """Read texts with the words, among which are the ``wanted`` best.

    Rare words are read completely. Of frequent words, these texts are read:

    - Texts that have a rare word as well. They are all that is needed if no text without one is good enough.
    - Otherwise, the first texts of each list, for up to two words. Rarer ones of further words are read completely.
      A list has the shortest texts first, and of the texts that have the words equally often, the shortest are best.

    Not all words of each text may be found, but all words of the best texts are.
    """
    if len(words) > _MAX_WORDS_OF_BEST:
        return [_read(reader, word, size) for word in words]
    limit = max(_FIRST_TEXTS, wanted)
    read: dict[str, _Word] = {}
    frequent: list[_FrequentWord] = []
    for word in words:
        first = reader.text_rows(match_all(word.terms), limit if word.is_exact else None)
        if word.is_exact and len(first.rows) == limit:
            texts = reader.count_texts(match_all(word.terms))
            # The lists of a single word are not combined with others.
            repetitions = _repetitions(reader, word, wanted if len(words) == 1 else limit)
            frequent.append(_FrequentWord(word, [first.rows, *repetitions], texts))
        else:
            read[word.word] = _with_times(reader, word, first, size)
    frequent.sort(key=lambda each: each.texts)
    while not (are_worse := _are_worse(frequent, list(read.values()), size, wanted)) and len(frequent) > 2:
        rarest = frequent.pop(0).word
        read[rarest.word] = _read(reader, rarest, size)
    others = [word for word in words if word.word in read]
    if _have_many_texts([read[word.word] for word in others], than=frequent):
        return [read.get(word.word) or _read(reader, word, size) for word in words]
    pairs = _read_pairs(reader, frequent, limit) if len(frequent) == 2 and not are_worse else None
    for each in frequent:
        read[each.word.word] = _read_frequent(reader, each, others, pairs, limit, size)
    return [read[word.word] for word in words]


def _have_many_texts(others: list[_Word], than: list[_FrequentWord]) -> bool:
    """Return whether finding the texts with any of other words takes longer than reading those with frequent words."""
    # FTS5 looks at every list of the other words for each of their texts.
    effort = sum(len(word.times) for word in others) * (1 + len(others) / _LISTS_PER_ROW)
    return effort > _READ_PER_FOUND * min((each.texts for each in than), default=0)


def _are_worse(frequent: list[_FrequentWord], read: list[_Word], size: TextSize, wanted: int) -> bool:
    """Return whether texts that have only frequent words are worse than the ``wanted`` best that were read."""
    if len(frequent) < 2 or not read:
        return False
    scores = _matches(read, size).scores
    if len(scores) < wanted:
        return False
    highest = 0.0
    for each in frequent:
        shortest = TextRows(np.array([rows[0] for rows in each.rows]))
        times = np.arange(1, len(each.rows) + 1, dtype=np.float64)
        highest += _scores(_Word(shortest, times, _weight(each.texts, size)), size).max()
    return bool(highest * _ROUNDING < np.partition(scores, -wanted)[-wanted])


def _read_pairs(reader: Reader, frequent: list[_FrequentWord], limit: int) -> _Pairs:
    """Read texts that have two frequent words: the first of them, and all that have one of the words repeatedly."""
    terms = [each.word.terms[0] for each in frequent]
    twice = {
        each.word.word: _rows(reader, each.word, 2, match_all([other]))
        for each, other in zip(frequent, reversed(terms), strict=True)
    }
    return _Pairs(reader.text_rows(match_all(terms), limit).rows, twice)


def _read_frequent(
    reader: Reader, frequent: _FrequentWord, others: list[QueryWord], pairs: _Pairs | None, limit: int, size: TextSize
) -> _Word:
    """Read the first texts with a frequent word, and those that have any of the other words as well."""
    any_other = " OR ".join(f"({match_all(other.terms)})" for other in others)
    rows: list[Ids] = []
    for times, first in enumerate(frequent.rows, 1):
        is_cut = len(first) == limit
        further = _further_rows(reader, frequent.word, times, any_other, pairs) if is_cut else []
        rows.append(sorted_and_unique(np.concatenate([first, *further])))
    known = TextRows(sorted_and_unique(np.concatenate(rows)))
    return _Word(known, _times(known, rows[1:]), _weight(frequent.texts, size))


def _further_rows(reader: Reader, word: QueryWord, times: int, any_other: str, pairs: _Pairs | None) -> list[Ids]:
    """Return rows of texts that have a frequent word at least ``times`` times, beside the first of them."""
    if pairs is not None and times > 2:
        # Few texts have a word so often. Finding those that also have the other frequent word would take longer.
        return [_rows(reader, word, times)]
    found: list[Ids] = []
    if pairs is not None:
        found = [pairs.once, *pairs.twice.values()] if times == 1 else [pairs.twice[word.word]]
    if any_other:
        found.append(_rows(reader, word, times, any_other))
    return found


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


def _repetitions(reader: Reader, word: QueryWord, limit: int | None = None) -> list[Ids]:
    """Return the rows of the texts that have a word at least twice, three times, and so on."""
    found: list[Ids] = []
    while len(rows := _rows(reader, word, 2 + len(found), limit=limit)):
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
