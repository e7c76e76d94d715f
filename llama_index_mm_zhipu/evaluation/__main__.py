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
from llama_index_mm_zhipu.embedding.nodes import OnError
from llama_index_mm_zhipu.evaluation.dataset import RetrievalDataset
from llama_index_mm_zhipu.evaluation.forms import FORMS, Form, form_of
from llama_index_mm_zhipu.evaluation.published import PUBLISHED
from llama_index_mm_zhipu.evaluation.report import table_of
from llama_index_mm_zhipu.evaluation.retrieval import evaluate_retrieval
from llama_index_mm_zhipu.index import build_index, has_index, load_index
from llama_index_mm_zhipu.picture_index import PictureIndex
from llama_index_mm_zhipu.vector_store import StoreError

_INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read a data set, index its pictures without their captions, and print the table."""
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
    if given.split == form.split:
        rows += _published_rows(given.dataset, given.model)
    print(table_of(rows))


def _parser() -> argparse.ArgumentParser:
    forms = "; ".join(f"{name}: {form.described}" for name, form in FORMS.items())
    parser = argparse.ArgumentParser(
        "python -m llama_index_mm_zhipu.evaluation",
        description=f"Measure how well a model finds the pictures of a data set by their captions, and back. {forms}.",
    )
    parser.add_argument("dataset", choices=FORMS, help="form of the data set")
    parser.add_argument("path", type=Path, help="its folder or file")
    parser.add_argument("--images", type=Path, help="folder of the pictures, where they lie elsewhere")
    parser.add_argument("--split", help="by default valid for muge, else test")
    parser.add_argument("--model", default="ViT-B-16", help="name or folder of a Chinese-CLIP (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda and so on; by default the fastest there is")
    parser.add_argument("--index", type=Path, help="folder to keep the index in; one that is there already is measured")
    parser.add_argument("--skip", action="store_true", help="leave out records and pictures that cannot be read")
    return parser


def _checked_form(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Form:
    """Return the form of the data set, and complete the options by it."""
    if not given.path.exists():
        raise FileNotFoundError(f"no such file or folder: {given.path}")
    form = form_of(given.dataset, given.path)
    if form.has_images_elsewhere and given.images is None:
        parser.error(f"{given.dataset} has its pictures elsewhere: give their folder with --images")
    if given.images is not None and not form.has_images_elsewhere:
        parser.error("--images: this data set has its pictures with it")
    if given.split is not None and form.split is None:
        parser.error(f"--split: {given.dataset} has no splits")
    given.split = given.split or form.split
    return form


def _measure(form: Form, given: argparse.Namespace) -> list[tuple[str, list[float]]]:
    on_error: OnError = "skip" if given.skip else "raise"
    place = (given.path, given.images, given.split, on_error)
    # Before the pictures: a split without captions is no reason to embed it.
    queries = form.queries(*place)
    embed_model = ChineseClipEmbedding(given.model, device=given.device)
    if given.index is not None and has_index(given.index):
        index = load_index(given.index, embed_model=embed_model)
    else:
        index = build_index(
            form.read(*place),
            embed_model=embed_model,
            persist_dir=given.index,
            caption_weight=0,
            on_error=on_error,
            show_progress=True,
        )
    try:
        return evaluate_retrieval(index, _answerable(index, queries, given), show_progress=True).rows()
    finally:
        index.close()


def _answerable(index: PictureIndex, queries: RetrievalDataset, given: argparse.Namespace) -> RetrievalDataset:
    """Return the queries less the pictures that were left out; without ``--skip`` none may be missing."""
    wanted = queries.texts_by_picture()
    stored, _ = index.stores[1].get_vectors(list(wanted))
    lacking = len(wanted) - len(stored)
    if lacking and not given.skip:
        raise ValueError(
            f"the index in {given.index} lacks {lacking} of {len(wanted)} pictures: it was broken off, or is of other "
            "data; delete the folder to build it anew, or leave them out with --skip"
        )
    if lacking:
        print(f"left out {lacking} of {len(wanted)} pictures", file=sys.stderr)
    return queries.restricted_to(set(stored)) if stored else queries


def _published_rows(dataset: str, model: str) -> list[tuple[str, list[float]]]:
    published = PUBLISHED.get(dataset, {}).get(model)
    if published is None:
        return []
    directions = zip(("texts → pictures", "pictures → texts"), published, strict=True)
    return [
        (f"published, {name}", [figure / 100 for figure in (*recall, sum(recall) / len(recall))])
        for name, recall in directions
        if recall is not None
    ]


if __name__ == "__main__":
    main()
