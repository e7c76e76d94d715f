"""``plot_results``: a query and the images that were found, as one matplotlib figure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import NodeWithScore
from PIL import Image

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.display.results import Query, language_of, query_parts, results_of
from llama_index_mm_zhipu.images import ImageError, UrlRules, caption_of, has_image, load_image, page_text_of
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.readers.records import time_of
from llama_index_mm_zhipu.types import Language

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from llama_index_mm_zhipu.display.figure import Font

_TILE_INCHES = 2.3
_GAP_INCHES = 0.2
# Three lines of 10 points.
_TITLE_INCHES = 0.8
_LINE_SPACING = 1.35
_MAX_SIDE = 720
_TITLE_COLUMNS = 26
_TITLE_LINES = 2
_QUERY_COLUMNS = 20
_QUERY_LINES = 6
_REASON_COLUMNS = 30
_REASON_LINES = 10


@explicit_arguments
def plot_results(
    query: Query,
    results: Any,
    *,
    columns: int = 5,
    language: Language | None = None,
    font: str | Path | None = None,
    allow_urls: bool = False,
    allow_private_urls: bool = False,
) -> Figure:
    """Plot a query and the images that were found, best first, with scores, captions, and the times of video frames.

    A notebook displays the figure if it is the last line of a cell.

    Args:
        query: The words of the query; its image, in any form that ``images.load_image`` accepts; or a ``QueryBundle``
            of both. A string that is not an image counts as words. None plots the results alone.
        results: Nodes with or without scores, retriever output, a response with ``source_nodes``, or images given as
            path, URL, ``bytes`` or ``PIL.Image``. Nodes without an image are left out. If an image cannot be read, its
            tile shows the reason.
        columns: Number of images in a row.
        language: Language of the word above the query. The default is the language of the query and the captions.
        font: Path of a font file with Chinese glyphs. The default is an installed font, or the font that comes with
            the package.
        allow_urls: Whether to fetch images given by ``http(s)`` URL. Proxies are not used.
        allow_private_urls: Whether such URLs may lead to this machine or a private network.

    Returns:
        A matplotlib figure; ``figure.savefig("results.png")`` saves it.

    Raises:
        ImportError: matplotlib is not installed.
        ImageError: The image of the query cannot be read.
        TypeError: A result is neither a node nor an image.

    Examples:
        >>> figure = plot_results("红苹果", index.as_retriever(similarity_top_k=3).retrieve("红苹果"), columns=3)
        >>> figure.savefig("results.png")
        >>> [axes.get_title().splitlines()[-1] for axes in figure.axes]
        ['查询', '红苹果', '男鞋', '汽车']
    """
    figure_class, drawn_font = _matplotlib(font)
    urls = UrlRules(allowed=allow_urls, allow_private=allow_private_urls)
    found = [result for result in results_of(results) if has_image(result.node)]
    words, image = query_parts(query, urls)
    columns = max(1, min(columns, len(found)))
    rows = max(1, -(-len(found) // columns))
    first = 0 if query is None else 1
    figure, grid = _grid(figure_class, rows, columns + first)
    if query is not None:
        title = wording_of(language or language_of(words, found)).query
        _draw_query(grid[0][0], title, words, image, drawn_font)
    for index, result in enumerate(found):
        row, column = divmod(index, columns)
        _draw_result(grid[row][column + first], result, drawn_font, urls)
    return figure


def _matplotlib(font: str | Path | None) -> tuple[type[Figure], Font]:
    try:
        from llama_index_mm_zhipu.display.figure import ResultsFigure, find_font
    except ImportError:
        raise ImportError('plot_results needs matplotlib: pip install "llama-index-mm-zhipu[plot]"') from None
    return ResultsFigure, find_font(font)


def _grid(figure_class: type[Figure], rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of square tiles, with room for a title of three lines above each, and its axes by row."""
    width = columns * (_TILE_INCHES + _GAP_INCHES) + _GAP_INCHES
    height = rows * (_TILE_INCHES + _TITLE_INCHES) + _GAP_INCHES
    figure = figure_class(figsize=(width, height))
    spaces = {
        "left": _GAP_INCHES / width,
        "right": 1 - _GAP_INCHES / width,
        "bottom": _GAP_INCHES / height,
        "top": 1 - _TITLE_INCHES / height,
        "wspace": _GAP_INCHES / _TILE_INCHES,
        "hspace": _TITLE_INCHES / _TILE_INCHES,
    }
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=spaces)
    for axes in grid.flat:
        axes.set_axis_off()
        # Align images of all shapes at the top of their tiles, so that the titles of a row end at the same height.
        axes.set_anchor("N")
    return figure, grid.tolist()


