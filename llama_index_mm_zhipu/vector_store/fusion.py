"""Fusion of a search by vector and a search by text into one ranking, which mode ``HYBRID`` returns.

Without a given ``alpha``, scores are fused with a weight that depends on the query. Reciprocal ranks throw away how
sure each side is: the best of ten pages by a vector without meaning counts as much as the only page that holds the
words of the question. docs/en/guides/retrieval.md shows measurements of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

IdT = TypeVar("IdT", int, str)
"""Type of the ids by which a store knows its nodes."""

RRF_CONSTANT = 60
"""Constant of reciprocal rank fusion, as in Cormack, Clarke and Büttcher 2009."""

_SURE_WORDS_SQUARED = 2.0
"""Square of the number of found words at which a part of the question counts half as much as the whole of it."""

_SHARE_OF_TEXT, _SHARE_BY_LEAD = 0.5, 0.3
"""Weight of the text if it holds the whole question, and what a clear lead over the second text adds to it."""

_CLEAR_LEAD = 0.5
_VECTOR_POWER, _TEXT_POWER = 2, 3
"""Powers of the two normalised scores: only the best few of each side compete with the best of the other."""


@dataclass(frozen=True)
class BestText:
    """How well the best text of a search matches the question.

    Attributes:
        words: Number of words of the question.
        found: How many of them the text has.
        lead: ``1 - second / first`` of the BM25 scores of the two best texts, 0 to 1; 1 if there is no second one.
    """

    words: int
    found: int
    lead: float

    @property
    def weight(self) -> float:
        """Share of the text in the fused score, 0 to 0.8.

        It is at least 0.5 if the text has all words of the question. Of long questions no text has all words; five or
        six found words count almost as much.
        """
        if not self.found:
            return 0.0
        share = self.found / self.words
        squared = self.found**2
        sure = 1 - (1 - share**2) * (1 - squared / (squared + _SURE_WORDS_SQUARED))
        return sure * (_SHARE_OF_TEXT + _SHARE_BY_LEAD * min(1.0, self.lead / _CLEAR_LEAD))


def fuse_scores(
    similarities: Mapping[IdT, float], mean: float, text_scores: Mapping[IdT, float], weight: float
) -> list[tuple[IdT, float]]:
    """Fuse by scores: ``(1 - weight) * v**2 + weight * t**3``.

    ``v`` is ``(similarity - mean) / (best similarity - mean)``, at least 0, and ``t`` is the BM25 score divided by the
    best one, 0 for a node whose text has none of the words.

    Args:
        similarities: Inner product of each candidate with the query's vector, for the best of both searches.
        mean: Mean of the inner products over the whole store.
        text_scores: BM25 scores by id, of candidates and maybe others.
        weight: Share of the text, 0 to 1.

    Returns:
        Ids and scores from 0 to 1, best first; the nearer by vector first among equal scores.
    """
    best = max(similarities.values(), default=0.0)
    # A filter may have left only nodes that are farther away than the mean of the store.
    mean = min(mean, sum(similarities.values()) / max(1, len(similarities)))
    best_text = max(text_scores.values(), default=0.0)

    def score(id_: IdT, similarity: float) -> float:
        by_vector = max(0.0, (similarity - mean) / (best - mean)) if best > mean else 1.0
        by_text = text_scores.get(id_, 0.0) / best_text if best_text > 0 else 0.0
        return float((1 - weight) * by_vector**_VECTOR_POWER + weight * by_text**_TEXT_POWER)

    scored = [(id_, score(id_, similarity), similarity) for id_, similarity in similarities.items()]
    return [(id_, value) for id_, value, _ in sorted(scored, key=lambda item: (-item[1], -item[2], item[0]))]


def fuse_ranks(rankings: Sequence[tuple[float, Sequence[IdT]]]) -> list[tuple[IdT, float]]:
    """Fuse rankings by reciprocal ranks: the score of an id is the sum of ``weight / (60 + rank)``, ranks from 1.

    Args:
        rankings: Weight and ids of each ranking, best first.

    Returns:
        Ids and scores, best first; lower ids first among equal scores.
    """
    scores: dict[IdT, float] = {}
    for weight, ids in rankings:
        for rank, id_ in enumerate(ids, start=1):
            scores[id_] = scores.get(id_, 0.0) + weight / (RRF_CONSTANT + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
