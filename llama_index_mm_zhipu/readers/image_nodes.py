"""Images that a data set holds in base64."""

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
from llama_index_mm_zhipu.readers.parsing.json import described, is_no_number
from llama_index_mm_zhipu.readers.records import ImageRecord, RecordError, content_hash
from llama_index_mm_zhipu.text import replace_lone_surrogates

_MAX_EXACT = 2**53


def image_id_of(value: object, place: str, key: str) -> str | RecordError:
    """Return an id as a string, or the error of a record without one.

    Args:
        value: A string or an integer; other values of JSON are no ids.
        place: File and line.
        key: Under which the record holds it, for the error.
    """
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    try:
        text.encode()
    except UnicodeEncodeError:
        return RecordError(f"{place}: the image id is {value!r:.40}, under {key}, with half of a character")
    if text:
        return text
    return RecordError(
        f"{place}: the image id is {described(value)}, under {key}; an id is a string or an integer{_remedy(value)}"
    )


def _remedy(value: object) -> str:
    if value is None or is_no_number(value):
        return ", and is missing here"
    if isinstance(value, str):
        return ", and is empty here"
    if not isinstance(value, float) or not value.is_integer():
        return ""
    # pandas turns a column of integers into one of floats where a value is missing.
    if abs(value) <= _MAX_EXACT:
        return f": write {int(value)} (in pandas, astype(int), or astype('Int64') where ids are missing)"
    return ": write it as a string, as a float of this size has lost digits (in pandas, read the column as str)"


@dataclass
class Captions:
    """Captions by image id, a line each, and where each id was named first."""

    by_id: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def add(self, image_id: str, text: str, place: str) -> None:
        """Add a caption; line ends in it become blanks."""
        self.places.setdefault(image_id, place)
        self.by_id[image_id] = "\n".join(filter(None, [self.by_id.get(image_id), in_one_line(text)]))


def joined(captions: Iterable[str]) -> str:
    """Return captions as a node holds them, a line each; blank ones are left out."""
    return "\n".join(filter(None, map(in_one_line, captions)))


def captions_in(value: object, key: str, place: str) -> list[str] | RecordError:
    """Return the captions in a value of JSON, or the error of a value that holds something else.

    Args:
        value: Text or a number, a list of these, or what stands for no caption: null, NaN, as pandas writes it, or
            false.
        key: Of the value, for the error.
        place: File and line.
    """
    captions = []
    for caption in value if isinstance(value, list) else [value]:
        if isinstance(caption, str):
            captions.append(caption)
        elif caption and not is_no_number(caption):
            if isinstance(caption, bool) or not isinstance(caption, int | float):
                return RecordError(f"{place}: {key} holds {described(caption)}, not a caption or a list of captions")
            captions.append(str(caption))
    return list(filter(None, captions))


def in_one_line(text: str) -> str:
    """Return a caption without line ends, as nodes hold a caption a line."""
    return " ".join(filter(None, map(str.strip, replace_lone_surrogates(text).splitlines())))


def image_of_file(
    node_id: str, folder: Path, name: str, caption: str, place: str, metadata: dict[str, Any] | None = None
) -> ImageNode | RecordError:
    """Make the node of an image file, or the error of a record whose file is missing.

    Args:
        node_id: The image's id.
        folder: Of the images.
        name: Path of the file within it: data sets are other people's, and lead nowhere else.
        caption: Its captions, a line each.
        place: File and line of the record.
        metadata: What else to say of it.
    """
    path = PurePath(name)
    if not name or ".." in path.parts or path.anchor:
        return RecordError(f"{place}: {name!r} is no image within {folder}")
    file = folder / name
    try:
        digest = content_hash(read_file(file))
    except ImageError as error:
        if not os.path.lexists(file):
            return RecordError(f"{place}: there is no image {str(file)!r}; check the folder of the images")
        return RecordError(f"{place}: {error}")
    return ImageRecord.of(node_id, digest, image_path=str(file.absolute()), text=caption, metadata=metadata)


def inline_image(
    node_id: str, encoded: object, caption: str, place: str, metadata: dict[str, Any] | None = None
) -> ImageNode | RecordError:
    """Make the node of an image given in base64, or the error of its record.

    Args:
        node_id: The image's id.
        encoded: Base64, with or without the head of a data URI.
        caption: Its captions, a line each.
        place: File and line.
        metadata: What else to say of it.
    """
    if not isinstance(encoded, str):
        spelled = described(encoded) if is_no_number(encoded) else f"{encoded!r:.40}"
        return RecordError(f"{place}: the image of {node_id!r} is {spelled}, not base64")
    try:
        data = decode_base64(encoded, f"the image of {node_id!r}")
    except ImageError:
        return RecordError(f"{place}: the image of {node_id!r} is not base64")
    if sniff_format(data) is None:
        return RecordError(f"{place}: what is in base64 for {node_id!r} is no image that Pillow can read")
    image = base64.b64encode(data).decode("ascii")
    return ImageRecord.of(node_id, content_hash(data), image=image, text=caption, metadata=metadata)


def addressed_image(
    node_id: str, url: object, caption: str, place: str, metadata: dict[str, Any] | None = None
) -> ImageNode | RecordError:
    """Make the node of an image on the web, which is fetched when it is embedded, or the error of its record.

    Args:
        node_id: The image's id.
        url: Its address.
        caption: Its captions, a line each.
        place: File and line.
        metadata: What else to say of it.
    """
    if is_no_number(url):
        return RecordError(f"{place}: {described(url)} is no http address of an image")
    address = str(url or "").strip()
    if path_of_address(address) is None:
        return RecordError(f"{place}: {address!r:.80} is no http address of an image")
    return ImageRecord.of(node_id, None, image_url=address, text=caption, metadata=metadata)


def path_of_address(value: str) -> str | None:
    """Return the path of an http(s) address, or None for what is none."""
    try:
        address = urlsplit(value)
    except ValueError:
        return None
    return address.path if address.scheme in ("http", "https") and address.netloc else None
