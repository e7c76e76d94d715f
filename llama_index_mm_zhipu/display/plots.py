"""``plot_results``: a query and what it found as one matplotlib figure."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from io import BytesIO
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import NodeWithScore
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager, get_font
from PIL import Image

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.display.results import Query, language_of, query_parts, results_of
from llama_index_mm_zhipu.images import ImageError, UrlRules, caption_of, has_image, load_image
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.types import Language

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_CLOSING = "，。、；：？！）》〉」』】〕”’…％"
_ASCII_AND_LATIN = r"[!-~\u00c0-\u024f]"

WORDS = re.compile(rf"(?:{_ASCII_AND_LATIN}+|.)[{_CLOSING}]*\s*", re.DOTALL)
"""Words of scripts with spaces stay whole; elsewhere any character but closing punctuation may begin a line."""

PIECES = re.compile(rf"{_ASCII_AND_LATIN}{{1,30}}\s*|.\s*", re.DOTALL)
"""Of URLs and paths, which are to be seen whole."""


def wrap(text: str, columns: int, max_lines: int, parts: re.Pattern[str] = WORDS) -> list[str]:
    """Break a text into lines, and end it with "…" where it does not fit.

    Args:
        text: Its own line breaks are kept.
        columns: Width of a line.
        max_lines: Number of lines.
        parts: What is not broken; longer parts than a line are cut.

    Returns:
        The lines, at least one.
    """
    # One more than there is room for tells that the text does not fit; the rest of a long text is not looked at.
    lines = list(islice(_lines(text, columns, parts), max_lines + 1)) or [""]
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1] + "…"]
    return [_cut(line, columns) for line in lines]


def _lines(text: str, columns: int, parts: re.Pattern[str]) -> Iterator[str]:
    for own_line in filter(str.strip, text.splitlines()):
        line, width = "", 0
        for match in parts.finditer(" ".join(own_line.split())):
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
    # The width up to each character, and the last one that leaves room for the mark.
    widths = accumulate(map(_width, line))
    return line[: sum(1 for width in widths if width < columns)] + "…"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


BUNDLED_FONT = Path(__file__).parent / "fonts" / "NotoSansSC-Subset.otf"
"""ASCII, GB 2312 and some more characters of Noto Sans SC."""

# Families that hold Chinese glyphs, by system: Linux, macOS, Windows.
_CHINESE_FAMILIES = (
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
# Some Chinese fonts have no figures and letters: those come from the one that matplotlib brings.
_LATIN_FAMILY = "DejaVu Sans"
_MISSING = "□"


class Font:
    """A font for Chinese and Latin text, without matplotlib's warning for each character that it lacks.

    Args:
        files: Font files, the first that has a character draws it.

    Attributes:
        properties: What matplotlib's texts take.
    """

    def __init__(self, properties: FontProperties, files: tuple[str, ...]) -> None:
        self.properties = properties
        self._characters = frozenset({ord("\n")}).union(*(get_font(file).get_charmap() for file in files))
        self._reported: set[str] = set()

    def drawable(self, text: str) -> str:
        """Return the text with "□" for what no font has; each such character is logged once."""
        missing = {character for character in text if ord(character) not in self._characters}
        if new := missing - self._reported:
            self._reported |= new
            logger.warning(
                "no font has %s: install a larger Chinese font (Debian and Ubuntu: fonts-noto-cjk; Fedora: "
                "google-noto-sans-cjk-fonts) or give plot_results(font=…)",
                " ".join(sorted(new)),
            )
        return "".join(_MISSING if character in missing else character for character in text)


def find_font(file: str | Path | None = None) -> Font:
    """Return the font for plots.

    Args:
        file: A font file; by default a Chinese font of the system, else ``BUNDLED_FONT``.

    Raises:
        FileNotFoundError: There is no such file.
    """
    return _chinese_font() if file is None else _font_of(Path(file))


def _font_of(file: Path) -> Font:
    if not file.is_file():
        raise FileNotFoundError(f"no such font file: {file}")
    return Font(FontProperties(fname=file), (str(file),))


@cache
def _chinese_font() -> Font:
    found = _chinese_family()
    if found is None:
        _add_new_fonts()
        found = _chinese_family()
    if found is None:
        fontManager.addfont(BUNDLED_FONT)
        found = FontProperties(fname=BUNDLED_FONT).get_name()
    families = [found, _LATIN_FAMILY]
    files = tuple(fontManager.findfont(FontProperties(family=family)) for family in families)
    return Font(FontProperties(family=families), files)


def _chinese_family() -> str | None:
    fonts = fontManager.ttflist
    return next((font.name for family in _CHINESE_FAMILIES for font in fonts if font.name.startswith(family)), None)


def _add_new_fonts() -> None:
    """Add the fonts installed since matplotlib wrote its list of them, which it does once."""
    for file in set(findSystemFonts()) - {font.fname for font in fontManager.ttflist}:
        # Some are of kinds that matplotlib does not read.
        with suppress(Exception):
            fontManager.addfont(file)


_NOTEBOOK_DPI = 100


class ResultsFigure(Figure):
    """A figure that shows itself as the last line of a notebook cell, whatever backend is set."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=_NOTEBOOK_DPI)
        return buffer.getvalue()


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
        from llama_index_mm_zhipu.display.plots import ResultsFigure, find_font
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
