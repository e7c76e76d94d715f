"""Figures of a retrieval evaluation, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RECALL_AT = (1, 5, 10)
"""The depths of the Chinese-CLIP tables."""

_TITLES = ("R@1", "R@5", "R@10", "mean recall", "MRR@10")


@dataclass(frozen=True)
class DirectionScores:
    """Figures of one direction, 0 to 1.

    Attributes:
        recall: Share of queries with any true match among the first 1, 5 and 10 results, by depth.
        mrr: Mean of 1 / rank of the first true match; 0 for one that is not among the first 10.
        count: How many queries there were.
    """

    recall: dict[int, float]
    mrr: float
    count: int

    @property
    def mean_recall(self) -> float:
        """Mean of the three recalls, MR in the Chinese-CLIP tables."""
        return sum(self.recall.values()) / len(self.recall)

    @classmethod
    def of_ranks(cls, ranks: Sequence[int | None]) -> DirectionScores:
        """Make the figures of the ranks of first true matches, from 1; None is for one that was not found."""
        found = [rank for rank in ranks if rank is not None and rank <= max(RECALL_AT)]
        recall = {depth: sum(rank <= depth for rank in found) / len(ranks) for depth in RECALL_AT}
        return cls(recall, sum(1 / rank for rank in found) / len(ranks), len(ranks))


@dataclass(frozen=True)
class RetrievalReport:
    """Figures of both directions; printed, a table in percent.

    Attributes:
        text_to_image: Texts asked, pictures found.
        image_to_text: Pictures asked, texts found.
        captions_in_vectors: Whether the pictures' vectors hold their captions: captions that ask for their own
            pictures then say nothing of other questions.
    """

    text_to_image: DirectionScores
    image_to_text: DirectionScores
    captions_in_vectors: bool = False

    def __str__(self) -> str:
        """Return a table."""
        return table_of(self.rows())

    def rows(self) -> list[tuple[str, list[float]]]:
        """Return the table's rows: what was asked, and its figures, 0 to 1."""
        return [
            (f"{self.text_to_image.count:,} texts → pictures", _figures(self.text_to_image)),
            (f"{self.image_to_text.count:,} pictures → texts", _figures(self.image_to_text)),
        ]


def table_of(rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Lay out rows of figures in percent under the titles of the columns; last ones may be missing from a row."""
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{title:>13}" for title in _TITLES)]
    lines += [f"{name:<{width}}" + "".join(f"{100 * figure:13.1f}" for figure in figures) for name, figures in rows]
    return "\n".join(lines)


def _figures(scores: DirectionScores) -> list[float]:
    return [*scores.recall.values(), scores.mean_recall, scores.mrr]
