"""Fonts for plots: a Chinese one of the system, else the one that comes with the package."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import cache
from pathlib import Path

from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager, get_font

logger = logging.getLogger(__name__)

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