def _draw_query(axes: Axes, title: str, words: str, image: Image.Image | None, font: Font) -> None:
    if image is not None:
        _show_image(axes, image)
        title = "\n".join([title, *(wrap(words, _TITLE_COLUMNS, _TITLE_LINES) if words else [])])
    else:
        _write(axes, wrap(words, _QUERY_COLUMNS, _QUERY_LINES), font, size=15)
    _set_title(axes, title, font, fontsize=11, color="tab:blue")


def _draw_result(axes: Axes, result: NodeWithScore, font: Font, urls: UrlRules) -> None:
    try:
        _show_image(axes, load_image(result.node, urls=urls))
    except ImageError as error:
        _write(axes, wrap(str(error), _REASON_COLUMNS, _REASON_LINES, CHUNKS), font, size=9)
    words = caption_of(result.node) or page_text_of(result.node) or result.node.node_id
    lines = wrap(words, _TITLE_COLUMNS, _TITLE_LINES)
    score = "" if result.score is None else f"{result.score:.4f}"
    first_line = "  ".join(filter(None, [score, time_of(result.node)]))
    _set_title(axes, "\n".join([first_line, *lines] if first_line else lines), font, fontsize=10)


def _show_image(axes: Axes, image: Image.Image) -> None:
    # More pixels than a tile has at 300 dpi only cost memory: matplotlib stores each one as three floats.
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    axes.imshow(image)


def _set_title(axes: Axes, title: str, font: Font, **style: Any) -> None:
    axes.set_title(font.drawable(title), **_text_style(font), **style)


def _write(axes: Axes, lines: list[str], font: Font, *, size: int) -> None:
    position: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, font.drawable("\n".join(lines)), fontsize=size, **_text_style(font), **position)


def _text_style(font: Font) -> dict[str, Any]:
    # With parse_math a dollar sign would start a formula.
    return {"fontproperties": font.properties, "linespacing": _LINE_SPACING, "parse_math": False}


# Line breaks

_CLOSING = "，。、；：？！）》〉」』】〕”’…％"
_ASCII_AND_LATIN = r"[!-~\u00c0-\u024f]"

WORDS = re.compile(rf"(?:{_ASCII_AND_LATIN}+|.)[{_CLOSING}]*\s*", re.DOTALL)
"""Parts of prose: Latin words stay whole, and closing punctuation stays with the character before it."""

CHUNKS = re.compile(rf"{_ASCII_AND_LATIN}{{1,30}}\s*|.\s*", re.DOTALL)
"""Parts of messages with URLs and paths, which are broken instead of cut off."""


def wrap(text: str, columns: int, max_lines: int, parts: re.Pattern[str] = WORDS) -> list[str]:
    """Break a text into lines, and end it with "…" where it does not fit.

    Args:
        text: The text; its own line breaks are kept.
        columns: Width of a line in columns. East Asian characters are two columns wide.
        max_lines: Number of lines.
        parts: Matches parts of the text that stay on one line. A part that is longer than a line is cut off.

    Returns:
        The lines, at least one.
    """
    # One line more than there is room for shows that the text does not fit; the rest of a long text is not read.
    lines = list(islice(_lines(text, columns, parts), max_lines + 1)) or [""]
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1] + "…"]
    return [_cut(line, columns) for line in lines]


def _lines(text: str, columns: int, parts: re.Pattern[str]) -> Iterator[str]:
    for paragraph in filter(str.strip, text.splitlines()):
        line, width = "", 0
        for match in parts.finditer(" ".join(paragraph.split())):
            part = match.group()
            if line and width + _width(part.rstrip()) > columns:
                yield line.rstrip()
                line, width = "", 0
            line += part
            width += _width(part)
        yield line.rstrip()


def _cut(line: str, columns: int) -> str:
    if _width(line) <= columns:
        return line
    # The width up to and including each character; one column stays free for the "…".
    widths = accumulate(map(_width, line))
    return line[: sum(1 for width in widths if width < columns)] + "…"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
