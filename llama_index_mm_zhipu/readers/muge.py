"""MUGE, of product pictures: its retrieval task, and its captions (ECommerce-IC)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.captions import Captions, captions_in
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.json_objects import object_of
from llama_index_mm_zhipu.readers.parsing.lines import LineOrError, lines_of
from llama_index_mm_zhipu.readers.picture_ids import picture_id_of
from llama_index_mm_zhipu.readers.tsv_datasets import TsvReader, nothing_read, read_pictures


class MugeRetrievalReader(TsvReader):
    """Reads MUGE's ``Multimodal_Retrieval``: pictures, with the queries that ask for them as captions.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``, whose queries name no pictures.
    The files' prefix ``MR_`` may be missing.

    Args:
        id_prefix: What node ids begin with, as of ``PictureReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``PictureReader``.
        show_progress: Show a progress bar.
    """

    text_key = "query_text"
    ids_key = "item_ids"

    def _files(self, folder: Path, split: str) -> tuple[Path, Path]:
        return _file(folder, f"{split}_queries.jsonl"), _file(folder, f"{split}_imgs.tsv")


class MugeCaptionReader(PictureReader):
    """Reads MUGE's ``ECommerce-IC``: pictures with advertising lines as captions.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``, which has no captions.

    Args:
        id_prefix: What node ids begin with, as of ``PictureReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``PictureReader``.
        show_progress: Show a progress bar.
    """

    def _records(self, folder: str | Path, split: str = "train") -> Iterator[NodeOrError]:
        root, captions = Path(folder).expanduser(), Captions()
        for line in lines_of(root / f"IC_{split}.jsonl"):
            error = _add_captions(line, captions)
            if error is not None:
                yield error
        yield from read_pictures(root / f"IC_{split}.tsv", captions, self.show_progress)

    def _nothing_read(self, folder: str | Path, split: str = "train") -> str:
        return nothing_read(Path(folder) / f"IC_{split}.tsv")


def _file(folder: Path, name: str) -> Path:
    prefixed = folder / f"MR_{name}"
    return prefixed if prefixed.is_file() else folder / name


def _add_captions(line: LineOrError, captions: Captions) -> RecordError | None:
    record = object_of(line, "an object with image_id and text", "image_id")
    if isinstance(record, RecordError):
        return record
    image_id = picture_id_of(record.fields["image_id"], record.place, "image_id")
    if isinstance(image_id, RecordError):
        return image_id
    texts = captions_in(record.fields.get("text"), "text", record.place)
    if isinstance(texts, RecordError):
        return texts
    for text in texts:
        captions.add(image_id, text, record.place)
    return None
