"""What an index is asked, and which pictures it should find."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.picture_nodes import caption_of


class RetrievalQuery(NamedTuple):
    """A text and the pictures that answer it.

    Attributes:
        text: What is asked.
        image_ids: Node ids of its pictures, one or several.
    """

    text: str
    image_ids: tuple[str, ...]


@dataclass(frozen=True)
class RetrievalDataset:
    """Queries with their pictures: your own, or the captions of a data set.

    Attributes:
        queries: At least one.

    Raises:
        ValueError: There is no query, or one without a picture.

    Examples:
        >>> questions = RetrievalDataset([RetrievalQuery("机油多久换一次？", ("manual/1",))])
    """

    queries: list[RetrievalQuery]

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        if not self.queries:
            raise ValueError("no queries: no picture has a caption, nor was a question given")
        if empty := [query.text for query in self.queries if not query.image_ids]:
            raise ValueError(f"{len(empty)} queries have no picture that answers them, such as {empty[0]!r:.60}")

    @classmethod
    def from_nodes(cls, nodes: Iterable[BaseNode], *, merge_equal_captions: bool = True) -> RetrievalDataset:
        """Take the captions of pictures for queries, a line each.

        Args:
            nodes: Picture nodes as readers yield them; they are not kept.
            merge_equal_captions: Make one query of captions that are the same, which any of their pictures answers, as
                in MUGE. Otherwise each is a query of its own with one picture, as in the tables of Flickr30k-CN and
                COCO-CN.
        """
        queries: list[tuple[str, list[str]]] = []
        by_text: dict[str, list[str]] = {}
        for node in nodes:
            for text in filter(None, map(str.strip, caption_of(node).split("\n"))):
                if merge_equal_captions and text in by_text:
                    by_text[text].append(node.node_id)
                else:
                    by_text[text] = [node.node_id]
                    queries.append((text, by_text[text]))
        return cls([RetrievalQuery(text, tuple(dict.fromkeys(image_ids))) for text, image_ids in queries])

    def texts_by_picture(self) -> dict[str, list[int]]:
        """Return the positions of each picture's texts in ``queries``, by node id."""
        found: dict[str, list[int]] = {}
        for position, query in enumerate(self.queries):
            for image_id in query.image_ids:
                found.setdefault(image_id, []).append(position)
        return found
