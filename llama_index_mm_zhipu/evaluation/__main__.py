"""The command that measures retrieval on a data set, and sets published figures beside it.

The three tables of Chinese-CLIP::

    python -m llama_index_mm_zhipu.evaluation muge MUGE
    python -m llama_index_mm_zhipu.evaluation flickr30k-cn Flickr30k-CN --model ViT-H-14
    python -m llama_index_mm_zhipu.evaluation coco-cn COCO-CN --model ViT-L-14-336
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.embedding import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.nodes import OnError
from llama_index_mm_zhipu.evaluation.dataset import RetrievalDataset
from llama_index_mm_zhipu.evaluation.published import PUBLISHED
from llama_index_mm_zhipu.evaluation.report import RetrievalReport, table_of
from llama_index_mm_zhipu.evaluation.retrieval import evaluate_retrieval
from llama_index_mm_zhipu.index import build_index, load_index
from llama_index_mm_zhipu.readers import (
    ChineseClipReader,
    CocoCnReader,
    Flickr8kCnReader,
    Flickr30kCnReader,
    FolderReader,
    JsonlReader,
    MugeRetrievalReader,
    PictureReader,
)


class _Form(NamedTuple):
    """How a data set is read, given its path, the folder of its pictures and a split."""

    described: str
    reader: Callable[..., PictureReader]
    arguments: Callable[[Path, Path | None, str], Sequence[object]]
    split: str = ""
    merge_equal_captions: bool = False
    needs_images: bool = False


def _path_and_split(path: Path, images: Path | None, split: str) -> Sequence[object]:
    return path, split


def _path_images_and_split(path: Path, images: Path | None, split: str) -> Sequence[object]:
    return path, images, split


_CHINESE_CLIP = _Form("a folder in the form of Chinese-CLIP's scripts", ChineseClipReader, _path_and_split, "test")
_FORMS = {
    "muge": _Form("MUGE's retrieval task", MugeRetrievalReader, _path_and_split, "valid", True),
    "flickr30k-cn": _Form("Flickr30k-CN", Flickr30kCnReader, _path_images_and_split, "test", needs_images=True),
    "coco-cn": _Form("COCO-CN", CocoCnReader, _path_images_and_split, "test", needs_images=True),
    "flickr8k-cn": _Form("Flickr8k-CN", Flickr8kCnReader, _path_images_and_split, "test", needs_images=True),
    "chinese-clip": _CHINESE_CLIP,
    "jsonl": _Form("a jsonl file", JsonlReader, lambda path, images, split: (path,)),
    "folder": _Form("pictures with captions beside them", FolderReader, lambda path, images, split: (path, "sidecar")),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read a data set, index its pictures without their captions, and print the table."""
    parser = argparse.ArgumentParser("python -m llama_index_mm_zhipu.evaluation", description=_description())
    parser.add_argument("dataset", choices=_FORMS, help="form of the data set")
    parser.add_argument("path", type=Path, help="its folder or file")
    parser.add_argument("--images", type=Path, help="folder of the pictures, where they lie elsewhere")
    parser.add_argument("--split", help="by default valid for muge, else test")
    parser.add_argument("--model", default="ViT-B-16", help="name or folder of a Chinese-CLIP (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, …; by default the fastest there is")
    parser.add_argument("--index", type=Path, help="folder to keep the index in; one that is there already is measured")
    parser.add_argument("--skip", action="store_true", help="leave out records and pictures that cannot be read")
    given = parser.parse_args(arguments)
    try:
        report = _evaluate(given)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    rows = [*report.rows(), *_published_rows(given.dataset, given.model)]
    sys.stdout.write(f"{table_of(rows)}\n")


def _evaluate(given: argparse.Namespace) -> RetrievalReport:
    form = _form_of(given.dataset, given.path)
    if form.needs_images and given.images is None:
        raise ValueError(f"{given.dataset} has its pictures elsewhere: give their folder with --images")
    on_error: OnError = "skip" if given.skip else "raise"

    def pictures() -> Iterator[ImageNode]:
        reader = form.reader(on_error=on_error)
        return reader.lazy_load_data(*form.arguments(given.path, given.images, given.split or form.split))

    # Read once more for the captions: the data set's pictures need not fit into memory.
    embed_model = ChineseClipEmbedding(given.model, device=given.device)
    if given.index is not None and given.index.exists():
        index = load_index(given.index, embed_model=embed_model)
    else:
        index = build_index(
            pictures(),
            embed_model=embed_model,
            persist_dir=given.index,
            caption_weight=0,
            on_error=on_error,
            show_progress=True,
        )
    dataset = RetrievalDataset.from_nodes(pictures(), merge_equal_captions=form.merge_equal_captions)
    return evaluate_retrieval(index, dataset, show_progress=True)


def _form_of(name: str, path: Path) -> _Form:
    """Return the form of a data set: MUGE, Flickr30k-CN and COCO-CN are also published in that of Chinese-CLIP."""
    form = _FORMS[name]
    if name in PUBLISHED and any(path.glob("*_texts.jsonl")):
        return _CHINESE_CLIP._replace(split=form.split, merge_equal_captions=form.merge_equal_captions)
    return form


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


def _description() -> str:
    forms = "; ".join(f"{name}: {form.described}" for name, form in _FORMS.items())
    return f"Measure how well a model finds the pictures of a data set by their captions, and back. {forms}."


if __name__ == "__main__":
    main()
