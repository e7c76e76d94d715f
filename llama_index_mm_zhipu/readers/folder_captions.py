"""Captions of a folder's pictures: beside each picture, or in a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from llama_index_mm_zhipu.readers.captions import Captions, captions_in, joined
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.delimited import rows_of
from llama_index_mm_zhipu.readers.parsing.lines import lines_of

_KEYS = ("caption", "captions", "text")


def read_sidecar(picture: Path) -> str | RecordError:
    """Read the caption of a picture from the file beside it, ``photo.txt`` or ``photo.json``; empty if there is none.

    A ``.json`` holds a string, a list of strings, or an object with one of these under ``caption``, ``captions`` or
    ``text``.
    """
    text, structured = picture.with_suffix(".txt"), picture.with_suffix(".json")
    if text.is_file():
        return _text_of(text)
    if not structured.is_file():
        return ""
    content = _text_of(structured)
    if isinstance(content, RecordError):
        return content
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        return RecordError(f"{structured}, line {getattr(error, 'lineno', 1)}: not JSON ({error})")
    if isinstance(value, dict):
        value = next((value[key] for key in _KEYS if key in value), False)
    captions = value if isinstance(value, list) else [value]
    if not all(isinstance(caption, str | None) for caption in captions):
        return RecordError(f"{structured}, line 1: not a caption, nor an object with {', '.join(_KEYS)}")
    return joined(captions_in(value))


def read_table(file: Path, captions: Captions, *, name_column: str, caption_column: str) -> Iterator[RecordError]:
    """Read captions by file name from a CSV with a header, and yield the errors of its rows.

    Args:
        file: UTF-8.
        captions: Where they go.
        name_column: Of the pictures' paths within the folder.
        caption_column: Of the captions; a name that comes again adds one.
    """
    for row in rows_of(file, required=(name_column, caption_column)):
        if isinstance(row, RecordError):
            yield row
        else:
            name = PurePosixPath(row.fields[name_column].strip().replace("\\", "/")).as_posix()
            captions.add(name, row.fields[caption_column], row.place)


def _text_of(file: Path) -> str | RecordError:
    texts = []
    for line in lines_of(file):
        if isinstance(line, RecordError):
            return line
        texts.append(line.text.strip())
    return "\n".join(texts)
