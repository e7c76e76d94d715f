"""What GLM-OCR reads in a document: pages, their elements with boxes, and Markdown; made from the API's answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard

from llama_index_mm_zhipu.llm.errors import GLMProtocolError, new_error
from llama_index_mm_zhipu.llm.markdown import plain_lines
from llama_index_mm_zhipu.text import replace_lone_surrogates

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom as fractions of the width and height of a page."""

# Boxes in pixels may be rounded to a little outside of the page.
_TOLERANCE = 0.01
_MAX_NUMBER = 1e9
_IMAGE_LABEL = "image"


@dataclass(frozen=True)
class LayoutElement:
    """A part of a page: a paragraph, a heading, a table, a formula or an image.

    Attributes:
        label: What it is: ``"text"``, ``"table"``, ``"formula"`` or ``"image"``.
        content: Its text as Markdown, tables as HTML; for an image, nothing or the URL of a cut-out.
        box: Its place on the page: left, top, right and bottom as fractions of width and height, 0 to 1; None if the
            answer has none, or none in a known unit.

    Examples:
        >>> from llama_index_mm_zhipu.llm import LayoutParser
        >>> page = LayoutParser().parse("lecture.pdf", end_page=1).pages[0]
        >>> element = page.elements[0]
        >>> element.label, element.content, [round(side, 2) for side in element.box]
        ('text', '什么是机器学习', [0.0, 0.0, 1.0, 0.05])
    """

    label: str
    content: str
    box: Box | None

    def lines(self) -> list[tuple[str, Box | None]]:
        """Return its text as lines without Markdown, each with its share of the box.

        The API gives one box for an element, whatever its height: each line gets an equal strip of it.

        Examples:
            >>> from llama_index_mm_zhipu.llm import LayoutElement
            >>> table = "<table><tr><td>前轮</td><td>2.3</td></tr><tr><td>后轮</td><td>2.5</td></tr></table>"
            >>> LayoutElement("table", table, (0.0, 0.0, 1.0, 0.5)).lines()
            [('前轮 2.3', (0.0, 0.0, 1.0, 0.25)), ('后轮 2.5', (0.0, 0.25, 1.0, 0.5))]
        """
        lines = plain_lines(self.content) if self.label != _IMAGE_LABEL else []
        if self.box is None:
            return [(line, None) for line in lines]
        left, top, right, bottom = self.box
        height = (bottom - top) / max(1, len(lines))
        return [
            (line, (left, top + number * height, right, top + (number + 1) * height))
            for number, line in enumerate(lines)
        ]


@dataclass(frozen=True)
class LayoutPage:
    """One page of a document, or an image.

    Attributes:
        number: Number of the page in its file, from 1.
        markdown: The page as Markdown.
        elements: Its parts in reading order.

    Examples:
        >>> from llama_index_mm_zhipu.llm import LayoutParser
        >>> page = LayoutParser().parse("slides/1.jpg").pages[0]
        >>> page.number, len(page.elements)
        (1, 1)
    """

    number: int
    markdown: str
    elements: tuple[LayoutElement, ...]

    def lines(self) -> list[tuple[str, Box | None]]:
        """Return the text as lines without Markdown, with boxes (see ``LayoutElement``) where they are known.

        Examples:
            >>> from llama_index_mm_zhipu.llm import LayoutParser
            >>> page = LayoutParser().parse("lecture.pdf", end_page=1).pages[0]
            >>> [text for text, box in page.lines()][:2]
            ['什么是机器学习', '机器学习让计算机从数据中总结规律，而不是']
        """
        if self.elements:
            return [line for element in self.elements for line in element.lines()]
        return [(line, None) for line in plain_lines(self.markdown)]

    @property
    def text(self) -> str:
        """The text without Markdown."""
        return "\n".join(line for line, _ in self.lines())


