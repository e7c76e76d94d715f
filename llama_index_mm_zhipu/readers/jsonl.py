"""``JsonlReader``: images in base64 with captions, one JSON object per line.

A line is ``{"image_id": "1", "image_base64": "/9j/…", "caption": "一只猫"}``. For files with other keys, errors suggest
the call of ``ColumnReader`` that reads them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llama_index.core.schema import ImageNode
from PIL import Image

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.columns import JSON_LINES
from llama_index_mm_zhipu.readers.encodings import normalize_encoding, resolve_encoding
from llama_index_mm_zhipu.readers.image_nodes import Captions, captions_of, image_id_of, image_of_base64, path_of_url
from llama_index_mm_zhipu.readers.json import parse_object, storable
from llama_index_mm_zhipu.readers.lines import LineOrError, Record, RecordOrError, read_lines
from llama_index_mm_zhipu.readers.records import RESERVED_KEYS, RecordError
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)

_ID, _IMAGE, _CAPTION = "image_id", "image_base64", "caption"
_EXPECTED = f"an object with {_ID}, {_IMAGE} and {_CAPTION}"


class JsonlReader(ImageReader):
    """Reads a JSON Lines file with images in base64.

    An id is a number or a string, a caption a string, a list or null. Several lines with the same id add their
    captions. Other keys become metadata, taken from the first valid line of an id. The file is read twice, because
    captions of an image may be on any line; only captions are kept in memory. Node ids end with the image ids. Use
    ``ColumnReader`` for files with other keys.

    Args:
        encoding: Encoding of the file, such as ``"gb18030"`` (GBK). None detects UTF-8, UTF-16 with a byte order mark,
            and GB18030, which is a guess and logged as a warning; detection reads the file once more.
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Raises:
        ValueError: The encoding is unknown.

    Examples:
        >>> from llama_index_mm_zhipu.readers import JsonlReader
        >>> nodes = JsonlReader(on_error="skip").load_data("goods.jsonl")
        >>> len(nodes), nodes[0].text
        (12, '红苹果')
    """

    def __init__(
        self,
        *,
        encoding: str | None = None,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        self.encoding = normalize_encoding(encoding)

    def captions(self, path: str | Path) -> Iterator[str]:
        """Yield the caption of each image, empty if it has none, without decoding the images.

        Args:
            path: The file.

        Raises:
            FileNotFoundError: There is no such file.

        Examples:
            >>> from llama_index_mm_zhipu.readers import JsonlReader
            >>> list(JsonlReader().captions("goods.jsonl"))[:3]
            ['红苹果', '汽车', '猫']
        """
        file = Path(path).expanduser()
        yield from _gather_captions(file, resolve_encoding(file, self.encoding)).by_id.values()

    def _records(self, path: str | Path) -> Iterator[NodeOrError]:
        file = Path(path).expanduser()
        encoding = resolve_encoding(file, self.encoding)
        captions = _gather_captions(file, encoding).by_id
        images: dict[str, int] = {}
        for line in read_lines(file, self.show_progress, encoding):
            record = _parse(line, file)
            if isinstance(record, RecordError):
                yield record
                continue
            image_id, texts = _id_and_captions(record)
            if isinstance(image_id, RecordError):
                yield image_id
            elif isinstance(texts, RecordError):
                yield texts
            elif image_id in captions:
                node = _node(image_id, record, captions[image_id])
                if not isinstance(node, RecordError):
                    # The node has the captions of all lines of this id, so later lines yield no node.
                    del captions[image_id]
                    images[image_id] = _hash_of_base64(record)
                yield node
            elif images.get(image_id) != _hash_of_base64(record):
                yield RecordError(record.position, f"the {_ID} {image_id!r} is listed twice, with different images")

    def _empty_message(self, path: str | Path) -> str:
        return f"{path} holds no images; expected lines with image_id, image_base64 and caption"


@explicit_arguments
def read_jsonl(
    path: str | Path, *, encoding: str | None = None, id_prefix: str | None = None, show_progress: bool = False
) -> list[ImageNode]:
    """Return images with captions from a JSON Lines file: short for ``JsonlReader(…).load_data(path)``.

    Args:
        path: File of lines such as ``{"image_id": "1", "image_base64": "/9j/…", "caption": "一只猫"}``; other keys
            become metadata.
        encoding: Encoding of the file, such as ``"gb18030"`` (GBK); None detects it as ``JsonlReader`` does.
        id_prefix: Prefix of node ids, without the slash. The default consists of the name of the file and a hash of its
            path, so that images of two files never replace each other.
        show_progress: Whether to show a progress bar.

    Returns:
        One node per image, in the order of the file.

    Raises:
        ValueError: A line is not such an object, or the file contains no images. The message names file and line, and
            for other keys the call of ``ColumnReader`` that reads them.

    Examples:
        >>> nodes = read_jsonl("goods.jsonl", id_prefix="shop")
        >>> len(nodes), nodes[0].node_id, nodes[0].text
        (12, 'shop/1', '红苹果')
    """
    return JsonlReader(encoding=encoding, id_prefix=id_prefix, show_progress=show_progress).load_data(path)


def _gather_captions(file: Path, encoding: str | None) -> Captions:
    captions = Captions()
    example: Record | None = None
    has_caption_key = False
    for line in read_lines(file, encoding=encoding):
        record = _parse(line, file)
        if isinstance(record, RecordError):
            continue
        example = example or record
        has_caption_key = has_caption_key or _CAPTION in record.fields
        image_id, texts = _id_and_captions(record)
        if not isinstance(image_id, RecordError) and not isinstance(texts, RecordError):
            for text in texts or [""]:
                captions.add(image_id, text, record.position)
    if example is not None and not has_caption_key and len(example.fields) > len((_ID, _IMAGE)):
        logger.warning(
            "no line of %s has the key %s, but %s: its images have no captions; %s reads them from another key",
            one_line(str(file)),
            _CAPTION,
            ", ".join(example.fields),
            _column_reader_call(example.fields, file),
        )
    return captions


def _parse(line: LineOrError, file: Path) -> RecordOrError:
    record = parse_object(line, _EXPECTED)
    if isinstance(record, RecordError) or {_ID, _IMAGE} <= record.fields.keys():
        return record
    keys = ", ".join(record.fields)
    hint = f"; read other keys with {_column_reader_call(record.fields, file)}" if keys else ""
    return RecordError(record.position, f"not {_EXPECTED}, but with {keys or 'no key'}{hint}")


def _id_and_captions(record: Record) -> tuple[str | RecordError, list[str] | RecordError]:
    image_id = image_id_of(record.fields[_ID], record.position, _ID)
    return image_id, captions_of(record.fields.get(_CAPTION), _CAPTION, record.position)


def _node(image_id: str, record: Record, caption: str) -> NodeOrError:
    metadata = {key: value for key, value in record.fields.items() if key not in (_ID, _IMAGE, _CAPTION)}
    if reserved := RESERVED_KEYS.intersection(metadata):
        return RecordError(
            record.position, f"the key {min(reserved)!r} is one of this package's own metadata; rename it"
        )
    return image_of_base64(image_id, record.fields[_IMAGE], caption, record.position, storable(metadata))


def _hash_of_base64(record: Record) -> int:
    """Return a hash by which lines with the same image are recognized without decoding them."""
    return hash(str(record.fields[_IMAGE]))


# The call of ColumnReader that is suggested for other keys

_CAPTION_NAMES = (
    *("caption", "captions", "text", "title", "description", "desc", "name", "query", "alt"),
    *("图片描述", "描述", "标题", "说明", "图片说明", "文本", "文案", "商品名", "商品名称", "名称", "品名"),
)
_ID_NAMES = ("image_id", "id", "img_id", "picture_id", "item_id", "sku", "no", "编号", "图片编号", "商品编号", "序号")

# Data URIs, and base64 of JPEG, PNG, GIF, WebP and BMP.
_BASE64_PREFIXES = ("data:image", "/9j/", "iVBORw0K", "R0lGOD", "UklGR", "Qk")


def _column_reader_call(fields: Mapping[str, Any], file: Path) -> str:
    """Return code that reads a file with records like this one, with ``…`` for columns that cannot be guessed."""
    remaining = dict(fields)
    columns: dict[str, str] = {}

    def assign(column: str, names: tuple[str, ...], fits: Callable[[str, Any], bool]) -> None:
        """Assign the first fitting key to a column, preferring certain names."""
        by_name = {key.lower(): key for key in remaining}
        preferred = [by_name[name] for name in names if name in by_name]
        found = next((key for key in [*preferred, *remaining] if fits(key, remaining[key])), None)
        if found is not None:
            columns[column] = found
            del remaining[found]

    for source, fits in (("base64", _is_base64), ("url", _is_url), ("image", _is_file_name)):
        if not columns:
            assign(source, (), fits)
    source = next(iter(columns), "base64")
    assign("caption", _CAPTION_NAMES, lambda key, value: _is_caption(value))
    assign("id", _ID_NAMES, lambda key, value: key.lower() in _ID_NAMES or key.lower().endswith("_id"))
    shown = {name: repr(columns[name]) if name in columns else "…" for name in ("caption", source)}
    if "id" in columns:
        shown["id"] = repr(columns["id"])
    # ColumnReader recognizes formats by the suffix.
    path = file if file.suffix.lower() in JSON_LINES else file.with_suffix(JSON_LINES[0])
    images = ", images=…" if source == "image" else ""
    arguments = ", ".join(f"{name}={value}" for name, value in shown.items())
    renamed = f" after renaming it to {path.name}" if path != file else ""
    return f"ColumnReader(Columns({arguments})).load_data({str(path)!r}{images}){renamed}"


def _is_base64(key: str, value: Any) -> bool:
    return isinstance(value, str) and (value.startswith(_BASE64_PREFIXES) or _has_name(key, "base64", "b64"))


def _is_url(key: str, value: Any) -> bool:
    return isinstance(value, str) and path_of_url(value) is not None


def _is_file_name(key: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return Path(value).suffix.lower() in Image.registered_extensions() or _has_name(key, "image_path", "file_name")


def _is_caption(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _has_name(key: str, *names: str) -> bool:
    return any(name in key.lower() for name in names)
