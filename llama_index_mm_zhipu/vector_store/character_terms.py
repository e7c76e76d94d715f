"""Full-text terms of characters and pairs of many texts at once, by arrays of their code points.

A loop over the characters of a text takes longer than SQLite takes to write its terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import add
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_CODE_BITS = 21
_ENCODING, _CODE = "utf-32-le", "<u4"

_Codes = npt.NDArray[np.uint32]
_Numbers = npt.NDArray[np.int64]


class CharacterTerms(NamedTuple):
    """Terms of the characters and pairs of texts.

    Attributes:
        counts: Number of characters and pairs of each text.
        terms: The characters and pairs of each text, separated by spaces.
        repetitions: For each of them that a text has n times, the terms with the numbers 2 to n, separated by spaces.
    """

    counts: list[int]
    terms: list[str]
    repetitions: list[str]


def character_terms(texts: Sequence[Sequence[str]], mark: str) -> CharacterTerms:
    """Return the terms of texts.

    Args:
        texts: The runs of each text, of at most 2**20 texts; two neighbours in a run are a pair.
        mark: What separates a repeated term from its number.
    """
    runs = [run for runs in texts for run in runs]
    codes = np.frombuffer("".join(runs).encode(_ENCODING, "surrogatepass"), _CODE)
    run_of = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
    text_of = np.repeat(np.arange(len(texts)), [len(runs) for runs in texts])[run_of]
    left = np.flatnonzero(run_of[1:] == run_of[:-1])
    singles, pairs = (np.bincount(each, minlength=len(texts)) for each in (text_of, text_of[left]))

    # Each text takes two places for a character and three for a pair, with the spaces behind them.
    sizes = 2 * singles + 3 * pairs
    starts = np.cumsum(sizes) - sizes
    written = np.full(sizes.sum(), ord(" "), _CODE)
    written[2 * np.arange(len(codes)) + (starts - 2 * _before(singles))[text_of]] = codes
    places = 3 * np.arange(len(left)) + (starts + 2 * singles - 3 * _before(pairs))[text_of[left]]
    written[places], written[places + 1] = codes[left], codes[left + 1]
    all_terms = _decoded(written)
    terms = [
        all_terms[start:end].rstrip() for start, end in zip(starts.tolist(), (starts + sizes).tolist(), strict=True)
    ]
    return CharacterTerms((singles + pairs).tolist(), terms, _repetitions(codes, text_of, left, len(texts), mark))


def _repetitions(codes: _Codes, text_of: _Numbers, left: _Numbers, texts: int, mark: str) -> list[str]:
    """Return the repeated terms of each text.

    Args:
        codes: All characters.
        text_of: The number of the text of each.
        left: Positions of the first characters of pairs.
        texts: Number of texts.
        mark: As in ``character_terms``.
    """
    keys = text_of << _CODE_BITS | codes
    earlier, is_repeated = _occurrences(keys)
    again = np.flatnonzero(earlier)
    # A pair that is repeated consists of characters that are.
    left = left[is_repeated[left] & is_repeated[left + 1]]
    earlier_pairs, _ = _occurrences(keys[left] << _CODE_BITS | codes[left + 1])
    left, earlier_pairs = left[earlier_pairs > 0], earlier_pairs[earlier_pairs > 0]
    terms = _numbered(_decoded(codes[again]), earlier[again], mark)
    terms += _numbered(map(add, _decoded(codes[left]), _decoded(codes[left + 1])), earlier_pairs, mark)

    # The characters of a text come before its pairs.
    text_of_term = np.append(text_of[again], text_of[left])
    in_order = [terms[position] for position in np.argsort(text_of_term, kind="stable").tolist()]
    counts = np.bincount(text_of_term, minlength=texts)
    starts = _before(counts)
    return [
        " ".join(in_order[start:end]) for start, end in zip(starts.tolist(), (starts + counts).tolist(), strict=True)
    ]


def _numbered(terms: Iterable[str], earlier: _Numbers, mark: str) -> list[str]:
    return [f"{term}{mark}{number}" for term, number in zip(terms, (earlier + 1).tolist(), strict=True)]


def _occurrences(keys: _Numbers) -> tuple[_Numbers, npt.NDArray[np.bool_]]:
    """Return how many equal keys precede each key, and whether there is an equal one at all."""
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    is_first = np.append(True, in_order[1:] != in_order[:-1])[: len(keys)]
    is_last = np.append(is_first[1:], True)[: len(keys)]
    numbers = np.arange(len(keys))
    earlier, is_repeated = np.empty(len(keys), np.int64), np.empty(len(keys), np.bool_)
    earlier[order] = numbers - np.maximum.accumulate(np.where(is_first, numbers, 0))
    is_repeated[order] = ~(is_first & is_last)
    return earlier, is_repeated


def _before(counts: _Numbers) -> _Numbers:
    """Return the sum of the counts before each."""
    return np.cumsum(counts) - counts


def _decoded(codes: _Codes) -> str:
    return codes.tobytes().decode(_ENCODING, "surrogatepass")
