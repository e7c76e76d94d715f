"""Pictures with captions, one JSON object a line.

A line is ``{"image_id": "1", "image_base64": "/9j/…", "caption": "一只猫"}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.captions import Captions, captions_in
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.inline_pictures import inline_picture
from llama_index_mm_zhipu.readers.parsing.json_objects import object_of
from llama_index_mm_zhipu.readers.parsing.lines import LineOrError, lines_of
from llama_index_mm_zhipu.readers.parsing.record import RecordOrError
from llama_index_mm_zhipu.readers.picture_ids import picture_id_of

_FORM = "an object with image_id, image_base64 and caption"


class JsonlReader(PictureReader):
    """Reads a jsonl file with pictures in base64.

    An id may be a number or a string, a caption a string, a list or null; an id that comes again adds a caption. The
    file is read twice, for that; only captions stay in memory. Node ids are the image ids, so that indexing a file
    again overwrites its pictures instead of doubling them.

    Args:
        **kwargs: Of ``PictureReader``: ``on_error``, ``show_progress``.
    """

    def _records(self, path: str | Path) -> Iterator[NodeOrError]:
        file = Path(path).expanduser()
        captions = _gather_captions(file).by_id
        for line in lines_of(file, self.show_progress):
            record = _parsed(line)
            if isinstance(record, RecordError):
                yield record
                continue
            image_id = picture_id_of(record.fields["image_id"], record.place)
            if isinstance(image_id, RecordError):
                yield image_id
            elif image_id in captions:
                node = inline_picture(image_id, record.fields["image_base64"], captions[image_id], record.place)
                if not isinstance(node, RecordError):
                    # The first good line of an id brings all captions, others have nothing more to say.
                    del captions[image_id]
                yield node

    def _nothing_read(self, path: str | Path) -> str:
        return f"{path} holds no pictures; expected lines with image_id, image_base64 and caption"


def read_jsonl(path: str | Path, *, show_progress: bool = False) -> list[ImageNode]:
    """Read pictures and captions from a jsonl file: short for ``JsonlReader().load_data(path)``.

    Args:
        path: UTF-8 file, with or without a byte order mark.
        show_progress: Show a progress bar.

    Returns:
        One node a picture, in the order of the file.

    Raises:
        ValueError: A line is not such an object, or the file holds no picture. The message names file and line.
    """
    return JsonlReader(show_progress=show_progress).load_data(path)


def _gather_captions(file: Path) -> Captions:
    captions = Captions()
    for line in lines_of(file):
        record = _parsed(line)
        if isinstance(record, RecordError):
            continue
        image_id = picture_id_of(record.fields["image_id"], record.place)
        if not isinstance(image_id, RecordError):
            for caption in captions_in(record.fields.get("caption")) or [""]:
                captions.add(image_id, caption, record.place)
    return captions


def _parsed(line: LineOrError) -> RecordOrError:
    return object_of(line, _FORM, "image_id", "image_base64")
