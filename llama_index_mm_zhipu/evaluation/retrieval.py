"""``evaluate_retrieval``: recall and mean reciprocal rank of an index, of images by text and of texts by image."""

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
"""Depths at which recall is measured, as in the tables of Chinese-CLIP."""

TITLES = ("R@1", "R@5", "R@10", "mean recall", "MRR@10")


@dataclass(frozen=True)
class DirectionScores:
    """Results of one direction.

    Attributes:
        recall: Share of queries with a true match among the first 1, 5 and 10 results, by depth, from 0 to 1.
        mrr: Mean reciprocal rank: the mean of 1 / rank of the first true match, which counts 0 beyond rank 10.
        count: Number of queries.

    Examples:
        >>> from llama_index_mm_zhipu.evaluation import DirectionScores
        >>> scores = DirectionScores.of_ranks([1, 2, None, 1])
        >>> scores.recall, scores.mrr, round(scores.mean_recall, 3)
        ({1: 0.5, 5: 0.75, 10: 0.75}, 0.625, 0.667)
    """

    recall: dict[int, float]
    mrr: float
    count: int

    @property
    def mean_recall(self) -> float:
        """Mean of the three recalls, called MR in the tables of Chinese-CLIP."""
        return sum(self.recall.values()) / len(self.recall)

    @classmethod
    def of_ranks(cls, ranks: Sequence[int | None]) -> DirectionScores:
        """Return the scores for the ranks, from 1, of the first true matches; None means not found.

        Examples:
            >>> from llama_index_mm_zhipu.evaluation import DirectionScores
            >>> DirectionScores.of_ranks([1, 4]).recall
            {1: 0.5, 5: 1.0, 10: 1.0}
        """
        found = [rank for rank in ranks if rank is not None and rank <= max(RECALL_AT)]
        recall = {depth: sum(rank <= depth for rank in found) / len(ranks) for depth in RECALL_AT}
        return cls(recall, sum(1 / rank for rank in found) / len(ranks), len(ranks))


@dataclass(frozen=True)
class RetrievalReport:
    """Results of both directions. ``str(report)`` is a table in percent.

    Attributes:
        text_to_image: Retrieval of images by text.
        image_to_text: Retrieval of texts by image.
        captions_in_vectors: Whether the vectors of the images contain their captions. In this case captions find their
            own images too easily, and the results say nothing about other queries.

    Examples:
        >>> index = build_index(nodes, embed_model, caption_weight=0)
        >>> print(evaluate_retrieval(index, nodes))
                                   R@1          R@5         R@10  mean recall       MRR@10
        12 texts → images        100.0        100.0        100.0        100.0        100.0
        12 images → texts        100.0        100.0        100.0        100.0        100.0
    """

    text_to_image: DirectionScores
    image_to_text: DirectionScores
    captions_in_vectors: bool = False

    def __str__(self) -> str:
        """Return the results as a table in percent."""
        return table_of(self.rows())

    def rows(self) -> list[tuple[str, list[float]]]:
        """Return the rows of the table: the title, and the values from 0 to 1.

        Examples:
            >>> index = build_index(nodes, embed_model, caption_weight=0)
            >>> [title for title, values in evaluate_retrieval(index, nodes).rows()]
            ['12 texts → images', '12 images → texts']
        """
        return [
            (f"{self.text_to_image.count:,} texts → images", _values(self.text_to_image)),
            (f"{self.image_to_text.count:,} images → texts", _values(self.image_to_text)),
        ]


