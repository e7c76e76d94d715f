"""The ``ColumnReader`` call that reads records with keys of other names, guessed from one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from llama_index_mm_zhipu.readers.addressed_pictures import path_of_address
from llama_index_mm_zhipu.readers.columns import JSON_LINES

_CAPTION_NAMES = (
    *("caption", "captions", "text", "title", "description", "desc", "name", "query", "alt"),
    *("图片描述", "描述", "标题", "说明", "图片说明", "文本", "文案", "商品名", "商品名称", "名称", "品名"),
)
_ID_NAMES = ("image_id", "id", "img_id", "picture_id", "item_id", "sku", "no", "编号", "图片编号", "商品编号", "序号")

# Data URIs, and base64 of JPEG, PNG, GIF, WebP and BMP.
_BASE64_STARTS = ("data:image", "/9j/", "iVBORw0K", "R0lGOD", "UklGR", "Qk")


def column_reader_call(fields: Mapping[str, Any], file: Path) -> str:
    """Return code that reads a file whose records look like this one, ``…`` standing for what is not evident."""
    left = dict(fields)
    columns: dict[str, str] = {}

    def take(column: str, names: tuple[str, ...], fits: Callable[[str, Any], bool]) -> None:
        by_name = {key.lower(): key for key in left}
        known = [by_name[name] for name in names if name in by_name]
        found = next((key for key in [*known, *left] if fits(key, left[key])), None)
        if found is not None:
            columns[column] = found
            del left[found]

    for source, fits in (("base64", _is_base64), ("url", _is_url), ("picture", _is_file_name)):
        if not columns:
            take(source, (), fits)
    source = next(iter(columns), "base64")
    take("caption", _CAPTION_NAMES, lambda key, value: _is_caption(value))
    take("id", _ID_NAMES, lambda key, value: key.lower() in _ID_NAMES or key.lower().endswith("_id"))
    shown = {name: repr(columns[name]) if name in columns else "…" for name in ("caption", source)}
    if "id" in columns:
        shown["id"] = repr(columns["id"])
    # ColumnReader goes by the ending.
    path = file if file.suffix.lower() in JSON_LINES else file.with_suffix(JSON_LINES[0])
    images = ", images=…" if source == "picture" else ""
    arguments = ", ".join(f"{name}={value}" for name, value in shown.items())
    renamed = f" after renaming it to {path.name}" if path != file else ""
    return f"ColumnReader(Columns({arguments})).load_data({str(path)!r}{images}){renamed}"


def _is_base64(key: str, value: Any) -> bool:
    return isinstance(value, str) and (value.startswith(_BASE64_STARTS) or _is_called(key, "base64", "b64"))


def _is_url(key: str, value: Any) -> bool:
    return isinstance(value, str) and path_of_address(value) is not None


def _is_file_name(key: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return Path(value).suffix.lower() in Image.registered_extensions() or _is_called(key, "image_path", "file_name")


def _is_caption(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _is_called(key: str, *names: str) -> bool:
    return any(name in key.lower() for name in names)
