"""Pictures that a data set names and that lie in a folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.images.files import read_file
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.picture_record import PictureRecord, content_hash


def picture_of_file(
    node_id: str, folder: Path, name: str, caption: str, place: str, metadata: dict[str, Any] | None = None
) -> ImageNode | RecordError:
    """Make the node of a picture file, or the error of a record whose file is missing.

    Args:
        node_id: The picture's id.
        folder: Of the pictures.
        name: Path of the file within it: data sets are other people's, and lead nowhere else.
        caption: Its captions, a line each.
        place: File and line of the record.
        metadata: What else to say of it.
    """
    path = PurePath(name)
    if not name or ".." in path.parts or path.anchor:
        return RecordError(f"{place}: {name!r} is no picture within {folder}")
    file = folder / name
    try:
        digest = content_hash(read_file(file))
    except ImageError as error:
        if not os.path.lexists(file):
            return RecordError(f"{place}: there is no picture {str(file)!r}; check the folder of the pictures")
        return RecordError(f"{place}: {error}")
    return PictureRecord.of(node_id, digest, image_path=str(file.absolute()), text=caption, metadata=metadata)
