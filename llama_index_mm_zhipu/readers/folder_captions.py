"""Captions of a folder's pictures: beside each picture, or in a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.readers.captions import Captions
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.lines import lines_of

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
    except ValueError as error:
        return RecordError(f"{structured}, line {getattr(error, 'lineno', 1)}: not JSON ({error})")
    if isinstance(value, dict):
        value = next((value[key] for key in _KEYS if key in value), None)
    captions = value if isinstance(value, list) else [value]
    if not all(isinstance(caption, str) for caption in captions):
        return RecordError(f"{structured}, line 1: not a caption, nor an object with {', '.join(_KEYS)}")
    return "\n".join(caption.strip() for caption in captions if caption.strip())


def read_table(file: Path, captions: Captions, *, name_column: str, caption_column: str) -> Iterator[RecordError]:
    """Read captions by file name from a CSV with a header, and yield the errors of its rows.

    Args:
        file: UTF-8.
        captions: Where they go.
        name_column: Of the pictures' paths within the folder.
        caption_column: Of the captions; a name that comes again adds one.
    """
    places: list[str] = []
    errors: list[RecordError] = []
    rows = csv.DictReader(_lines(file, places, errors), strict=True)
    header = rows.fieldnames or []
    yield from errors
    errors.clear()
    if not {name_column, caption_column} <= set(header):
        yield RecordError(f"{file}, line 1: there is no column {name_column} or {caption_column}, but {list(header)}")
        return
    try:
        for row in rows:
            yield from _row_errors(row, captions, places[rows.line_num - 1], name_column, caption_column)
    except csv.Error as error:
        yield RecordError(f"{places[-1]}: not a row of a CSV ({error})")
    yield from errors


def _row_errors(
    row: dict[str, Any], captions: Captions, place: str, name_column: str, caption_column: str
) -> list[RecordError]:
    name, caption = row[name_column], row[caption_column]
    if not name or caption is None:
        return [RecordError(f"{place}: a row without {name_column} or {caption_column}")]
    captions.add(name.strip().replace("\\", "/"), caption, place)
    return []


def _lines(file: Path, places: list[str], errors: list[RecordError]) -> Iterator[str]:
    for line in lines_of(file):
        if isinstance(line, RecordError):
            errors.append(line)
        else:
            places.append(line.place)
            yield f"{line.text}\n"


def _text_of(file: Path) -> str | RecordError:
    texts = []
    for line in lines_of(file):
        if isinstance(line, RecordError):
            return line
        texts.append(line.text.strip())
    return "\n".join(texts)
