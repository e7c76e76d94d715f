"""The command that measures retrieval on a data set, and sets published figures beside it.

The three tables of Chinese-CLIP::

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
from llama_index_mm_zhipu.evaluation.dataset import FORMS, PUBLISHED, Form, RetrievalDataset, form_of
from llama_index_mm_zhipu.evaluation.retrieval import evaluate_retrieval, table_of
from llama_index_mm_zhipu.index.build import IMAGE_NAMESPACE, build_index, has_index, load_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore, StoreError

_BUILT_FROM = "evaluated_data_set"
"""Setting of a kept index: from what it was built, and whether to the end."""

_INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read a data set, index its images without their captions, and print the table."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An old console must not cost the figures.
        sys.stdout.reconfigure(errors="replace")
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        form = _checked_form(parser, given)
        rows = _measure(form, given)
    except KeyboardInterrupt:
        parser.exit(_INTERRUPTED, "interrupted\n")
    except (OSError, ValueError, StoreError) as error:
        parser.exit(1, f"error: {error}\n")
    print(table_of(rows))


def _parser() -> argparse.ArgumentParser:
    forms = "; ".join(f"{name}: {form.described}" for name, form in FORMS.items())
    parser = argparse.ArgumentParser(
        "python -m llama_index_mm_zhipu.evaluation",
        description=f"Measure how well a model finds the images of a data set by their captions, and back. {forms}.",
    )
    parser.add_argument("dataset", choices=FORMS, help="form of the data set")
    parser.add_argument("path", type=_path, help="its folder or file")
    parser.add_argument("--images", type=_path, help="folder of the images, where they lie elsewhere")
    parser.add_argument("--split", help="by default valid for muge, else test")
    parser.add_argument("--model", default="ViT-B-16", help="name or folder of a Chinese-CLIP (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda and so on; by default the fastest there is")
    parser.add_argument("--index", type=_path, help="folder to keep the index in, to measure it again")
    parser.add_argument("--skip", action="store_true", help="leave out records and images that cannot be read")
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _checked_form(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Form:
    """Return the form of the data set, and complete the options by it."""
    if not given.path.exists():
        raise FileNotFoundError(f"no such file or folder: {given.path}")
    form = form_of(given.dataset, given.path)
    if form.has_images_elsewhere and given.images is None:
        parser.error(f"{given.dataset} has its images elsewhere: give their folder with --images")
    if given.images is not None and not form.has_images_elsewhere:
        parser.error("--images: this data set has its images with it")
    if given.split is not None and form.split is None:
        parser.error(f"--split: {given.dataset} has no splits")
    given.split = given.split or form.split
    return form


def _measure(form: Form, given: argparse.Namespace) -> list[tuple[str, list[float]]]:
    on_error: OnError = "skip" if given.skip else "raise"
    # Before the images: a split without captions is no reason to embed it.
    queries = form.queries(given.path, given.images, given.split, on_error)
    index = _indexed(form, given, on_error)
    try:
        answerable = _answerable(index, queries, given.skip)
        rows = evaluate_retrieval(index, answerable, show_progress=True).rows()
    finally:
        index.close()
    is_whole = answerable == queries and given.split == form.split
    return [*rows, *(_published_rows(given.dataset, given.model) if is_whole else [])]


def _indexed(form: Form, given: argparse.Namespace, on_error: OnError) -> ImageIndex:
    """Open the kept index of this data set if it was built to the end, else build it or go on building it."""
    embed_model = ChineseClipEmbedding(given.model, device=given.device)
    source = " ".join(filter(None, [given.dataset, str(given.path.resolve()), given.split]))
    if given.index is not None:
        if _is_finished(given.index, source):
            return load_index(given.index, embed_model=embed_model)
        with FaissMultiModalVectorStore(given.index, namespace=IMAGE_NAMESPACE) as store:
            store.set_setting(_BUILT_FROM, {"source": source, "finished": False})
    index = build_index(
        form.read(given.path, given.images, given.split, on_error),
        embed_model=embed_model,
        persist_dir=given.index,
        caption_weight=0,
        on_error=on_error,
        show_progress=True,
    )
    index.image_store.set_setting(_BUILT_FROM, {"source": source, "finished": True})
    return index


def _is_finished(folder: Path, source: str) -> bool:
    """Whether a folder keeps an index of a data set that was built to the end.

    Raises:
        ValueError: The index there is of other data.
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
    """Return the queries less the images that were left out; without ``--skip`` none may be missing."""
    wanted = queries.texts_by_image()
    stored, _ = index.image_store.get_vectors(list(wanted))
    lacking = len(wanted) - len(stored)
    if not lacking or not stored:
        return queries
    if not skip:
        raise ValueError(f"{lacking} of {len(wanted)} images are not in the index; leave them out with --skip")
    answerable = queries.restricted_to(set(stored))
    texts = len(queries.queries) - len(answerable.queries)
    print(f"left out {lacking} of {len(wanted)} images and {texts} of {len(queries.queries)} texts", file=sys.stderr)
    return answerable


def _published_rows(dataset: str, model: str) -> list[tuple[str, list[float]]]:
    published = PUBLISHED.get(dataset, {}).get(model)
    if published is None:
        return []
    directions = zip(("texts → images", "images → texts"), published, strict=True)
    return [
        (f"published, {name}", [figure / 100 for figure in (*recall, sum(recall) / len(recall))])
        for name, recall in directions
        if recall is not None
    ]


if __name__ == "__main__":
    main()
