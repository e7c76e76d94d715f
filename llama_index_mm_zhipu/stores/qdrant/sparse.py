"""Full text as sparse vectors, for stores that search these: their inner products are BM25 scores.

A document's vector holds the BM25 weight of each token, a query's vector holds 1 for each word, and the store
multiplies by the inverse document frequency (IDF). The store needs to know neither Chinese nor the average length of
the texts.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

from llama_index_mm_zhipu.text import CJK_RANGES

AVERAGE_LENGTH = 128
"""Length in tokens that BM25 takes for the average. Stores hold weights computed with it: it cannot be changed."""

# The constants of SQLite's FTS5, so that the embedded store ranks alike.
_K1, _B = 1.2, 0.75

_PART = re.compile(rf"\d+|[^\W\d_{CJK_RANGES}]+")
"""What ``fulltext.words_of_query`` splits words into."""


class SparseWeights(NamedTuple):
    """A sparse vector.

    Attributes:
        indices: Different numbers of 32 bits, one a term.
        values: Weight of each term.
    """

    indices: list[int]
    values: list[float]


def weights_of_tokens(tokens: str) -> SparseWeights:
    """Return the BM25 weights of a text, without IDF.

    Args:
        tokens: ``fulltext.tokens_of`` the text.

    Examples:
        >>> weights_of_tokens("红 色 红色").values == weights_of_tokens("红 色 红色").values
        True
        >>> weights_of_tokens("")
        SparseWeights(indices=[], values=[])
    """
    single = tokens.split()
    shortness = _K1 * (1 - _B + _B * len(single) / AVERAGE_LENGTH)
    counts = Counter(single)
    # Queries look for the parts of a word in order: "iphone 15" for iphone15.
    counts.update(f"{one} {next_}" for one, next_ in pairwise(single) if _is_part(one) and _is_part(next_))
    return _summed((term, count * (_K1 + 1) / (count + shortness)) for term, count in counts.items())


def weights_of_words(words: Sequence[str]) -> SparseWeights:
    """Return the weights of a query: 1 for each of ``fulltext.words_of_query``.

    A word of more than two parts is looked for by its pairs of neighbours, which share its weight. A text may hold the
    pairs but not the word: ``fulltext.count_words`` tells.
    """
    weights: list[tuple[str, float]] = []
    for word in words:
        pairs = [" ".join(pair) for pair in pairwise(word.split(" "))] or [word]
        weights += [(pair, 1 / len(pairs)) for pair in pairs]
    return _summed(weights)


def _summed(weights: Iterable[tuple[str, float]]) -> SparseWeights:
    """Return a sparse vector; terms with the same index are added up."""
    by_index: defaultdict[int, float] = defaultdict(float)
    for term, weight in weights:
        by_index[_index_of(term)] += weight
    return SparseWeights(list(by_index), list(by_index.values()))


@lru_cache(maxsize=1 << 16)
def _index_of(term: str) -> int:
    """Return a number of 32 bits for a term; Python's ``hash`` differs from process to process."""
    return int.from_bytes(blake2b(term.encode(errors="replace"), digest_size=4).digest(), "little")


@lru_cache(maxsize=1 << 16)
def _is_part(token: str) -> bool:
    return _PART.fullmatch(token) is not None
