"""``plot_results``: a query and what it found as one matplotlib figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import NodeWithScore
from PIL import Image

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.display.results import Query, language_of, query_parts, results_of
from llama_index_mm_zhipu.display.wrapping import PIECES, wrap
from llama_index_mm_zhipu.images import ImageError, UrlRules, has_image, load_image
from llama_index_mm_zhipu.images.nodes import caption_of
from llama_index_mm_zhipu.prompts.wording import Language, wording_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from llama_index_mm_zhipu.display.fonts import Font

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
    """Draw the query and the images found, best first, with score and caption.

    As the last line of a notebook cell the figure shows itself.

    Args:
        query: The words of the query, or its image in any form that ``images.load_image`` takes, or a ``QueryBundle``
            of both; a string that is no image counts as words. None draws the results alone.
        results: Nodes with or without scores, retriever output, a response with ``source_nodes``, or images by path,
            URL, ``bytes`` or ``PIL.Image``. Nodes without an image are left out; where an image cannot be read, the
            reason stands in its place.
        columns: Images in a row.
        language: Of the word above the query; None takes that of query and captions.
        font: File of a font with Chinese glyphs; by default one of the system, else one that comes with the package.
        allow_urls: Whether to fetch images given by ``http(s)`` URL. Proxies are not used.
        allow_private_urls: Whether such URLs may lead to this machine or a private network.

    Returns:
        A matplotlib figure; ``figure.savefig("results.png")`` saves it.

    Raises:
        ImportError: matplotlib is not installed.
        ImageError: The query's image cannot be read.
        TypeError: There is something among the results that is neither a node nor an image.
    """
    figure_class, drawn_font = _matplotlib(font)
    urls = UrlRules(allowed=allow_urls, private=allow_private_urls)
    found = [result for result in results_of(results) if has_image(result.node)]
    words, image = query_parts(query, urls)
    columns = max(1, min(columns, len(found)))
    rows = max(1, -(-len(found) // columns))
    first = 0 if query is None else 1
    figure, grid = _grid(figure_class, rows, columns + first)
    if query is not None:
        title = wording_of(language or language_of(words, found)).query
        _draw_query(grid[0][0], title, words, image, drawn_font)
    for position, result in enumerate(found):
        row, column = divmod(position, columns)
        _draw_result(grid[row][column + first], result, drawn_font, urls)
    return figure


def _matplotlib(font: str | Path | None) -> tuple[type[Figure], Font]:
    try:
        from llama_index_mm_zhipu.display.figure import ResultsFigure
        from llama_index_mm_zhipu.display.fonts import find_font
    except ImportError:
        raise ImportError('plot_results needs matplotlib: pip install "llama-index-mm-zhipu[plot]"') from None
    return ResultsFigure, find_font(font)


def _grid(figure_class: type[Figure], rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of square tiles, each with room for a title of three lines above it."""
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
        # Images of all shapes begin at the same height, and with them the titles end there.
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
        _write(axes, wrap(str(error), _REASON_COLUMNS, _REASON_LINES, PIECES), font, size=9)
    lines = wrap(caption_of(result.node) or result.node.node_id, _TITLE_COLUMNS, _TITLE_LINES)
    if result.score is not None:
        lines = [f"{result.score:.4f}", *lines]
    _set_title(axes, "\n".join(lines), font, fontsize=10)


def _show_image(axes: Axes, image: Image.Image) -> None:
    # More pixels than a tile has at 300 dpi would only cost memory: matplotlib holds each as three floats.
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    axes.imshow(image)


def _set_title(axes: Axes, title: str, font: Font, **style: Any) -> None:
    axes.set_title(font.drawable(title), **_text_style(font), **style)


def _write(axes: Axes, lines: list[str], font: Font, *, size: int) -> None:
    position: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, font.drawable("\n".join(lines)), fontsize=size, **_text_style(font), **position)


def _text_style(font: Font) -> dict[str, Any]:
    # A dollar sign would begin a formula.
    return {"fontproperties": font.properties, "linespacing": _LINE_SPACING, "parse_math": False}
