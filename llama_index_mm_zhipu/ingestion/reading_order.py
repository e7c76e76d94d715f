"""From lines of OCR to text: columns one after the other, lines of a paragraph joined.

Lines side by side form a row. Consecutive rows that leave the same space free form a band; if there is running text on
both sides of that space, or on one side and a figure with labels on the other, the sides are columns, which are read
from left to right. A heading across the columns fills the space and ends the band. Cells of tables are in line with
each other and are read row by row.

Vertical text, whose columns run from right to left, is turned by 90° first and then is ordinary text.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from statistics import median
from typing import TypeAlias

from llama_index_mm_zhipu.ingestion.ocr_engines import OcrLine
from llama_index_mm_zhipu.text import CJK_RANGES

# Chinese characters, and punctuation that is as wide.
_WIDE = re.compile(rf"[{CJK_RANGES}\u2018-\u201d\u2026\u3000-\u303f\uff00-\uff60\uffe0-\uffef]")

_MARKER = re.compile(
    r"[•●○◦■□▪◆◇▶►★※·✓✔➢–—*-]\s?(?=\S)"
    r"|[(（]?(?:\d{1,3}|[一二三四五六七八九十]{1,3}|[a-zA-Z])[)）、]"
    r"|\d{1,3}(?:\.\d{1,3}){0,3}\.?[\s、](?=\S)"
    r"|\d{1,3}\.(?=[^\d\s])"
    r"|[①-⑳❶-❿]"
    r"|第[\d一二三四五六七八九十百]{1,4}[章节条步部]"
)
"""Start of a list item or of a numbered heading."""

_SENTENCE_END = re.compile(r"[。！？!?；;：:.…][”’\"'）)」』]?$")
_HYPHEN_IN_WORD = re.compile(r"[a-zA-Z]-$")
_WORD = re.compile(r"[!-~]+")

_VERTICAL = 2.0
"""A line is vertical if it is higher than wide by this factor."""

_SAME_ROW = 0.5
"""Lines are side by side if they share this part of the lower one's height."""

_SAME_SIZE = 1.35
"""Heights of lines of the same paragraph differ at most by this factor."""

_LONG_LINE = 8.0
"""Width in characters that most lines of running text have; most cells and labels are shorter."""

_MIN_LONG_LINES = 1 / 3
"""At least this share of the lines of running text is long; every second one may be the short end of a paragraph."""

_MIN_LINES = 3
"""From so many lines on, they tell where their right margin is."""

_MAX_LABELS_ON_LINES = 0.6
"""At most this share of the labels of a figure is level with a line of the text beside it."""

_MAX_LABELLED_LINES = 0.25
"""At most this share of the lines beside a figure with few labels is level with a label."""

# Lengths in characters.
_ALIGNED = 0.25
_MIN_GUTTER = 0.6
_MARGIN = 2.0
_MIN_CELL_GAP = 1.5
_INDENT = 1.5
_MAX_HANGING_INDENT = 4.0
_MAX_WORD = 10.0
_MAX_LEADING = 1.2
_LEADING_TOLERANCE = 0.35

_Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class _Piece:
    """A line of OCR in pixels."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


class _Row:
    """Pieces side by side, from left to right, as one line of text."""

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self.pieces = pieces
        self.left = self.pieces[0].left
        self.right = max(piece.right for piece in self.pieces)
        self.top = min(piece.top for piece in self.pieces)
        self.bottom = max(piece.bottom for piece in self.pieces)
        self.height = median(piece.height for piece in self.pieces)
        self.text = " ".join(piece.text for piece in self.pieces)
        self.marker = bool(_MARKER.match(self.text))


def text_of_lines(lines: Sequence[OcrLine], width: int, height: int) -> str:
    """Return the text of lines in reading order, with a line break after each paragraph, heading and list item.

    Args:
        lines: Lines in any order.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
    """
    pieces = [_piece_of(line, width, height) for line in lines if line.text.strip()]
    if not pieces:
        return ""
    vertical = sum(len(piece.text) for piece in pieces if _is_vertical(piece))
    if 2 * vertical > sum(len(piece.text) for piece in pieces):
        pieces = [_turned(piece, width) for piece in pieces]
    em = _character_size(pieces)
    return "\n".join(chain.from_iterable(_paragraphs(block, em) for block in _blocks(pieces, em)))


def _piece_of(line: OcrLine, width: int, height: int) -> _Piece:
    left, top, right, bottom = line.box
    return _Piece(line.text.strip(), left * width, top * height, right * width, bottom * height)


def _is_vertical(piece: _Piece) -> bool:
    return len(piece.text) > 1 and piece.height > _VERTICAL * (piece.right - piece.left)


def _turned(piece: _Piece, width: int) -> _Piece:
    """Return a piece of the page turned to the left by 90°: columns from the right become rows from the top."""
    return _Piece(piece.text, piece.top, width - piece.right, piece.bottom, width - piece.left)


def _character_size(pieces: Sequence[_Piece]) -> float:
    """Return the width of a Chinese character in pixels: the median over all characters."""
    sizes = sorted(((piece.right - piece.left) / _width(piece.text), len(piece.text)) for piece in pieces)
    counts = list(accumulate(count for _, count in sizes))
    size, _ = sizes[bisect_left(counts, counts[-1] / 2)]
    return max(1.0, size)


def _width(text: str) -> float:
    """Return the width of a text in Chinese characters; letters and digits take half of one."""
    return (len(text) + len(_WIDE.findall(text))) / 2


# Rows, bands and columns


def _blocks(pieces: Sequence[_Piece], em: float) -> Iterator[list[_Row]]:
    """Yield the rows of each column in reading order; rows above, between and below columns are blocks, too."""
    plain: list[_Row] = []
    for band, gutters in _bands(_rows(pieces, em), em):
        gutter = _column_gutter(band, gutters, em)
        if gutter is None:
            plain += band
            continue
        if plain:
            yield plain
            plain = []
        sides = list(chain.from_iterable(row.pieces for row in band))
        yield from _blocks([piece for piece in sides if piece.left < gutter], em)
        yield from _blocks([piece for piece in sides if piece.left >= gutter], em)
    if plain:
        yield plain


def _rows(pieces: Sequence[_Piece], em: float) -> list[_Row]:
    """Return the pieces in rows, from top to bottom."""
    rows: list[list[_Piece]] = []
    first: _Piece | None = None
    for piece in sorted(pieces, key=lambda piece: (piece.middle, piece.left)):
        if first is not None and _is_level(first, piece) and _has_place(rows[-1], piece, em / 3):
            insort(rows[-1], piece, key=_left_of)
        else:
            rows.append([piece])
            first = piece
    return [_Row(row) for row in rows]


def _is_level(first: _Piece, second: _Piece) -> bool:
    """Return whether two pieces are at the same height of the page, and about equally high."""
    shared = min(first.bottom, second.bottom) - max(first.top, second.top)
    lower, higher = sorted((first.height, second.height))
    return shared >= _SAME_ROW * lower and higher <= 2 * lower


def _has_place(row: Sequence[_Piece], piece: _Piece, tolerance: float) -> bool:
    """Return whether a piece is beside the pieces of a row, which are sorted, and not above or below one of them."""
    position = bisect_left(row, piece.left, key=_left_of)
    after_previous = position == 0 or piece.left > row[position - 1].right - tolerance
    return after_previous and (position == len(row) or piece.right < row[position].left + tolerance)


def _left_of(piece: _Piece) -> float:
    return piece.left


def _bands(rows: Sequence[_Row], em: float) -> Iterator[tuple[list[_Row], list[_Interval]]]:
    """Yield consecutive rows that leave the same intervals free, and these intervals."""
    page = (min(row.left for row in rows), max(row.right for row in rows))
    band: list[_Row] = []
    free: list[_Interval] = [page]
    gutters: list[_Interval] = []
    left, right = page[1], page[0]
    for row in rows:
        row_free = [each for each in _free_intervals(row, page) if each[1] - each[0] >= _MIN_GUTTER * em]
        shared = [each for each in _intersections(free, row_free) if each[1] - each[0] >= _MIN_GUTTER * em]
        left, right = min(left, row.left), max(right, row.right)
        between = _between(shared, left, right)
        if band and not (between or (shared and not gutters and not _between(row_free, row.left, row.right))):
            yield band, gutters
            band, shared, left, right = [], row_free, row.left, row.right
            between = _between(shared, left, right)
        band.append(row)
        free, gutters = shared, between
    yield band, gutters


def _between(intervals: Sequence[_Interval], left: float, right: float) -> list[_Interval]:
    """Return the intervals that have text on both sides; the others are margins."""
    return [each for each in intervals if left < each[0] and each[1] < right]


def _free_intervals(row: _Row, page: _Interval) -> list[_Interval]:
    """Return where a row has no text between the left and the right end of the page's text."""
    free = []
    start, end = page
    for piece in row.pieces:
        if piece.left > start:
            free.append((start, piece.left))
        start = max(start, piece.right)
    return [*free, (start, end)] if end > start else free


def _intersections(first: Sequence[_Interval], second: Sequence[_Interval]) -> Iterator[_Interval]:
    """Yield the common parts of two sorted lists of intervals."""
    i = j = 0
    while i < len(first) and j < len(second):
        yield max(first[i][0], second[j][0]), min(first[i][1], second[j][1])
        if first[i][1] < second[j][1]:
            i += 1
        else:
            j += 1


def _column_gutter(band: Sequence[_Row], gutters: Sequence[_Interval], em: float) -> float | None:
    """Return the middle of the widest gutter between columns; None if there are no columns."""
    pieces = list(chain.from_iterable(row.pieces for row in band))
    for left, right in sorted(gutters, key=lambda gutter: gutter[0] - gutter[1]):
        middle = (left + right) / 2
        sides = [piece for piece in pieces if piece.left < middle], [piece for piece in pieces if piece.left >= middle]
        if _are_columns(*sides, em):
            return middle
    return None


