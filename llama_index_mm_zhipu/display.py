"""Pictures of results: the query and what was found, with scores and Chinese captions."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import BaseNode, NodeWithScore
from PIL import Image

from llama_index_mm_zhipu.embedding.nodes import caption_of
from llama_index_mm_zhipu.images import ImageError, ImageSource, has_image, image_source, load_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
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
_TITLE_WIDTH = 14
_TITLE_LINES = 2


def plot_results(
    query: str | ImageSource | None,
    results: Any,
    *,
    columns: int = 5,
    font: str | Path | None = None,
) -> Figure:
    """Draw the query and the pictures found, best first, with score and caption.

    Args:
        query: The words of the query, or its picture in any form that ``images.load_image`` takes; a string that is
            no picture counts as words. None draws the results alone.
        results: Nodes with or without scores, retriever output, or a response with ``source_nodes``. Nodes without a
            picture are left out.
        columns: Pictures in a row.
        font: File of a font with Chinese glyphs; by default one is looked for on the system.

    Returns:
        A matplotlib figure; ``figure.savefig("results.png")`` saves it.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure_class = _matplotlib_figure()
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
        _draw_query(grid[0, 0], query, properties)
    for place, result in enumerate(found):
        row, column = divmod(place, columns)
        _draw_result(grid[row, column + first], result, properties)
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
    for family in _CJK_FAMILIES:
        for entry in fontManager.ttflist:
            if entry.name.startswith(family):
                return FontProperties(fname=entry.fname)
    logger.warning(
        "no font with Chinese glyphs was found, captions will show as boxes: install one (Debian and Ubuntu: "
        "fonts-noto-cjk; Fedora: google-noto-sans-cjk-fonts) or give plot_results(font=…)"
    )
    return FontProperties()


def _with_scores(results: Any) -> list[NodeWithScore]:
    nodes: Iterable[Any] = getattr(results, "source_nodes", results)
    return [NodeWithScore(node=node) if isinstance(node, BaseNode) else node for node in nodes]


def _draw_query(axes: Axes, query: str | ImageSource, font: FontProperties) -> None:
    picture = _query_picture(query)
    axes.set_title("查询", fontproperties=font, fontsize=11, color="tab:blue")
    if picture is not None:
        axes.imshow(picture)
        return
    words = "\n".join(textwrap.wrap(str(query), 10))
    axes.text(0.5, 0.5, words, ha="center", va="center", fontproperties=font, fontsize=15, transform=axes.transAxes)


def _query_picture(query: str | ImageSource) -> Image.Image | None:
    if not isinstance(query, str):
        return load_image(query)
    try:
        source = image_source(query)
        return None if isinstance(source, Path) and not source.is_file() else load_image(source)
    except ImageError:
        return None


def _draw_result(axes: Axes, result: NodeWithScore, font: FontProperties) -> None:
    axes.imshow(load_image(result.node))
    lines: Sequence[str] = textwrap.wrap(
        caption_of(result.node) or result.node.node_id, _TITLE_WIDTH, max_lines=_TITLE_LINES, placeholder="…"
    )
    if result.score is not None:
        lines = [f"{result.score:.4f}", *lines]
    axes.set_title("\n".join(lines), fontproperties=font, fontsize=10)
