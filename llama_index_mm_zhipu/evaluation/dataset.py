"""Evaluation data: queries with the ids of their images, formats of data sets, and published results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llama_index.core.schema import BaseNode, ImageNode

from llama_index_mm_zhipu.images import caption_of
from llama_index_mm_zhipu.readers import (
    ChineseClipReader,
    CocoCnReader,
    Flickr8kCnReader,
    Flickr30kCnReader,
    FolderReader,
    ImageReader,
    JsonlReader,
    MugeRetrievalReader,
)
from llama_index_mm_zhipu.readers.tsv_datasets import TsvReader
from llama_index_mm_zhipu.types import OnError


class RetrievalQuery(NamedTuple):
    """A text and the images that it should find.

    Attributes:
        text: The query.
        image_ids: Node ids of the images; at least one.

    Examples:
        >>> from llama_index_mm_zhipu.evaluation import RetrievalQuery
        >>> RetrievalQuery("机油多久换一次？", ("manual/1", "manual/2"))
        RetrievalQuery(text='机油多久换一次？', image_ids=('manual/1', 'manual/2'))
    """

    text: str
    image_ids: tuple[str, ...]


@dataclass(frozen=True)
class RetrievalDataset:
    """Queries with the ids of their images: your own questions, or the captions of a data set.

    Attributes:
        queries: The queries; at least one.

    Raises:
        ValueError: There is no query, or a query has no image.
        TypeError: A query is not a text with a tuple of node ids.

    Examples:
        >>> from llama_index_mm_zhipu.evaluation import RetrievalDataset, RetrievalQuery
        >>> questions = RetrievalDataset([RetrievalQuery("红苹果", (nodes[0].node_id,))])
        >>> evaluate_retrieval(build_index("images", embed_model), questions).text_to_image.recall
        {1: 1.0, 5: 1.0, 10: 1.0}
    """

    queries: list[RetrievalQuery]

    def __post_init__(self) -> None:
        """Check and normalise the queries."""
        queries = [_checked(query) for query in self.queries]
        if not queries:
            raise ValueError("no queries: no image has a caption, and no question was given")
        object.__setattr__(self, "queries", queries)

    @classmethod
    def from_nodes(cls, nodes: Iterable[BaseNode], *, merge_equal_captions: bool = True) -> RetrievalDataset:
        """Return a data set whose queries are the captions of images, one query per line.

        Args:
            nodes: Image nodes of a reader; they are read once and not kept.
            merge_equal_captions: Whether equal captions become one query that has all of their images. Otherwise each
                caption is a query with one image, as in the published tables of Flickr30k-CN and COCO-CN.

        Examples:
            >>> from llama_index_mm_zhipu.evaluation import RetrievalDataset
            >>> dataset = RetrievalDataset.from_nodes(nodes)
            >>> [query.text for query in dataset.queries][:3]
            ['红苹果', '汽车', '猫']
        """
        queries: list[tuple[str, list[str]]] = []
        by_text: dict[str, list[str]] = {}
        for node in nodes:
            if not isinstance(node, BaseNode):
                raise TypeError(f"{node!r:.60} is not a node; for your own questions use RetrievalDataset([…])")
            for text in filter(None, map(str.strip, caption_of(node).split("\n"))):
                if merge_equal_captions and text in by_text:
                    by_text[text].append(node.node_id)
                else:
                    by_text[text] = [node.node_id]
                    queries.append((text, by_text[text]))
        return cls([RetrievalQuery(text, tuple(image_ids)) for text, image_ids in queries])

    @classmethod
    def from_texts(cls, texts: Iterable[tuple[Any, ...]]) -> RetrievalDataset:
        """Return a data set of texts that have image ids of their own, as in MUGE and in Chinese-CLIP's format.

        Args:
            texts: Tuples of a text, the ids of its images and further values, as ``reader.load_texts(…)`` returns them.
                Texts without images are left out.

        Examples:
            >>> from llama_index_mm_zhipu.evaluation import RetrievalDataset
            >>> RetrievalDataset.from_texts([("红苹果", ["1", "2"]), ("没有图片", [])]).queries
            [RetrievalQuery(text='红苹果', image_ids=('1', '2'))]
        """
        return cls([RetrievalQuery(text, tuple(image_ids)) for text, image_ids, *_ in texts if image_ids])

    def restricted_to(self, image_ids: Collection[str]) -> RetrievalDataset:
        """Return the queries with only the given images. Queries that have none of them are left out.

        Examples:
            >>> from llama_index_mm_zhipu.evaluation import RetrievalDataset
            >>> dataset = RetrievalDataset.from_texts([("苹果", ["1", "2"]), ("帆船", ["3"])])
            >>> dataset.restricted_to({"1"}).queries
            [RetrievalQuery(text='苹果', image_ids=('1',))]
        """
        kept = [(text, [each for each in wanted if each in image_ids]) for text, wanted in self.queries]
        return self.from_texts(kept)

    def texts_by_image(self) -> dict[str, list[int]]:
        """Return by node id the indexes of an image's queries in ``queries``.

        Examples:
            >>> from llama_index_mm_zhipu.evaluation import RetrievalDataset
            >>> dataset = RetrievalDataset.from_texts([("苹果", ["1", "2"]), ("红苹果", ["1"])])
            >>> dataset.texts_by_image()
            {'1': [0, 1], '2': [0]}
        """
        found: dict[str, list[int]] = {}
        for index, query in enumerate(self.queries):
            for image_id in query.image_ids:
                found.setdefault(image_id, []).append(index)
        return found


def _checked(query: tuple[Any, ...]) -> RetrievalQuery:
    if not isinstance(query, tuple) or len(query) != 2 or not isinstance(query[0], str):
        raise TypeError(f"{query!r:.60} is not a text with a tuple of node ids")
    text, image_ids = query
    if isinstance(image_ids, str | int):
        raise TypeError(f"the images of {text!r:.60} are {image_ids!r:.40}; give a tuple of node ids")
    if not image_ids:
        raise ValueError(f"the query {text!r:.60} has no image")
    return RetrievalQuery(text, tuple(dict.fromkeys(map(str, image_ids))))


class PublishedRecall(NamedTuple):
    """Published recall at 1, 5 and 10, in percent.

    Attributes:
        text_to_image: Recall of images by text.
        image_to_text: Recall of texts by image; None if it was not published.

    Examples:
        >>> from llama_index_mm_zhipu.evaluation import PUBLISHED
        >>> PUBLISHED["flickr30k-cn"]["ViT-L-14"]
        PublishedRecall(text_to_image=(68.0, 89.7, 94.4), image_to_text=(80.2, 96.6, 98.2))
    """

    text_to_image: tuple[float, float, float]
    image_to_text: tuple[float, float, float] | None = None


PUBLISHED: dict[str, dict[str, PublishedRecall]] = {
    "muge": {
        "RN50": PublishedRecall((42.6, 68.6, 77.9)),
        "ViT-B-16": PublishedRecall((52.1, 76.7, 84.4)),
        "ViT-L-14": PublishedRecall((56.3, 79.8, 86.2)),
        "ViT-L-14-336": PublishedRecall((59.0, 81.4, 87.8)),
        "ViT-H-14": PublishedRecall((63.0, 84.1, 89.2)),
    },
    "flickr30k-cn": {
        "RN50": PublishedRecall((48.8, 76.0, 84.6), (60.0, 85.9, 92.0)),
        "ViT-B-16": PublishedRecall((62.7, 86.9, 92.8), (74.6, 93.5, 97.1)),
        "ViT-L-14": PublishedRecall((68.0, 89.7, 94.4), (80.2, 96.6, 98.2)),
        "ViT-L-14-336": PublishedRecall((69.0, 90.7, 95.4), (83.3, 97.2, 98.5)),
        "ViT-H-14": PublishedRecall((71.2, 91.4, 95.5), (81.6, 97.5, 98.8)),
    },
    "coco-cn": {
        "RN50": PublishedRecall((48.1, 81.3, 90.5), (51.6, 81.2, 90.5)),
        "ViT-B-16": PublishedRecall((62.2, 86.6, 94.9), (57.0, 84.1, 93.6)),
        "ViT-L-14": PublishedRecall((64.0, 89.2, 94.4), (60.4, 84.2, 92.9)),
        "ViT-L-14-336": PublishedRecall((64.7, 89.6, 94.6), (63.4, 87.2, 94.4)),
        "ViT-H-14": PublishedRecall((69.2, 89.9, 96.1), (63.0, 86.6, 92.9)),
    },
}
"""Results of Chinese-CLIP without fine-tuning, by data set and model, on the validation split of MUGE and the test
splits of the others, from the authors' table: https://github.com/OFA-Sys/Chinese-CLIP/blob/master/Results.md.