def _are_columns(left: Sequence[_Piece], right: Sequence[_Piece], em: float) -> bool:
    """Return whether both sides are running text, or one is and the other is a figure.

    The second column of a table has a cell on many lines of the first, and cells have no place elsewhere; a figure has
    labels anywhere.
    """
    running = list(map(_is_running_text, (left, right)))
    if not any(running) or not left or not right:
        return False
    text, labels = (left, right) if running[0] else (right, left)
    on_lines = _count_on_lines(labels, text, em)
    return all(running) or on_lines <= max(_MAX_LABELS_ON_LINES * len(labels), _MAX_LABELLED_LINES * len(text))


def _is_running_text(pieces: Sequence[_Piece]) -> bool:
    long = sum(_width(piece.text) >= _LONG_LINE for piece in pieces)
    return long > 1 and long >= _MIN_LONG_LINES * len(pieces)


def _count_on_lines(labels: Sequence[_Piece], text: Sequence[_Piece], em: float) -> int:
    """Return how many labels are level with a line of text."""
    lines = sorted(line.middle for line in text)
    tolerance = _ALIGNED * em
    cells = [label for label in labels if not _is_vertical(label)]
    positions = [(bisect_left(lines, cell.middle - tolerance), cell) for cell in cells]
    return sum(at < len(lines) and lines[at] <= cell.middle + tolerance for at, cell in positions)


# Paragraphs


def _paragraphs(rows: Sequence[_Row], em: float) -> Iterator[str]:
    """Yield paragraphs, headings and list items of one column."""
    right = max(row.right for row in rows)
    for run in _runs_of_one_size(rows):
        body = _Body(run, right, em)
        lines: list[_Row] = []
        for row in run:
            if lines and not body.continues(lines, row):
                yield _joined(lines)
                lines = []
            lines.append(row)
        yield _joined(lines)


def _runs_of_one_size(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Yield consecutive rows of about the same height: headings and text apart."""
    run: list[_Row] = []
    for row in rows:
        if run:
            lower, higher = sorted((run[-1].height, row.height))
            if higher > _SAME_SIZE * lower:
                yield run
                run = []
        run.append(row)
    yield run


class _Body:
    """Where lines of the same size end, and how far they are apart, which tells paragraphs from single lines."""

    def __init__(self, rows: Sequence[_Row], column_right: float, em: float) -> None:
        self._em = em
        is_long = len(rows) >= _MIN_LINES
        self._right = max(row.right for row in rows) if is_long else column_right
        # The longest of several lines always reaches the margin; with list markers, lines without one are continued.
        reaching = sum(self._right - row.right <= _MARGIN * em for row in rows)
        self._has_margin = reaching > 1 or not is_long or any(row.marker for row in rows)
        gaps = [max(0.0, below.top - above.bottom) for above, below in pairwise(rows)]
        usual = median(gaps) if gaps else 0.0
        self._max_gap = min(usual + _LEADING_TOLERANCE * em, _MAX_LEADING * em)

    def continues(self, paragraph: Sequence[_Row], row: _Row) -> bool:
        """Return whether a row continues a paragraph, whose last line was broken for lack of space."""
        last = paragraph[-1]
        return (
            self._has_margin
            and not row.marker
            and not self._has_cells(last)
            and not self._has_cells(row)
            and row.top - last.bottom <= self._max_gap
            and self._right - last.right <= self._room_for(row)
            and not _SENTENCE_END.search(last.text[-2:])
            and self._is_aligned(paragraph, row)
        )

    def _has_cells(self, row: _Row) -> bool:
        """Return whether a row is one of a table, or otherwise has wide gaps."""
        return any(right.left - left.right > _MIN_CELL_GAP * self._em for left, right in pairwise(row.pieces))

    def _room_for(self, row: _Row) -> float:
        """Return the free space at the end of a line into which the first word of the next does not fit."""
        word = _WORD.match(row.text)
        width = 0.5 + _width(word[0]) if word is not None else 0.0
        return max(_MARGIN, min(width, _MAX_WORD)) * self._em

    def _is_aligned(self, paragraph: Sequence[_Row], row: _Row) -> bool:
        """Return whether a row begins where the lines of a paragraph begin."""
        indent = (row.left - paragraph[-1].left) / self._em
        if len(paragraph) > 1:
            return abs(indent) <= _INDENT
        # The second line is left of an indented first one, or right of the marker of a list item.
        return -_MAX_HANGING_INDENT <= indent <= (_MAX_HANGING_INDENT if paragraph[0].marker else _INDENT)


def _joined(rows: Sequence[_Row]) -> str:
    parts = [rows[0].text]
    for above, below in pairwise(row.text for row in rows):
        if _HYPHEN_IN_WORD.match(above[-2:]) and below[0].islower():
            parts[-1] = parts[-1][:-1]
        elif not _WIDE.match(above[-1]) and not _WIDE.match(below):
            parts.append(" ")
        parts.append(below)
    return "".join(parts)
