"""What plots need of matplotlib, which is an optional dependency: the figure, and fonts for Chinese text.

Only ``plots.plot_results`` imports this module, when it is called.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager, get_font

logger = logging.getLogger(__name__)

BUNDLED_FONT = Path(__file__).parent / "fonts" / "NotoSansSC-Subset.otf"
"""A subset of Noto Sans SC: ASCII, GB 2312 and common punctuation."""

_NOTEBOOK_DPI = 100

# Font families with Chinese glyphs, those of Linux first, then of macOS and Windows.
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
# Some Chinese fonts lack Latin letters and digits. This font comes with matplotlib and has them.
_LATIN_FAMILY = "DejaVu Sans"
_MISSING = "□"


class ResultsFigure(Figure):
    """A matplotlib figure that notebooks display as an image, whatever backend is set."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=_NOTEBOOK_DPI)
        return buffer.getvalue()


class Font:
    """A font for Chinese and Latin text that avoids matplotlib's warning for each missing glyph.

    Args:
        properties: Font properties for matplotlib's text functions.
        files: Font files of the families in ``properties``; a character may come from any of them.

    Attributes:
        properties: Font properties for matplotlib's text functions.
    """

    def __init__(self, properties: FontProperties, files: tuple[str, ...]) -> None:
        self.properties = properties
        self._characters = frozenset({ord("\n")}).union(*(get_font(file).get_charmap() for file in files))
        self._reported: set[str] = set()

    def drawable(self, text: str) -> str:
        """Return a text in which "□" replaces the characters that no font file has, and log each of these once."""
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
        file: A font file. The default is an installed Chinese font, or ``BUNDLED_FONT`` where none is installed.

    Raises:
        FileNotFoundError: The font file does not exist.
    """
    return _chinese_font() if file is None else _font_from(Path(file))


def _font_from(file: Path) -> Font:
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
    """Add fonts that were installed after matplotlib cached its list of fonts."""
    for file in set(findSystemFonts()) - {font.fname for font in fontManager.ttflist}:
        # Some files have formats that matplotlib cannot read.
        with suppress(Exception):
            fontManager.addfont(file)
