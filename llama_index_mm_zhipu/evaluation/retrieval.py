"""``evaluate_retrieval``: recall and reciprocal ranks of an index, from texts to images and back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from llama_index.core.schema import BaseNode, ImageNode
from llama_index.core.utils import iter_batch
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from tqdm.auto import tqdm

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.evaluation.dataset import RetrievalDataset
from llama_index_mm_zhipu.images import as_image_node, has_image
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.update import ImageMatcher

logger = logging.getLogger(__name__)

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
        text_to_image: Texts asked, images found.
        image_to_text: Images asked, texts found.
        captions_in_vectors: Whether the images' vectors hold their captions: captions that ask for their own
            images then say nothing of other questions.
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
            (f"{self.text_to_image.count:,} texts → images", _figures(self.text_to_image)),
            (f"{self.image_to_text.count:,} images → texts", _figures(self.image_to_text)),
        ]


def table_of(rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Lay out rows of figures in percent under the titles of the columns; last ones may be missing from a row."""
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{title:>13}" for title in _TITLES)]
    lines += [f"{name:<{width}}" + "".join(f"{100 * figure:13.1f}" for figure in figures) for name, figures in rows]
    return "\n".join(lines)


def _figures(scores: DirectionScores) -> list[float]:
    return [*scores.recall.values(), scores.mean_recall, scores.mrr]


Vectors: TypeAlias = "npt.NDArray[np.float32]"
Ranks: TypeAlias = list[int | None]

# Texts embedded at a time, and images compared with all texts at a time: a matrix of 256 MB for 250,000 texts.
_TEXTS_AT_A_TIME = 1_024
_IMAGES_AT_A_TIME = 256


@explicit_arguments
def evaluate_retrieval(
    index: ImageIndex,
    dataset: RetrievalDataset | Iterable[BaseNode],
    *,
    vector_store_query_mode: VectorStoreQueryMode | str = VectorStoreQueryMode.DEFAULT,
    show_progress: bool = False,
) -> RetrievalReport:
    """Ask an index for the images of texts, and compare its images with the texts.

    A text finds images through the store, as users' queries do, among all that the index holds. An image finds texts
    among those of the data set by its stored vector. A hit is any true match among the first results.

    Args:
        index: What ``build_index`` or ``load_index`` returned.
        dataset: Queries with the ids of their images, or image nodes whose captions are the queries
            (``RetrievalDataset.from_nodes``), such as ``reader.lazy_load_data(…)``.
        vector_store_query_mode: How texts ask: ``"default"``, by vector, as in the Chinese-CLIP tables; ``"hybrid"``
            and ``"text_search"`` find captions by their words, too, and are for other questions than these captions.
        show_progress: Show progress bars.

    Returns:
        Recall at 1, 5 and 10, their mean and the mean reciprocal rank, both ways; printed, a table. Images that the
        index lacks are not found, and are counted in a warning.

    Raises:
        ValueError: There is nothing to ask, or the index holds none of the images.
    """
    if not isinstance(dataset, RetrievalDataset):
        dataset = RetrievalDataset.from_nodes(_as_stored(index, dataset))
    texts_by_image = dataset.texts_by_image()
    stored_ids, images = index.image_store.get_vectors(list(texts_by_image))
    _require_images(stored_ids, texts_by_image)
    captions_in_vectors = bool(index.caption_weight)
    if captions_in_vectors:
        logger.warning(
            "the images' vectors hold their captions: these find them, and that says nothing of other questions; "
            "evaluate an index built with caption_weight=0"
        )
    # Each text once: equal ones then have equal scores, whatever batches they would have been in.
    rows = {text: row for row, text in enumerate(dict.fromkeys(query.text for query in dataset.queries))}
    places = np.array([rows[query.text] for query in dataset.queries], dtype=np.intp)
    texts = _text_vectors(index, list(rows), show_progress)
    mode = VectorStoreQueryMode(vector_store_query_mode)
    ranks_of_images: Ranks = list(_ranks_of_images(index, dataset, texts[places], mode, show_progress))
    ranks_of_texts: Ranks = list(_ranks_of_texts(images, texts, places, [texts_by_image[id_] for id_ in stored_ids]))
    ranks_of_texts += [None] * (len(texts_by_image) - len(stored_ids))
    return RetrievalReport(
        text_to_image=DirectionScores.of_ranks(ranks_of_images),
        image_to_text=DirectionScores.of_ranks(ranks_of_texts),
        captions_in_vectors=captions_in_vectors,
    )


def _as_stored(index: ImageIndex, nodes: Iterable[BaseNode]) -> Iterator[BaseNode]:
    """Yield nodes with the ids that their images have in the index, which keeps ids where a folder was moved."""
    matcher = ImageMatcher(index.image_store)
    for batch in iter_batch(nodes, _IMAGES_AT_A_TIME):
        images = [as_image_node(node) if isinstance(node, BaseNode) and has_image(node) else node for node in batch]
        stored = iter(matcher.find([node for node in images if isinstance(node, ImageNode)]))
        for node in images:
            found = next(stored) if isinstance(node, ImageNode) else None
            # A copy: the caller's node stays as it was.
            yield node.model_copy(update={"id_": found.node_id}) if found is not None else node


def _require_images(stored_ids: list[str], wanted: dict[str, list[int]]) -> None:
    if not stored_ids:
        raise ValueError(
            f"the index holds none of the {len(wanted)} images, such as {next(iter(wanted))!r}; build it from the "
            "same data, read in the same way"
        )
    if lacking := len(wanted) - len(stored_ids):
        logger.warning("the index lacks %d of %d images; they count as not found", lacking, len(wanted))


def _text_vectors(index: ImageIndex, texts: list[str], show_progress: bool) -> Vectors:
    parts: list[Vectors] = []
    with tqdm(total=len(texts), desc="Embedding texts", unit="text", disable=not show_progress) as bar:
        for batch in iter_batch(texts, _TEXTS_AT_A_TIME):
            parts.append(np.asarray(index.image_embed_model.get_text_embedding_batch(batch), dtype=np.float32))
            bar.update(len(batch))
    return np.concatenate(parts)


def _ranks_of_images(
    index: ImageIndex, dataset: RetrievalDataset, vectors: Vectors, mode: VectorStoreQueryMode, show_progress: bool
) -> Iterator[int | None]:
    asked = zip(dataset.queries, vectors, strict=True)
    for query, vector in tqdm(
        asked, total=len(dataset.queries), desc="Finding images", unit="text", disable=not show_progress
    ):
        found = index.image_store.query(
            VectorStoreQuery(
                query_embedding=vector.tolist(), query_str=query.text, similarity_top_k=max(RECALL_AT), mode=mode
            )
        )
        yield next((rank for rank, id_ in enumerate(found.ids or [], 1) if id_ in query.image_ids), None)


def _ranks_of_texts(
    images: Vectors, texts: Vectors, places: npt.NDArray[np.intp], true_texts: list[list[int]]
) -> Iterator[int]:
    for start in range(0, len(images), _IMAGES_AT_A_TIME):
        scores = (images[start : start + _IMAGES_AT_A_TIME] @ texts.T)[:, places]
        for row, true in zip(scores, true_texts[start:], strict=False):
            first = true[int(row[true].argmax())]
            # Of equal scores the earlier text comes first.
            yield 1 + int((row > row[first]).sum()) + int((row[:first] == row[first]).sum())
