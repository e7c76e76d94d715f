"""What an index is asked, and which images it should find."""

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
    """A text and the images that answer it.

    Attributes:
        text: What is asked.
        image_ids: Node ids of its images, one or several.
    """

    text: str
    image_ids: tuple[str, ...]


@dataclass(frozen=True)
class RetrievalDataset:
    """Queries with their images: your own, or the captions of a data set.

    Attributes:
        queries: At least one.

    Raises:
        ValueError: There is no query, or one without an image.
        TypeError: The images of a query are no list of ids.

    Examples:
        >>> questions = RetrievalDataset([RetrievalQuery("机油多久换一次？", ("manual/1",))])
    """

    queries: list[RetrievalQuery]

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        queries = [_checked(query) for query in self.queries]
        if not queries:
            raise ValueError("no queries: no image has a caption, nor was a question given")
        object.__setattr__(self, "queries", queries)

    @classmethod
    def from_nodes(cls, nodes: Iterable[BaseNode], *, merge_equal_captions: bool = True) -> RetrievalDataset:
        """Take the captions of images for queries, a line each.

        Args:
            nodes: Image nodes as readers yield them; they are not kept.
            merge_equal_captions: Make one query of captions that are the same, which any of their images answers.
                Otherwise each is a query of its own with one image, as in the tables of Flickr30k-CN and COCO-CN.
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
        """Take the texts of a data set that names the images of each, as MUGE and Chinese-CLIP's form do.

        Args:
            texts: Text, ids of its images and whatever else, as ``reader.load_texts(…)`` gives them; those without
                images are left out.
        """
        return cls([RetrievalQuery(text, tuple(image_ids)) for text, image_ids, *_ in texts if image_ids])

    def restricted_to(self, image_ids: Collection[str]) -> RetrievalDataset:
        """Return the queries with those of their images that are given; queries without any are left out."""
        kept = [(text, [each for each in wanted if each in image_ids]) for text, wanted in self.queries]
        return self.from_texts(kept)

    def texts_by_image(self) -> dict[str, list[int]]:
        """Return the positions of each image's texts in ``queries``, by node id."""
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
        raise TypeError(f"the images of {text!r:.60} are {image_ids!r:.40}; give a tuple of node ids")
    if not image_ids:
        raise ValueError(f"the query {text!r:.60} has no image that answers it")
    return RetrievalQuery(text, tuple(dict.fromkeys(map(str, image_ids))))


class PublishedRecall(NamedTuple):
    """Recall at 1, 5 and 10, in percent.

    Attributes:
        text_to_image: Texts asked, images found.
        image_to_text: Images asked, texts found; None where it was not published.
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
"""By data set and model: MUGE's validation split, the test splits of the others."""


@dataclass(frozen=True)
class Form:
    """A form of data sets.

    Attributes:
        described: In words.
        reader: Makes its reader.
        split: The one that is measured by default; None where there are none.
        has_images_elsewhere: Whether the folder of images is another one.
        merge_equal_captions: As in ``RetrievalDataset.from_nodes``.
        more: Further arguments of ``load_data``.
    """

    described: str
    reader: Callable[..., ImageReader]
    split: str | None = None
    has_images_elsewhere: bool = False
    merge_equal_captions: bool = True
    more: tuple[str, ...] = ()

    def read(self, path: Path, images: Path | None, split: str | None, on_error: OnError) -> Iterator[ImageNode]:
        """Yield the images of a data set."""
        return self.reader(on_error=on_error).lazy_load_data(*self._arguments(path, images, split))

    def queries(self, path: Path, images: Path | None, split: str | None, on_error: OnError) -> RetrievalDataset:
        """Return what is asked of a data set: its texts where it lists them, else the captions of its images."""
        reader = self.reader(on_error=on_error)
        if isinstance(reader, TsvReader):
            return RetrievalDataset.from_texts(reader.load_texts(*self._arguments(path, images, split)))
        nodes = self.read(path, images, split, on_error)
        return RetrievalDataset.from_nodes(nodes, merge_equal_captions=self.merge_equal_captions)

    def _arguments(self, path: Path, images: Path | None, split: str | None) -> list[Any]:
        optional = [images if self.has_images_elsewhere else None, split]
        return [path, *(each for each in optional if each is not None), *self.more]


FORMS = {
    "muge": Form("MUGE's retrieval task", MugeRetrievalReader, "valid"),
    "flickr30k-cn": Form(
        "Flickr30k-CN", Flickr30kCnReader, "test", has_images_elsewhere=True, merge_equal_captions=False
    ),
    "coco-cn": Form("COCO-CN", CocoCnReader, "test", has_images_elsewhere=True, merge_equal_captions=False),
    "flickr8k-cn": Form("Flickr8k-CN", Flickr8kCnReader, "test", has_images_elsewhere=True),
    "chinese-clip": Form("a folder in the form of Chinese-CLIP's scripts", ChineseClipReader, "test"),
    "jsonl": Form("lines of image_id, image_base64, caption", JsonlReader),
    "folder": Form("images with captions beside them", FolderReader, more=("sidecar",)),
}
"""By the name that the command takes."""


def form_of(name: str, path: Path) -> Form:
    """Return the form of a data set: MUGE, Flickr30k-CN and COCO-CN are published in that of Chinese-CLIP, too."""
    if name in PUBLISHED and any(path.glob("*_texts.jsonl")):
        return Form(FORMS[name].described, ChineseClipReader, FORMS[name].split)
    return FORMS[name]
