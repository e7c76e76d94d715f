"""Command that measures retrieval on a data set and prints the published results beside the measured ones.

For the three tables of Chinese-CLIP::

    python -m llama_index_mm_zhipu.evaluation muge MUGE
    python -m llama_index_mm_zhipu.evaluation flickr30k-cn Flickr30k-CN --model ViT-H-14
    python -m llama_index_mm_zhipu.evaluation coco-cn COCO-CN --model ViT-L-14-336
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from llama_index_mm_zhipu.embedding import ChineseClipEmbedding
from llama_index_mm_zhipu.evaluation.dataset import FORMATS, PUBLISHED, DatasetFormat, RetrievalDataset, format_of
from llama_index_mm_zhipu.evaluation.retrieval import evaluate_retrieval, table_of
from llama_index_mm_zhipu.index.build import build_index, has_index, load_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.stores import IMAGE_NAMESPACE
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore, StoreError

_BUILT_FROM = "evaluated_data_set"
"""Setting of a kept index: the data set that it was built from, and whether building has finished."""

_INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read a data set, index its images without their captions, and print a table of the results."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A console without "→" in its encoding must not lose the results.
        sys.stdout.reconfigure(errors="replace")
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        dataset_format = _checked_format(parser, given)
        rows = _measure(dataset_format, given)
    except KeyboardInterrupt:
        parser.exit(_INTERRUPTED, "interrupted\n")
    except (OSError, ValueError, StoreError) as error:
        parser.exit(1, f"error: {error}\n")
    print(table_of(rows))


def _parser() -> argparse.ArgumentParser:
    formats = "; ".join(f"{name}: {each.described}" for name, each in FORMATS.items())
    parser = argparse.ArgumentParser(
        "python -m llama_index_mm_zhipu.evaluation",
        description=f"Measure how well a model finds images by their captions and captions by their images. {formats}.",
    )
    parser.add_argument("dataset", choices=FORMATS, help="format of the data set")
    parser.add_argument("path", type=_path, help="folder or file of the data set")
    parser.add_argument("--images", type=_path, help="folder of the images if they are not in the data set")
    parser.add_argument("--split", help="default: valid for muge, otherwise test")
    parser.add_argument(
        "--model", default="ViT-B-16", help="name or folder of a Chinese-CLIP model (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: the fastest that is available)")
    parser.add_argument("--index", type=_path, help="folder in which to keep the index for another run")
    parser.add_argument("--skip", action="store_true", help="leave out records and images that cannot be read")
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _checked_format(parser: argparse.ArgumentParser, given: argparse.Namespace) -> DatasetFormat:
    """Return the format of the data set, check the options for it, and fill in its default split."""
    if not given.path.exists():
        raise FileNotFoundError(f"no such file or folder: {given.path}")
    dataset_format = format_of(given.dataset, given.path)
    if dataset_format.has_separate_images and given.images is None:
        parser.error(f"{given.dataset} comes without its images: give their folder with --images")
    if given.images is not None and not dataset_format.has_separate_images:
        parser.error("--images: this data set contains its images")
    if given.split is not None and dataset_format.split is None:
        parser.error(f"--split: {given.dataset} has no splits")
    given.split = given.split or dataset_format.split
    return dataset_format


def _measure(dataset_format: DatasetFormat, given: argparse.Namespace) -> list[tuple[str, list[float]]]:
    on_error: OnError = "skip" if given.skip else "raise"
    # Read the queries first: if the split has no captions, no image needs to be embedded.
    queries = dataset_format.queries(given.path, given.images, given.split, on_error)
    index = _indexed(dataset_format, given, on_error)
    try:
        answerable = _answerable(index, queries, given.skip)
        rows = evaluate_retrieval(index, answerable, show_progress=True).rows()
    finally:
        index.close()
    is_whole = answerable == queries and given.split == dataset_format.split
    return [*rows, *(_published_rows(given.dataset, given.model) if is_whole else [])]


def _indexed(dataset_format: DatasetFormat, given: argparse.Namespace, on_error: OnError) -> ImageIndex:
    """Return the kept index of the data set if it is complete; otherwise build it, or continue building it."""
    embed_model = ChineseClipEmbedding(given.model, device=given.device)
    source = " ".join(filter(None, [given.dataset, str(given.path.resolve()), given.split]))
    if given.index is not None:
        if _is_finished(given.index, source):
            return load_index(given.index, embed_model=embed_model)
        with FaissMultiModalVectorStore(given.index, namespace=IMAGE_NAMESPACE) as store:
            store.set_setting(_BUILT_FROM, {"source": source, "finished": False})
    index = build_index(
        dataset_format.read(given.path, given.images, given.split, on_error),
        embed_model=embed_model,
        persist_dir=given.index,
        caption_weight=0,
        on_error=on_error,
        show_progress=True,
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


def _published_rows(dataset: str, model: str) -> list[tuple[str, list[float]]]:
    published = PUBLISHED.get(dataset, {}).get(model)
    if published is None:
        return []
    directions = zip(("texts → images", "images → texts"), published, strict=True)
    return [
        (f"published, {name}", [percent / 100 for percent in (*recall, sum(recall) / len(recall))])
        for name, recall in directions
        if recall is not None
    ]


if __name__ == "__main__":
    main()
