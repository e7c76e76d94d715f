"""Pictures with captions, one JSON object a line.

A line is ``{"image_id": "1", "image_base64": "/9j/…", "caption": "一只猫"}``.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.images import ImageError, decode_base64
from llama_index_mm_zhipu.readers.picture_record import PictureRecord, content_hash


def read_jsonl(path: str | Path) -> list[ImageNode]:
    """Read pictures and captions from a jsonl file.

    An id may be a number or a string, a caption a string, a list or null; an id that comes again adds a caption.
    Node ids are the image ids, so that indexing a file again overwrites its pictures instead of doubling them.

    Args:
        path: UTF-8 file, with or without a byte order mark.

    Returns:
        One node a picture, in the order of the file.

    Raises:
        ValueError: A line is not such an object, or the file holds no picture. The message names file and line.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}; check the path of the jsonl")
    nodes: dict[str, ImageNode] = {}
    # Split at "\n" only: captions may hold other line ends that str.splitlines would split at.
    for number, line in enumerate(_text_of(file).split("\n"), start=1):
        if line.strip():
            _add_line(nodes, line, f"{file}, line {number}")
    if not nodes:
        raise ValueError(f"{file} holds no pictures; expected lines with image_id, image_base64 and caption")
    return list(nodes.values())


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _add_line(nodes: dict[str, ImageNode], line: str, place: str) -> None:
    try:
        record = json.loads(line)
        image_id, picture = str(record["image_id"]), record["image_base64"]
        if not isinstance(picture, str):
            raise TypeError(f"image_base64 is {picture!r:.20}")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{place}: not an object with image_id, image_base64 and caption ({error!r})") from None
    caption = _caption(record.get("caption"))
    if image_id in nodes:
        known = nodes[image_id]
        known.text = "\n".join(filter(None, [known.text, caption]))
        return
    try:
        data = decode_base64(picture, f"image_base64 of {image_id!r}")
    except ImageError as error:
        raise ImageError(f"{place}: {error}") from None
    image = base64.b64encode(data).decode("ascii")
    nodes[image_id] = PictureRecord.of(image_id, content_hash(data), image=image, text=caption)


def _caption(value: Any) -> str:
    captions = value if isinstance(value, list) else [value]
    return "\n".join(str(caption).strip() for caption in captions if caption)
