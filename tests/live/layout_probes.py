"""Probes of assumptions about GLM-OCR (``layout_parsing``), which is not free of charge."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

from live_api import Api
from live_images import encoded_file_of
from PIL import Image, ImageDraw, ImageFont
from probe import ANSWERED, Ask, Probe

from llama_index_mm_zhipu.llm import GLMError, LayoutParser
from llama_index_mm_zhipu.llm.layout_parsing import MAX_IMAGE_BYTES, PATH

LECTURE = Path(__file__).parents[2] / "examples" / "cases" / "lecture.pdf"
# From the reference of Zhipu's documentation.
IMAGE_URL = "https://cdn.bigmodel.cn/static/logo/introduction.png"


def _page() -> bytes:
    """Return an image of some words as a PNG."""
    image = Image.new("RGB", (800, 600), "white")
    draw = ImageDraw.Draw(image)
    draw.text((80, 60), "Tyre pressure", fill="black", font=ImageFont.load_default(48))
    draw.text((80, 300), "Measure it when the tyres are cold.", fill="black", font=ImageFont.load_default(28))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _uri(data: bytes, mime_type: str = "image/png") -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


def _body(file: Any, **fields: Any) -> dict[str, Any]:
    body = {"model": "glm-ocr", "file": file, **fields}
    return {name: value for name, value in body.items() if value is not None}


def _count_of_pages(file: Any, **fields: Any) -> Ask:
    return lambda api: f"{len(api.post(_body(file, **fields), path=PATH)['layout_details'])} pages"


def _form_of_boxes(api: Api) -> str:
    answer = api.post(_body(_uri(_page())), path=PATH)
    edges = [edge for page in answer["layout_details"] for each in page for edge in each.get("bbox_2d") or []]
    sizes = [(page["width"], page["height"]) for page in answer["data_info"]["pages"]]
    if not edges:
        return "no boxes"
    return f"boxes in {'pixels' if max(edges) > 1 else 'fractions'}, {len(sizes)} page of {sizes[0][0]}×{sizes[0][1]}"


def _through_package(api: Api) -> str:
    parser = LayoutParser(api_key=api.key, api_base=api.base)
    try:
        (page,) = parser.parse(_page()).pages
    except GLMError as error:
        return f"{type(error).__name__}, {error}"
    finally:
        parser.close()
    boxes = "boxes" if any(box is not None for _, box in page.lines()) else "no boxes"
    return f"{ANSWERED}, {boxes}, {'usage' if parser.usage.total_tokens else 'no usage'}"


_PDF = _uri(LECTURE.read_bytes(), "application/pdf")

LAYOUT_PROBES = [
    Probe("GLM-OCR: image", "D: one page", "1 pages", _count_of_pages(_uri(_page()))),
    Probe(
        "GLM-OCR: boxes",
        "D: fractions, R: pixels of a page whose size is in data_info",
        "boxes in pixels, 1 page of 800×600",
        _form_of_boxes,
    ),
    Probe("GLM-OCR: URL", "D: URLs are fetched", "1 pages", _count_of_pages(IMAGE_URL)),
    Probe(
        "GLM-OCR: bare base64",
        "D: taken, L: refused with 1214",
        "400 1214 file 参数非法。请检查文档。",
        _count_of_pages(base64.b64encode(_page()).decode()),
    ),
    Probe("GLM-OCR: PDF", "D: all pages", "10 pages", _count_of_pages(_PDF)),
    Probe(
        "GLM-OCR: pages 2 to 3",
        "D: start_page_id and end_page_id from 1, ?: both count",
        "2 pages",
        _count_of_pages(_PDF, start_page_id=2, end_page_id=3),
    ),
    Probe(
        "GLM-OCR: page 11 of 10",
        "?: refused",
        "400 1210 API 调用参数有误，请检查文档。",
        _count_of_pages(_PDF, start_page_id=11, end_page_id=11),
    ),
    Probe(
        "GLM-OCR: image above 10 MB",
        "D: at most 10 MB, ?: in these words",
        "400 1210 文件大小超过限制",
        lambda api: _count_of_pages(_uri(base64.b64decode(encoded_file_of(MAX_IMAGE_BYTES + 1))))(api),
    ),
    Probe("GLM-OCR: no file", "D: file is required", "400 1213 未正常接收到file参数。", _count_of_pages(None)),
    Probe(
        "GLM-OCR: unknown model",
        "D: 1211",
        "400 1211 模型不存在，请检查模型代码。",
        _count_of_pages(_uri(_page()), model="glm-ocr-none"),
    ),
    Probe("GLM-OCR: this package", "D: text with boxes", f"{ANSWERED}, boxes, usage", _through_package),
]