@dataclass(frozen=True)
class Layout:
    """What is written in a document.

    Attributes:
        markdown: The document as Markdown.
        pages: Its pages.
        responses: The answers of the API as parsed JSON. ``Layout.of`` makes the layout from them again.

    Examples:
        >>> from llama_index_mm_zhipu.llm import Layout, LayoutParser
        >>> layout = LayoutParser().parse("lecture.pdf", end_page=2)
        >>> len(layout.pages), Layout.of(layout.responses) == layout
        (2, True)
    """

    markdown: str
    pages: tuple[LayoutPage, ...]
    responses: tuple[dict[str, Any], ...] = field(repr=False)

    @classmethod
    def of(cls, responses: Sequence[dict[str, Any]], *, first: int = 1) -> Layout:
        """Return the layout of a document from the API's answers about its pages, in order.

        Args:
            responses: Parsed answers: one, or several about consecutive ranges of pages.
            first: Number of the first page.

        Raises:
            GLMProtocolError: An answer does not have the form of the API.

        Examples:
            >>> from llama_index_mm_zhipu.llm import Layout, LayoutParser
            >>> responses = LayoutParser().parse("lecture.pdf", end_page=2).responses
            >>> [page.number for page in Layout.of(responses, first=11).pages]
            [11, 12]
        """
        pages: list[LayoutPage] = []
        for response in responses:
            pages += _pages_of(response, first + len(pages))
        markdown = "\n\n".join(filter(None, map(_markdown_of, responses)))
        return cls(markdown, tuple(pages), tuple(responses))


def _pages_of(response: dict[str, Any], first: int) -> list[LayoutPage]:
    details = response.get("layout_details")
    markdown = _markdown_of(response)
    if details is None and not isinstance(response.get("md_results"), str):
        raise _unknown_form("it has neither layout_details nor md_results")
    if not isinstance(details or [], list) or not all(isinstance(page, list) for page in details or []):
        raise _unknown_form("layout_details is not a list of pages")
    sizes = list(_page_sizes(response))
    # An image without text has an empty list of pages.
    pages = details or [[] for _ in range(max(1, len(sizes)))]
    if not details and markdown and len(pages) > 1:
        raise _unknown_form(f"its Markdown is not divided into the {len(pages)} pages")
    sizes += [None] * (len(pages) - len(sizes))
    elements = [
        tuple(_element(each, size) for each in page) for page, size in zip(pages, sizes[: len(pages)], strict=True)
    ]
    return [
        LayoutPage(number, markdown if len(pages) == 1 else _joined(page), page)
        for number, page in enumerate(elements, first)
    ]


def _markdown_of(response: dict[str, Any]) -> str:
    markdown = response.get("md_results")
    return replace_lone_surrogates(markdown) if isinstance(markdown, str) else ""


def _page_sizes(response: dict[str, Any]) -> Iterator[tuple[float, float] | None]:
    """Yield width and height of each page in pixels, or None if they are not known."""
    info = response.get("data_info")
    pages = info.get("pages") if isinstance(info, dict) else None
    for page in pages if isinstance(pages, list) else ():
        yield _size(page)


def _size(described: Any) -> tuple[float, float] | None:
    width, height = (described.get(name) if isinstance(described, dict) else None for name in ("width", "height"))
    return (width, height) if _is_number(width) and _is_number(height) and width > 0 and height > 0 else None


def _element(described: Any, page_size: tuple[float, float] | None) -> LayoutElement:
    content = described.get("content") if isinstance(described, dict) else 0
    if not isinstance(content, str | None):
        raise _unknown_form("an element of layout_details is not an object with text as its content")
    return LayoutElement(
        label=str(described.get("label") or "text"),
        content=replace_lone_surrogates(content or ""),
        # Elements hold the size of their page as well.
        box=_box(described.get("bbox_2d"), page_size or _size(described)),
    )


def _box(box: Any, page_size: tuple[float, float] | None) -> Box | None:
    """Return a box in fractions, or None.

    The documentation shows fractions, and the service was reported to send pixels.
    """
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return None
    if max(box) > 1:
        if page_size is None:
            return None
        box = [edge / side for edge, side in zip(box, page_size * 2, strict=True)]
    if not all(-_TOLERANCE <= edge <= 1 + _TOLERANCE for edge in box):
        return None
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in box)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _is_number(value: Any) -> TypeGuard[float]:
    # Comparisons with NaN are false, and ``math.isfinite`` raises an error for huge integers.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER


def _joined(elements: Sequence[LayoutElement]) -> str:
    return "\n\n".join(element.content for element in elements if element.content and element.label != _IMAGE_LABEL)


def _unknown_form(what: str) -> GLMProtocolError:
    return new_error(GLMProtocolError, f"the answer is not of the form of layout_parsing: {what}")
