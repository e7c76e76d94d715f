"""Pictures of results: the query and what was found, with scores and Chinese captions."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import BaseNode, NodeWithScore
from PIL import Image

from llama_index_mm_zhipu.images import ImageError, ImageSource, UrlRules, describe, has_image, load_image
from llama_index_mm_zhipu.images.names import is_address
from llama_index_mm_zhipu.picture_nodes import caption_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontManager, FontProperties
    from matplotlib.layout_engine import LayoutEngine

logger = logging.getLogger(__name__)

# Families that hold Chinese glyphs, by system: Linux, macOS, Windows.
_CJK_FAMILIES = (
    "Noto Sans CJK",
    "Noto Sans SC",
    "Source Han Sans",
    "WenQuanYi",
    "Droid Sans Fallback",
    "PingFang",
    "Hiragino Sans GB",
    "Heiti",
    "Songti",
    "Microsoft YaHei",
    "SimHei",
    "SimSun",
    "Noto Serif CJK",
    "Arial Unicode",
)

_TILE_INCHES = 2.4
# Columns of text in a tile, of which a Chinese character takes two.
_TITLE_COLUMNS = 26
_TITLE_LINES = 2
_QUERY_COLUMNS = 20
_QUERY_LINES = 6
_REASON_COLUMNS = 30
_REASON_LINES = 10

_CLOSING = "，。、；：？！）》〉」』】〕”’…％"
# Words of scripts with spaces stay whole; elsewhere any character but closing punctuation may begin a line.
_WORD = re.compile(rf"(?:[!-~\u00c0-\u024f]+|.)[{_CLOSING}]*\s*", re.DOTALL)
# Of addresses and paths, which are to be seen whole.
_PIECE = re.compile(rf"[!-~\u00c0-\u024f]{{1,{_REASON_COLUMNS}}}\s*|.\s*", re.DOTALL)


def plot_results(
    query: str | ImageSource | None,
    results: Any,
    *,
    columns: int = 5,
    font: str | Path | None = None,
    allow_urls: bool = False,
    allow_private_urls: bool = False,
) -> Figure:
    """Draw the query and the pictures found, best first, with score and caption.

    Args:
        query: The words of the query, or its picture in any form that ``images.load_image`` takes; a string that is
            no picture counts as words. None draws the results alone.
        results: Nodes with or without scores, retriever output, or a response with ``source_nodes``. Nodes without a
            picture are left out; where a picture cannot be had, the reason stands in its place.
        columns: Pictures in a row.
        font: File of a font with Chinese glyphs; by default one is looked for on the system.
        allow_urls: Whether to fetch pictures given by ``http(s)`` address. Proxies are not used.
        allow_private_urls: Whether such addresses may lead to this machine or a private network.

    Returns:
        A matplotlib figure; ``figure.savefig("results.png")`` saves it.

    Raises:
        ImportError: matplotlib is not installed.
        ImageError: The query's picture cannot be had.
    """
    figure_class = _matplotlib_figure()
    urls = UrlRules(allowed=allow_urls, private=allow_private_urls)
    properties = _chinese_font(str(font) if font is not None else None)
    found = [result for result in _with_scores(results) if has_image(result.node)]
    columns = max(1, min(columns, len(found)))
    rows = max(1, -(-len(found) // columns))
    first = 0 if query is None else 1
    size = ((columns + first) * _TILE_INCHES, rows * (_TILE_INCHES + 0.5))
    figure = figure_class(figsize=size, layout=_layout())
    grid = figure.subplots(rows, columns + first, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    if query is not None:
        _draw_query(grid[0, 0], query, properties, urls)
    for place, result in enumerate(found):
        row, column = divmod(place, columns)
        _draw_result(grid[row, column + first], result, properties, urls)
    return figure


def _matplotlib_figure() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plot_results needs matplotlib: pip install "llama-index-mm-zhipu[plot]"') from None
    return Figure


def _layout() -> LayoutEngine:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Room in inches: without it, Chinese titles touch the edge.
    return ConstrainedLayoutEngine(h_pad=0.12)


@cache
def _chinese_font(file: str | None) -> FontProperties:
    from matplotlib.font_manager import FontProperties, fontManager

    if file is not None:
        if not Path(file).is_file():
            raise FileNotFoundError(f"no such font file: {file}")
        return FontProperties(fname=file)
    found = _cjk_family(fontManager) or _cjk_family(_with_new_fonts(fontManager))
    if found is not None:
        # Some have Chinese glyphs alone: figures and letters come from the default font then.
        return FontProperties(family=[found, "DejaVu Sans"])
    logger.warning(
        "no font with Chinese glyphs was found, captions will show as boxes: install one (Debian and Ubuntu: "
        "fonts-noto-cjk; Fedora: google-noto-sans-cjk-fonts) or give plot_results(font=…)"
    )
    return FontProperties()


def _cjk_family(fonts: FontManager) -> str | None:
    names = (entry.name for family in _CJK_FAMILIES for entry in fonts.ttflist if entry.name.startswith(family))
    return next(names, None)


def _with_new_fonts(fonts: FontManager) -> FontManager:
    """Add the fonts installed since matplotlib wrote its list of them, which it does once."""
    from matplotlib.font_manager import findSystemFonts

    for file in set(findSystemFonts()) - {entry.fname for entry in fonts.ttflist}:
        # Some are of kinds that matplotlib does not read.
        with suppress(Exception):
            fonts.addfont(file)
    return fonts


def _with_scores(results: Any) -> list[NodeWithScore]:
    nodes: Iterable[Any] = getattr(results, "source_nodes", results)
    return [NodeWithScore(node=node) if isinstance(node, BaseNode) else node for node in nodes]


def _draw_query(axes: Axes, query: str | ImageSource, font: FontProperties, urls: UrlRules) -> None:
    picture = _query_picture(query, urls)
    axes.set_title("查询", fontproperties=font, fontsize=11, color="tab:blue")
    if picture is not None:
        axes.imshow(picture)
        return
    words = str(query)
    if is_address(words):
        words = describe(words)
    _write(axes, _wrap(words, _QUERY_COLUMNS, _QUERY_LINES), font, size=15)


def _query_picture(query: str | ImageSource, urls: UrlRules) -> Image.Image | None:
    if not isinstance(query, str):
        return load_image(query, urls=urls)
    try:
        return load_image(query, urls=urls)
    except ImageError:
        return None


def _draw_result(axes: Axes, result: NodeWithScore, font: FontProperties, urls: UrlRules) -> None:
    try:
        axes.imshow(load_image(result.node, urls=urls))
    except ImageError as error:
        _write(axes, _wrap(str(error), _REASON_COLUMNS, _REASON_LINES, _PIECE), font, size=9)
    lines = _wrap(caption_of(result.node) or result.node.node_id, _TITLE_COLUMNS, _TITLE_LINES)
    if result.score is not None:
        lines = [f"{result.score:.4f}", *lines]
    axes.set_title("\n".join(lines), fontproperties=font, fontsize=10)


def _write(axes: Axes, lines: list[str], font: FontProperties, *, size: int) -> None:
    place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    # A dollar sign would begin a formula.
    axes.text(0.5, 0.5, "\n".join(lines), fontproperties=font, fontsize=size, parse_math=False, **place)


def _wrap(text: str, columns: int, most_lines: int, word_pattern: re.Pattern[str] = _WORD) -> list[str]:
    """Break a text into lines by the width of its characters, and mark with "…" what does not fit."""
    lines: list[str] = []
    for own_line in filter(str.strip, text.splitlines()):
        lines.append("")
        for word in word_pattern.findall(" ".join(own_line.split())):
            if lines[-1] and _width(lines[-1] + word.rstrip()) > columns:
                lines.append("")
            lines[-1] += word
    lines = [_cut(line.rstrip(), columns) for line in lines] or [""]
    if len(lines) > most_lines:
        lines = [*lines[: most_lines - 1], _cut(lines[most_lines - 1] + "…", columns)]
    return lines


def _cut(line: str, columns: int) -> str:
    while _width(line) > columns:
        line = line[:-2] + "…"
    return line


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
