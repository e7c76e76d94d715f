"""What an index is asked, and which pictures it should find."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.images.nodes import caption_of


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
        TypeError: The pictures of a query are no list of ids.

    Examples:
        >>> questions = RetrievalDataset([RetrievalQuery("机油多久换一次？", ("manual/1",))])
    """

    queries: list[RetrievalQuery]

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        queries = [_checked(query) for query in self.queries]
        if not queries:
            raise ValueError("no queries: no picture has a caption, nor was a question given")
        object.__setattr__(self, "queries", queries)

    @classmethod
    def from_nodes(cls, nodes: Iterable[BaseNode], *, merge_equal_captions: bool = True) -> RetrievalDataset:
        """Take the captions of pictures for queries, a line each.

        Args:
            nodes: Picture nodes as readers yield them; they are not kept.
            merge_equal_captions: Make one query of captions that are the same, which any of their pictures answers.
                Otherwise each is a query of its own with one picture, as in the tables of Flickr30k-CN and COCO-CN.
        """
        queries: list[tuple[str, list[str]]] = []
        by_text: dict[str, list[str]] = {}
        for node in nodes:
            if not isinstance(node, BaseNode):
                raise TypeError(f"{node!r:.60} is no node; questions of your own are RetrievalDataset([…])")
            for text in filter(None, map(str.strip, caption_of(node).split("\n"))):
                if merge_equal_captions and text in by_text:
                    by_text[text].append(node.node_id)
                else:
                    by_text[text] = [node.node_id]
                    queries.append((text, by_text[text]))
        return cls([RetrievalQuery(text, tuple(image_ids)) for text, image_ids in queries])

    @classmethod
    def from_texts(cls, texts: Iterable[tuple[Any, ...]]) -> RetrievalDataset:
        """Take the texts of a data set that names the pictures of each, as MUGE and Chinese-CLIP's form do.

        Args:
            texts: Text, ids of its pictures and whatever else, as ``reader.load_texts(…)`` gives them; those without
                pictures are left out.
        """
        return cls([RetrievalQuery(text, tuple(image_ids)) for text, image_ids, *_ in texts if image_ids])

    def restricted_to(self, image_ids: Collection[str]) -> RetrievalDataset:
        """Return the queries with those of their pictures that are given; queries without any are left out."""
        kept = [(text, [each for each in wanted if each in image_ids]) for text, wanted in self.queries]
        return self.from_texts(kept)

    def texts_by_picture(self) -> dict[str, list[int]]:
        """Return the positions of each picture's texts in ``queries``, by node id."""
        found: dict[str, list[int]] = {}
        for position, query in enumerate(self.queries):
            for image_id in query.image_ids:
                found.setdefault(image_id, []).append(position)
        return found


def _checked(query: tuple[Any, ...]) -> RetrievalQuery:
    if not isinstance(query, tuple) or len(query) != 2 or not isinstance(query[0], str):
        raise TypeError(f"{query!r:.60} is no text with a tuple of node ids")
    text, image_ids = query
    if isinstance(image_ids, str | int):
        raise TypeError(f"the pictures of {text!r:.60} are {image_ids!r:.40}; give a tuple of node ids")
    if not image_ids:
        raise ValueError(f"the query {text!r:.60} has no picture that answers it")
    return RetrievalQuery(text, tuple(dict.fromkeys(map(str, image_ids))))
