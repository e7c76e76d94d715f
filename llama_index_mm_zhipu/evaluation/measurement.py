"""Measure retrieval on a data set, with the published results beside the measured ones where there are any."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from llama_index_mm_zhipu.embedding import ChineseClipEmbedding
from llama_index_mm_zhipu.evaluation.dataset import PUBLISHED, DatasetFormat, RetrievalDataset, format_of
from llama_index_mm_zhipu.evaluation.retrieval import evaluate_retrieval
from llama_index_mm_zhipu.index.build import build_index, has_index, load_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.stores import IMAGE_NAMESPACE
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

_BUILT_FROM = "evaluated_data_set"
"""Setting of a kept index: the data set that it was built from, and whether building has finished."""

Rows = list[tuple[str, list[float]]]
"""Name and figures of each row of the table, as ``retrieval.table_of`` takes them."""


@dataclass(frozen=True)
class Measurement:
    """A data set and a model to measure.

    Attributes:
        dataset: Name of the format, a key of ``dataset.FORMATS``.
        path: Folder or file of the data set.
        images: Folder of the images if they are not in the data set.
        split: Split to measure; None for the one of the published results.
        model: Name or folder of a Chinese-CLIP model.
        device: As in ``ChineseClipEmbedding``.
        index: Folder in which the index is kept for another run; None keeps it in memory.
        skip: Whether to leave out records and images that cannot be read.
        show_progress: Whether to show progress bars.
    """

    dataset: str
    path: Path
    images: Path | None = None
    split: str | None = None
    model: str = "ViT-B-16"
    device: str = "auto"
    index: Path | None = None
    skip: bool = False
    show_progress: bool = True

    def rows(self) -> Rows:
        """Index the images without their captions, and return the rows of the table of results.

        Raises:
            FileNotFoundError: The data set does not exist.
            StoreError: The kept index cannot be read or written.
            ValueError: The data set cannot be read, needs a folder of images, or the kept index is of other data.
        """
        dataset_format = self._checked_format()
        split = self.split or dataset_format.split
        on_error: OnError = "skip" if self.skip else "raise"
        # Read the queries first: if the split has no captions, no image needs to be embedded.
        queries = dataset_format.queries(self.path, self.images, split, on_error)
        index = self._indexed(dataset_format, split, on_error)
        try:
            answerable = _answerable(index, queries, self.skip)
            rows = evaluate_retrieval(index, answerable, show_progress=self.show_progress).rows()
        finally:
            index.close()
        is_whole = answerable == queries and split == dataset_format.split
        return [*rows, *(_published_rows(self.dataset, self.model) if is_whole else [])]

    def _checked_format(self) -> DatasetFormat:
        """Return the format of the data set, after checking that the other fields suit it."""
        if not self.path.exists():
            raise FileNotFoundError(f"no such file or folder: {self.path}")
        dataset_format = format_of(self.dataset, self.path)
        if dataset_format.has_separate_images and self.images is None:
            raise ValueError(f"{self.dataset} comes without its images: give their folder with --images")
        if self.images is not None and not dataset_format.has_separate_images:
            raise ValueError("--images: this data set contains its images")
        if self.split is not None and dataset_format.split is None:
            raise ValueError(f"--split: {self.dataset} has no splits")
        return dataset_format

    def _indexed(self, dataset_format: DatasetFormat, split: str | None, on_error: OnError) -> ImageIndex:
        """Return the kept index of the data set if it is complete; otherwise build it, or continue building it."""
        embed_model = ChineseClipEmbedding(self.model, device=self.device)
        source = " ".join(filter(None, [self.dataset, str(self.path.resolve()), split]))
        if self.index is not None:
            if _is_finished(self.index, source):
                return load_index(self.index, embed_model=embed_model)
            with FaissMultiModalVectorStore(self.index, namespace=IMAGE_NAMESPACE) as store:
                store.set_setting(_BUILT_FROM, {"source": source, "finished": False})
        index = build_index(
            dataset_format.read(self.path, self.images, split, on_error),
            embed_model=embed_model,
            persist_dir=self.index,
            caption_weight=0,
            on_error=on_error,
            show_progress=self.show_progress,
        )
        index.image_store.set_setting(_BUILT_FROM, {"source": source, "finished": True})
        return index


def _is_finished(folder: Path, source: str) -> bool:
    """Whether a folder has a complete index of a data set.

    Raises:
        ValueError: The folder has an index of other data.
    """
    if not has_index(folder):
        return False
    with FaissMultiModalVectorStore(folder, namespace=IMAGE_NAMESPACE) as store:
        recorded = store.get_setting(_BUILT_FROM)
    if recorded is None:
        raise ValueError(f"the index in {folder} was not built by this command; evaluate_retrieval measures it")
    if recorded["source"] != source:
        raise ValueError(f"the index in {folder} is of {recorded['source']}, not of {source}; give another folder")
    return bool(recorded["finished"])


def _answerable(index: ImageIndex, queries: RetrievalDataset, skip: bool) -> RetrievalDataset:
    """Return the queries for the images that the index has; with ``--skip`` images may be missing.

    Raises:
        ValueError: Images are missing, and ``skip`` is false.
    """
    wanted = queries.texts_by_image()
    stored, _ = index.image_store.get_vectors(list(wanted))
    missing = len(wanted) - len(stored)
    if not missing or not stored:
        return queries
    if not skip:
        raise ValueError(f"{missing} of {len(wanted)} images are not in the index; leave them out with --skip")
    answerable = queries.restricted_to(set(stored))
    texts = len(queries.queries) - len(answerable.queries)
    print(f"left out {missing} of {len(wanted)} images and {texts} of {len(queries.queries)} texts", file=sys.stderr)
    return answerable


def _published_rows(dataset: str, model: str) -> Rows:
    published = PUBLISHED.get(dataset, {}).get(model)
    if published is None:
        return []
    directions = zip(("texts → images", "images → texts"), published, strict=True)
    return [
        (f"published, {name}", [percent / 100 for percent in (*recall, sum(recall) / len(recall))])
        for name, recall in directions
        if recall is not None
    ]