def table_of(rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return rows of titles and values as a table in percent; the last columns of a row may be missing."""
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{title:>13}" for title in TITLES)]
    lines += [f"{name:<{width}}" + "".join(f"{100 * value:13.1f}" for value in values) for name, values in rows]
    return "\n".join(lines)


def _values(scores: DirectionScores) -> list[float]:
    return [*scores.recall.values(), scores.mean_recall, scores.mrr]


Vectors: TypeAlias = "npt.NDArray[np.float32]"

# A batch of 256 images is compared with all texts at once: a matrix of 256 MB for 250,000 texts.
_TEXT_BATCH = 1_024
_IMAGE_BATCH = 256


@explicit_arguments
def evaluate_retrieval(
    index: ImageIndex,
    dataset: RetrievalDataset | Iterable[BaseNode],
    *,
    vector_store_query_mode: VectorStoreQueryMode | str = VectorStoreQueryMode.DEFAULT,
    show_progress: bool = False,
) -> RetrievalReport:
    """Measure how well an index finds the images of texts, and the texts of images.

    Texts search the image store in the same way as users' queries, among all images of the index. An image is compared
    by its stored vector with the texts of the data set. A query counts as answered if any of its true matches is among
    the first results.

    Args:
        index: The return value of ``build_index`` or ``load_index``.
        dataset: Queries with the ids of their images; or image nodes whose captions are the queries, such as
            ``reader.lazy_load_data(…)`` (see ``RetrievalDataset.from_nodes``).
        vector_store_query_mode: How texts search: ``"default"`` by vector, as in the tables of Chinese-CLIP.
            ``"hybrid"`` and ``"text_search"`` also search the text of captions, which makes sense for queries that are
            not these captions.
        show_progress: Whether to show progress bars.

    Returns:
        Recall at 1, 5 and 10, their mean and the mean reciprocal rank in both directions. Images that the index does
        not have count as not found, and their number is logged as a warning.

    Raises:
        ValueError: There are no queries, or the index has none of the images.

    Examples:
        >>> report = evaluate_retrieval(build_index("images", embed_model), nodes)
        >>> f"{report.text_to_image.recall[1]:.2f}", f"{report.text_to_image.mrr:.2f}"
        ('1.00', '1.00')
    """
    if not isinstance(dataset, RetrievalDataset):
        dataset = RetrievalDataset.from_nodes(_as_stored(index, dataset))
    texts_by_image = dataset.texts_by_image()
    stored_ids, images = index.image_store.get_vectors(list(texts_by_image))
    _require_images(stored_ids, texts_by_image)
    captions_in_vectors = _has_captions_in_vectors(index)
    texts, rows = _embed_queries(index, dataset, show_progress)
    mode = VectorStoreQueryMode(vector_store_query_mode)
    image_ranks = list(_image_ranks(index, dataset, texts[rows], mode, show_progress))
    text_ranks = list(_text_ranks(images, texts, rows, [texts_by_image[id_] for id_ in stored_ids]))
    not_found = [None] * (len(texts_by_image) - len(stored_ids))
    return RetrievalReport(
        text_to_image=DirectionScores.of_ranks(image_ranks),
        image_to_text=DirectionScores.of_ranks([*text_ranks, *not_found]),
        captions_in_vectors=captions_in_vectors,
    )


def _as_stored(index: ImageIndex, nodes: Iterable[BaseNode]) -> Iterator[BaseNode]:
    """Yield nodes with the ids of the same images in the index, which may differ after a folder was moved."""
    matcher = ImageMatcher(index.image_store)
    for batch in iter_batch(nodes, _IMAGE_BATCH):
        images = [as_image_node(node) if isinstance(node, BaseNode) and has_image(node) else node for node in batch]
        stored = iter(matcher.find([node for node in images if isinstance(node, ImageNode)]))
        for node in images:
            found = next(stored) if isinstance(node, ImageNode) else None
            # Copy the node so that the caller's node stays unchanged.
            yield node.model_copy(update={"id_": found.node_id}) if found is not None else node


def _require_images(stored_ids: list[str], wanted: dict[str, list[int]]) -> None:
    if not stored_ids:
        raise ValueError(
            f"the index has none of the {len(wanted)} images, such as {next(iter(wanted))!r}; build it from the "
            "same data with the same reader"
        )
    if missing := len(wanted) - len(stored_ids):
        logger.warning("the index lacks %d of %d images; they count as not found", missing, len(wanted))


def _has_captions_in_vectors(index: ImageIndex) -> bool:
    """Return whether the vectors of the images contain their captions, and log a warning if they do."""
    if not index.caption_weight:
        return False
    logger.warning(
        "the vectors of the images contain their captions, so captions find their own images too easily; "
        "evaluate an index built with caption_weight=0"
    )
    return True


def _embed_queries(
    index: ImageIndex, dataset: RetrievalDataset, show_progress: bool
) -> tuple[Vectors, npt.NDArray[np.intp]]:
    """Return the vectors of the different texts, and for each query the row of its text."""
    # Each text is embedded once. In different batches equal texts could get slightly different vectors, and ranks
    # among equal scores would depend on the batches.
    row_of = {text: row for row, text in enumerate(dict.fromkeys(query.text for query in dataset.queries))}
    rows = np.array([row_of[query.text] for query in dataset.queries], dtype=np.intp)
    return _text_vectors(index, list(row_of), show_progress), rows


def _text_vectors(index: ImageIndex, texts: list[str], show_progress: bool) -> Vectors:
    parts: list[Vectors] = []
    with tqdm(total=len(texts), desc="Embedding texts", unit="text", disable=not show_progress) as bar:
        for batch in iter_batch(texts, _TEXT_BATCH):
            parts.append(np.asarray(index.image_embed_model.get_text_embedding_batch(batch), dtype=np.float32))
            bar.update(len(batch))
    return np.concatenate(parts)


def _image_ranks(
    index: ImageIndex, dataset: RetrievalDataset, vectors: Vectors, mode: VectorStoreQueryMode, show_progress: bool
) -> Iterator[int | None]:
    """Yield for each query the rank of its first image among the results of the store, or None."""
    queries = zip(dataset.queries, vectors, strict=True)
    for query, vector in tqdm(
        queries, total=len(dataset.queries), desc="Finding images", unit="text", disable=not show_progress
    ):
        found = index.image_store.query(
            VectorStoreQuery(
                query_embedding=vector.tolist(), query_str=query.text, similarity_top_k=max(RECALL_AT), mode=mode
            )
        )
        yield next((rank for rank, id_ in enumerate(found.ids or [], 1) if id_ in query.image_ids), None)


def _text_ranks(
    images: Vectors, texts: Vectors, rows: npt.NDArray[np.intp], true_queries: list[list[int]]
) -> Iterator[int]:
    """Yield for each image the rank of its first query among all queries.

    Args:
        images: Vectors of the images.
        texts: Vectors of the different texts.
        rows: Row in ``texts`` of each query.
        true_queries: Indexes of the queries of each image.
    """
    for start in range(0, len(images), _IMAGE_BATCH):
        scores = (images[start : start + _IMAGE_BATCH] @ texts.T)[:, rows]
        for row, true in zip(scores, true_queries[start:], strict=False):
            first = true[int(row[true].argmax())]
            # Of equal scores the query that comes first in the data set ranks higher.
            yield 1 + int((row > row[first]).sum()) + int((row[:first] == row[first]).sum())
