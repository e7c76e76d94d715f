"""Image nodes from the values of a record: ids, captions, and images as files, base64 or URLs."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.images import ImageError, decode_base64, read_file, sniff_format
from llama_index_mm_zhipu.readers.json import describe_value, is_not_finite
from llama_index_mm_zhipu.readers.records import ImageRecord, RecordError, content_hash
from llama_index_mm_zhipu.text import replace_lone_surrogates

_MAX_EXACT_INTEGER = 2**53
"""Integers up to this one have an exact float."""


@dataclass
class Captions:
    """Captions of the images of a data set.

    Attributes:
        by_id: Captions by image id, one a line.
        positions: File and line that first named each image id.
    """

    by_id: dict[str, str] = field(default_factory=dict)
    positions: dict[str, str] = field(default_factory=dict)

    def add(self, image_id: str, text: str, position: str) -> None:
        """Add a caption to an image; its line breaks become blanks."""
        self.positions.setdefault(image_id, position)
        self.by_id[image_id] = "\n".join(filter(None, [self.by_id.get(image_id), without_line_breaks(text)]))


def image_id_of(value: object, position: str, key: str) -> str | RecordError:
    """Return an image id as a string, or the error of a record without a valid id.

    Args:
        value: A string or an integer; other JSON values are not ids.
        position: File and line.
        key: Key of the id in the record, for the error.
    """
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    try:
        text.encode()
    except UnicodeEncodeError:
        return RecordError(position, f"the image id is {value!r:.40}, under {key}, with half of a character")
    if text:
        return text
    return RecordError(
        position,
        f"the image id is {describe_value(value)}, under {key}; an id is a string or an integer{_id_advice(value)}",
    )


def _id_advice(value: object) -> str:
    if value is None or is_not_finite(value):
        return ", and is missing here"
    if isinstance(value, str):
        return ", and is empty here"
    if not isinstance(value, float) or not value.is_integer():
        return ""
    # pandas converts a column of integers to floats if one value is missing.
    if abs(value) <= _MAX_EXACT_INTEGER:
        return f": write {int(value)} (in pandas, astype(int), or astype('Int64') where ids are missing)"
    return ": write it as a string, as a float of this size has lost digits (in pandas, read the column as str)"


def captions_of(value: object, key: str, position: str) -> list[str] | RecordError:
    """Return the captions in a JSON value, or the error of a value that is not a caption.

    Args:
        value: A string or a number, or a list of them. Null, false and NaN, which pandas writes for missing values,
            mean that there is no caption.
        key: Key of the value in the record, for the error.
        position: File and line.
    """
    captions = []
    for caption in value if isinstance(value, list) else [value]:
        if isinstance(caption, str):
            captions.append(caption)
        elif caption and not is_not_finite(caption):
            if isinstance(caption, bool) or not isinstance(caption, int | float):
                return RecordError(
                    position, f"{key} holds {describe_value(caption)}, not a caption or a list of captions"
                )
            captions.append(str(caption))
    return list(filter(None, captions))


def join_captions(captions: Iterable[str]) -> str:
    """Return captions as the text of a node, one a line, without blank ones."""
    return "\n".join(filter(None, map(without_line_breaks, captions)))


def without_line_breaks(caption: str) -> str:
    """Return a caption on one line, with blanks for line breaks."""
    return " ".join(filter(None, map(str.strip, replace_lone_surrogates(caption).splitlines())))


def image_of_file(
    node_id: str, folder: Path, name: str, caption: str, position: str, metadata: dict[str, Any] | None = None
) -> ImageNode | RecordError:
    """Return the node of an image file, or the error of a record whose file cannot be read.

    Args:
        node_id: Id of the image.
        folder: Folder of the images.
        name: Path of the file in the folder; a path that leads out of it is an error, as data sets are not trusted.
        caption: Captions, one a line.
        position: File and line of the record.
        metadata: Further metadata.
    """
    path = PurePath(name)
    if not name or ".." in path.parts or path.anchor:
        return RecordError(position, f"{name!r} is not an image within {folder}")
    file = folder / name
    try:
        digest = content_hash(read_file(file))
    except ImageError as error:
        if not os.path.lexists(file):
            return RecordError(position, f"there is no image {str(file)!r}; check the folder of the images")
        return RecordError(position, str(error))
    return ImageRecord.of(node_id, digest, image_path=str(file.absolute()), text=caption, metadata=metadata)


def image_of_base64(
    node_id: str, encoded: object, caption: str, position: str, metadata: dict[str, Any] | None = None
) -> ImageNode | RecordError:
    """Return the node of an image in base64, or the error of its record.

    Args:
        node_id: Id of the image.
        encoded: Base64, which may have the prefix of a data URI.
        caption: Captions, one a line.
        position: File and line of the record.
        metadata: Further metadata.
    """
    if not isinstance(encoded, str):
        spelled = describe_value(encoded) if is_not_finite(encoded) else f"{encoded!r:.40}"
        return RecordError(position, f"the image of {node_id!r} is {spelled}, not base64")
    try:
        data = decode_base64(encoded, f"the image of {node_id!r}")
    except ImageError:
        return RecordError(position, f"the image of {node_id!r} is not base64")
    return image_of_bytes(node_id, data, caption, position, metadata, form="base64")


def image_of_bytes(
    node_id: str,
    data: bytes,
    caption: str,
    position: str,
    metadata: dict[str, Any] | None = None,
    *,
    form: str = "content",
) -> ImageNode | RecordError:
    """Return the node of an encoded image, which the node holds in base64, or the error of its record.

    Args:
        node_id: Id of the image.
        data: The encoded image.
        caption: Captions, one a line.
        position: File and line of the record.
        metadata: Further metadata.
        form: What the record holds, for the error.
    """
    if sniff_format(data) is None:
        return RecordError(position, f"the {form} of {node_id!r} is not an image that Pillow can read")
    image = base64.b64encode(data).decode("ascii")
    return ImageRecord.of(node_id, content_hash(data), image=image, text=caption, metadata=metadata)


def image_of_url(
    node_id: str, url: object, caption: str, position: str, metadata: dict[str, Any] | None = None
) -> ImageNode | RecordError:
    """Return the node of an image at a URL, which the embedding fetches, or the error of its record.

    Args:
        node_id: Id of the image.
        url: An http(s) URL.
        caption: Captions, one a line.
        position: File and line of the record.
        metadata: Further metadata.
    """
    if is_not_finite(url):
        return RecordError(position, f"{describe_value(url)} is not an http URL of an image")
    text = str(url or "").strip()
    if path_of_url(text) is None:
        return RecordError(position, f"{text!r:.80} is not an http URL of an image")
    return ImageRecord.of(node_id, None, image_url=text, text=caption, metadata=metadata)


def path_of_url(value: str) -> str | None:
    """Return the path of an http(s) URL, or None for any other string."""
    try:
        url = urlsplit(value)
    except ValueError:
        return None
    return url.path if url.scheme in ("http", "https") and url.netloc else None


MAX_LONGEST_SIDE = 8192
"""Limit for the longer side of images that readers make, in pixels: ``images`` would not open a larger square."""


def image_fields(data: bytes, file: Path | None) -> dict[str, str]:
    """Return the field of a node that holds an image, in base64, or refers to it.

    Args:
        data: The encoded image.
        file: File to write the image to, for a node that refers to it; its folders are created. None for a node that
            holds the image.
    """
    if file is None:
        return {"image": base64.b64encode(data).decode("ascii")}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return {"image_path": str(file)}
