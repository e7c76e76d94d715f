"""GLM-OCR (``layout_parsing``) of the mock server: checks a request, and answers by a rule instead of a model.

What the service says to a file that is too large, and to other requests that it refuses, is not documented: the codes
are those of similar refusals of the API.
"""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeAlias

from PIL import Image

from llama_index_mm_zhipu.llm.layout_parsing import MAX_IMAGE_BYTES, MAX_PAGES, MAX_PDF_BYTES
from llama_index_mm_zhipu.readers.pdf import pdfium_lock
from llama_index_mm_zhipu.testing.wire import Refusal, bad_parameter, base64_of, invalid_field, is_url

_MODEL = "glm-ocr"
_PDF_MARK = b"%PDF-"
_PIXELS_PER_POINT = 200 / 72
_SIZE_OF_URLS = (600, 800)


@dataclass(frozen=True)
class SentPage:
    """A page of a PDF file that the mock server was sent, or an image.

    Attributes:
        number: Number of the page in its file, from 1.
        width: Width in pixels.
        height: Height in pixels.
        text: Text layer of the page; empty for images.
        image: The image; None for pages and for URLs, which are not fetched.

    Examples:
        >>> from llama_index_mm_zhipu.llm import LayoutParser
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, SentPage
        >>> def title(page: SentPage) -> list[dict]:
        ...     return [{"label": "text", "content": f"第 {page.number} 页", "bbox_2d": [0, 0, page.width, 40]}]
        >>> with MockGLMServer(layout=title) as server:
        ...     LayoutParser(api_base=server.url).parse("lecture.pdf", end_page=2).pages[1].text
        '第 2 页'
    """

    number: int
    width: int
    height: int
    text: str = ""
    image: Image.Image | None = None


LayoutRule: TypeAlias = Callable[[SentPage], Sequence[Mapping[str, Any]]]
"""Returns the elements of a page as the API describes them: ``label``, ``content`` and ``bbox_2d`` in pixels."""


def elements_of(page: SentPage) -> list[dict[str, Any]]:
    """Return an element for each line of the text layer, one below the other; without a text layer, a description."""
    lines = page.text.splitlines() or [_description(page)]
    height = page.height / len(lines)
    return [
        {"label": "text", "content": line, "bbox_2d": [0, round(row * height), page.width, round((row + 1) * height)]}
        for row, line in enumerate(lines)
    ]


def layout_answer_to(request: Mapping[str, Any], rule: LayoutRule) -> dict[str, Any]:
    """Return the answer to a request.

    Raises:
        Refusal: The API would refuse the request.
    """
    if not isinstance(request.get("model"), str) or request["model"].lower() != _MODEL:
        raise Refusal(400, "1211", "模型不存在，请检查模型代码。")
    pages = _pages_in(request)
    details = [[_element(each, index, page) for index, each in enumerate(rule(page), 1)] for page in pages]
    markdown = [_markdown(each, page) for page, elements in enumerate(details) for each in elements]
    tokens = {"prompt_tokens": 1_000 * len(pages), "completion_tokens": sum(map(len, markdown))}
    return {
        "id": uuid.uuid4().hex,
        "created": int(time.time()),
        "model": "GLM-OCR",
        "md_results": "\n\n".join(filter(None, markdown)),
        "layout_details": details,
        "layout_visualization": [],
        "data_info": {
            "num_pages": len(pages),
            "pages": [{"width": page.width, "height": page.height} for page in pages],
        },
        "usage": {**tokens, "total_tokens": sum(tokens.values())},
        "request_id": request.get("request_id") or uuid.uuid4().hex,
    }


def _pages_in(request: Mapping[str, Any]) -> list[SentPage]:
    file = request.get("file")
    if file is None:
        raise Refusal(400, "1213", "未正常接收到file参数。")
    if not isinstance(file, str):
        raise invalid_field("file")
    if is_url(file):
        return [SentPage(1, *_SIZE_OF_URLS)]
    # The service was reported to refuse bare base64 with these words.
    if not file.startswith("data:"):
        raise invalid_field("file")
    try:
        data = base64.b64decode(base64_of(file), validate=True)
    except binascii.Error:
        raise invalid_field("file") from None
    if not data.startswith(_PDF_MARK):
        return [_sent_image(data)]
    if len(data) > MAX_PDF_BYTES:
        raise _too_large()
    return list(_sent_pages(data, request))


def _sent_image(data: bytes) -> SentPage:
    if len(data) > MAX_IMAGE_BYTES:
        raise _too_large()
    try:
        image = Image.open(BytesIO(data), formats=("JPEG", "PNG"))
        image.load()
    # Pillow raises any of these for damaged files.
    except (OSError, SyntaxError, Image.DecompressionBombError):
        raise Refusal(400, "1210", "图片输入格式/解析错误") from None
    return SentPage(1, *image.size, image=image)


def _sent_pages(data: bytes, request: Mapping[str, Any]) -> Iterator[SentPage]:
    """Yield the pages that a request asks for."""
    try:
        from pypdfium2 import PdfDocument, PdfiumError
    except ImportError:
        needed = 'the mock server needs pypdfium2 for PDF files: pip install "llama-index-mm-zhipu[pages]"'
        raise Refusal(500, "1234", needed) from None
    with pdfium_lock:
        try:
            document = PdfDocument(data)
        except PdfiumError:
            raise Refusal(400, "1210", "文件输入格式/解析错误") from None
        with closing(document):
            for number in _numbers(request, len(document)):
                with closing(document[number - 1]) as page, closing(page.get_textpage()) as layer:
                    width, height = (round(side * _PIXELS_PER_POINT) for side in page.get_size())
                    yield SentPage(number, width, height, layer.get_text_bounded())


def _numbers(request: Mapping[str, Any], count: int) -> range:
    start, end = (request.get(name) for name in ("start_page_id", "end_page_id"))
    start, end = 1 if start is None else start, count if end is None else end
    if not all(type(value) is int and 1 <= value <= count for value in (start, end)) or end < start:
        raise bad_parameter()
    if end - start >= MAX_PAGES:
        raise Refusal(400, "1210", "文件页数超过限制")
    return range(start, end + 1)


def _element(described: Mapping[str, Any], index: int, page: SentPage) -> dict[str, Any]:
    return {"index": index, "label": "text", "height": page.height, "width": page.width, **described}


def _markdown(element: Mapping[str, Any], page: int) -> str:
    if element["label"] == "image":
        return f"![](page={page},bbox={list(element.get('bbox_2d') or [])})"
    return str(element.get("content") or "")


def _description(page: SentPage) -> str:
    if page.image is None:
        return "（本地模拟服务，不是模型）没有文字层的页面"
    return f"（本地模拟服务，不是模型）{page.image.format} {page.width}×{page.height}"


def _too_large() -> Refusal:
    return Refusal(400, "1210", "文件大小超过限制")