Examples:
    >>> from llama_index_mm_zhipu.evaluation import PUBLISHED
    >>> recall = PUBLISHED["muge"]["ViT-H-14"].text_to_image
    >>> f"{sum(recall) / 3:.1f}"
    '78.8'
"""


@dataclass(frozen=True)
class DatasetFormat:
    """A format in which data sets are published.

    Attributes:
        described: Description for the help of the command.
        reader: Class of the reader.
        split: Default split; None if the format has no splits.
        has_separate_images: Whether the images are in a folder of their own, which has to be given.
        merge_equal_captions: As in ``RetrievalDataset.from_nodes``.
        more: Further arguments of the reader's ``load_data``.
    """

    described: str
    reader: Callable[..., ImageReader]
    split: str | None = None
    has_separate_images: bool = False
    merge_equal_captions: bool = True
    more: tuple[str, ...] = ()

    def read(self, path: Path, images: Path | None, split: str | None, on_error: OnError) -> Iterator[ImageNode]:
        """Yield the images of a data set."""
        return self.reader(on_error=on_error).lazy_load_data(*self._arguments(path, images, split))

    def queries(self, path: Path, images: Path | None, split: str | None, on_error: OnError) -> RetrievalDataset:
        """Return the queries of a data set: its list of texts if it has one, otherwise the captions of its images."""
        reader = self.reader(on_error=on_error)
        if isinstance(reader, TsvReader):
            return RetrievalDataset.from_texts(reader.load_texts(*self._arguments(path, images, split)))
        nodes = self.read(path, images, split, on_error)
        return RetrievalDataset.from_nodes(nodes, merge_equal_captions=self.merge_equal_captions)

    def _arguments(self, path: Path, images: Path | None, split: str | None) -> list[Any]:
        optional = [images if self.has_separate_images else None, split]
        return [path, *(each for each in optional if each is not None), *self.more]


FORMATS = {
    "muge": DatasetFormat("MUGE's retrieval task", MugeRetrievalReader, "valid"),
    "flickr30k-cn": DatasetFormat(
        "Flickr30k-CN", Flickr30kCnReader, "test", has_separate_images=True, merge_equal_captions=False
    ),
    "coco-cn": DatasetFormat("COCO-CN", CocoCnReader, "test", has_separate_images=True, merge_equal_captions=False),
    "flickr8k-cn": DatasetFormat("Flickr8k-CN", Flickr8kCnReader, "test", has_separate_images=True),
    "chinese-clip": DatasetFormat("a folder in the format of Chinese-CLIP's scripts", ChineseClipReader, "test"),
    "jsonl": DatasetFormat("lines of image_id, image_base64, caption", JsonlReader),
    "folder": DatasetFormat("images with captions beside them", FolderReader, more=("sidecar",)),
}
"""Formats by the name that the command accepts."""


def format_of(name: str, path: Path) -> DatasetFormat:
    """Return the format of a data set.

    MUGE, Flickr30k-CN and COCO-CN are also published in the format of Chinese-CLIP, which is recognised by its files.
    """
    if name in PUBLISHED and any(path.glob("*_texts.jsonl")):
        return DatasetFormat(FORMATS[name].described, ChineseClipReader, FORMATS[name].split)
    return FORMATS[name]
