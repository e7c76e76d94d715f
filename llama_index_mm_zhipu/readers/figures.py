"""Figures of documents: which images are figures, their captions and neighbouring text, and their nodes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llama_index.core.schema import BaseNode, ImageNode, NodeRelationship, ObjectType, RelatedNodeInfo
from PIL import Image

from llama_index_mm_zhipu.images import with_hidden_metadata, with_page_text
from llama_index_mm_zhipu.readers.image_nodes import image_fields
from llama_index_mm_zhipu.readers.records import FILE_NAME, ImageRecord, content_hash

PAGE_LABEL = "page_label"
"""Metadata key of the number of a page, as in LlamaIndex's readers of PDF files."""

FIGURE_BOX = "figure_box"
"""Metadata key of the place of a figure: left, top, right and bottom as fractions of the page."""

TEXT_LAYER = "text_layer"
"""Source of a page text that a document itself contains."""

_MIN_SIDE = 32.0
_MIN_AREA = 0.01
_MAX_AREA = 0.9
_MAX_ASPECT_RATIO = 12.0
_MAX_COLOUR_RANGE = 8
_MAX_EDGE = 2

_MAX_LINES = 2000
_MAX_TEXT_LENGTH = 600
_MAX_DISTANCE = 0.2
"""How far from a figure its neighbouring text may be, as a fraction of the page's height."""

_MAX_CAPTION_DISTANCE = 48.0
_MAX_LINE_GAP = 0.7
_FULL_LINE = 0.8
_SAME_SIZE = 0.05
_TIE_LINES = 0.5

_LABEL = re.compile(
    r"(?P<kind>[图圖表]|figure|fig\.?|table)\s*"
    r"(?P<number>[a-z]?\d+(?:\s?[-–—－.]\s?\d+)*[a-z]?(?![a-z0-9])|[一二三四五六七八九十]+(?=[\s:：.、，所中]|$))",
    re.IGNORECASE,
)
# A sentence that begins with a reference to a figure is not a caption.
_REFERENCE = re.compile(
    r"\s*(?:所示|[所展]?示出|展示|给出|显示|表明|描述|中[的，]|(?:shows?|illustrates?|depicts?|presents?)\b)",
    re.IGNORECASE,
)
_DASHES = re.compile(r"[–—－]")


class Box(NamedTuple):
    """A rectangle on a page in points; the origin is the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Width in points."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in points."""
        return self.bottom - self.top

    def union(self, other: Box) -> Box:
        """Return the smallest rectangle around both."""
        return Box(*map(min, self[:2], other[:2]), *map(max, self[2:], other[2:]))

    def intersection(self, other: Box) -> Box:
        """Return what both have in common; its width or height is not positive if that is nothing."""
        return Box(*map(max, self[:2], other[:2]), *map(min, self[2:], other[2:]))

    def gaps(self, other: Box) -> tuple[float, float]:
        """Return the horizontal and the vertical distance, which are 0 where the rectangles overlap."""
        horizontal = max(self.left - other.right, other.left - self.right, 0.0)
        return horizontal, max(self.top - other.bottom, other.top - self.bottom, 0.0)


class Line(NamedTuple):
    """A line of text; ``box`` is None if its place on the page is not known."""

    text: str
    box: Box | None


@dataclass(frozen=True)
class FigureText:
    """What a document says about a figure.

    Attributes:
        caption: The caption in one line; empty if there is none.
        neighbours: The lines beside the figure, and those that refer to it, in the order of the page.
    """

    caption: str
    neighbours: tuple[str, ...]

    @classmethod
    def of(cls, caption: str, candidates: Iterable[tuple[float, int, str]]) -> FigureText:
        """Return a caption with the nearest of the other lines, as many as are not too long together.

        Args:
            caption: The caption.
            candidates: Distance, number in reading order, and text of each line. An infinite distance leaves a line
                out.
        """
        kept: list[tuple[int, str]] = []
        length = 0
        for distance, number, text in sorted(candidates):
            length += len(text)
            if distance == math.inf or (kept and length > _MAX_TEXT_LENGTH):
                break
            kept.append((number, text[:_MAX_TEXT_LENGTH]))
        return cls(caption, tuple(text for _, text in sorted(kept)))


# Which images are figures


def is_figure(box: Box, page_width: float, page_height: float) -> bool:
    """Return whether an image of this size is a figure, and not an icon, a rule or the scan of the whole page.

    Args:
        box: Visible part of the image.
        page_width: Width of the page in points.
        page_height: Height of the page in points.
    """
    shorter, longer = sorted((box.width, box.height))
    area = box.width * box.height / (page_width * page_height)
    return shorter >= _MIN_SIDE and longer <= _MAX_ASPECT_RATIO * shorter and _MIN_AREA <= area < _MAX_AREA


def covers_page(box: Box, page_width: float, page_height: float) -> bool:
    """Return whether an image is a background or a scan, as large as its page."""
    return box.width * box.height >= _MAX_AREA * page_width * page_height


def is_uniform(image: Image.Image) -> bool:
    """Return whether an RGB image has a single colour, apart from its edges, which are mixed with what is beside it."""
    x, y = (min(_MAX_EDGE, side // 4) for side in image.size)
    extrema: Any = image.crop((x, y, image.width - x, image.height - y)).getextrema()
    return all(highest - lowest <= _MAX_COLOUR_RANGE for lowest, highest in extrema)


# Captions and neighbouring text


def is_caption(text: str) -> bool:
    """Return whether a line begins like a caption: 图 3-2 …, 图一：…, Figure 2: …, 表 1 …."""
    match = _LABEL.match(text.lstrip())
    return match is not None and _REFERENCE.match(text.lstrip(), match.end()) is None


def label_of(caption: str) -> str | None:
    """Return the label with which a caption begins, in the form of ``labels_in``, or None."""
    match = _LABEL.match(caption)
    return _label(match) if match is not None else None


def labels_in(text: str) -> set[str]:
    """Return the labels of the figures to which a text refers: 图3-2, figure2."""
    return {_label(match) for match in _LABEL.finditer(text)}


def _label(match: re.Match[str]) -> str:
    kind = match["kind"].casefold().rstrip(".")
    number = _DASHES.sub("-", "".join(match["number"].casefold().split()))
    return f"{'figure' if kind == 'fig' else kind}{number}"


def texts_of(
    boxes: Sequence[Box], lines: Sequence[Line], page_height: float, *, are_paragraphs: bool = False
) -> list[FigureText]:
    """Return what the lines of a page say about each of its figures.

    Args:
        boxes: The figures.
        lines: The lines of the page, in reading order; the first 2,000 are looked at.
        page_height: Height of the page in points.
        are_paragraphs: Whether each of ``lines`` is a whole paragraph, so that no caption goes on in the next one.
    """
    lines = lines[:_MAX_LINES]
    captions = [
        [] if start is None else [start] if are_paragraphs else _whole_caption(start, box, lines)
        for start, box in zip(_captions_of(boxes, lines), boxes, strict=True)
    ]
    taken = {index for caption in captions for index in caption}
    # A figure and its caption are one: what is beside the caption is beside the figure.
    places = [
        [box, *(place for index in caption if (place := lines[index].box) is not None)]
        for box, caption in zip(boxes, captions, strict=True)
    ]
    others = [index for index, line in enumerate(lines) if index not in taken and _is_neighbour(line.text)]
    distances = _distances(places, [lines[index].box for index in others], _MAX_DISTANCE * page_height)
    labels = [labels_in(lines[index].text) for index in others]
    texts = []
    for caption, near in zip(captions, distances, strict=True):
        joined = _joined([lines[index].text for index in caption])
        label = label_of(joined)
        candidates = [
            (0.0 if label in named else distance, index, lines[index].text)
            for index, distance, named in zip(others, near, labels, strict=True)
        ]
        texts.append(FigureText.of(joined, candidates))
    return texts


def _is_neighbour(text: str) -> bool:
    """Return whether a line may be about a figure; page numbers and captions of other figures are not."""
    return any(map(str.isalpha, text)) and not is_caption(text)


def _captions_of(boxes: Sequence[Box], lines: Sequence[Line]) -> list[int | None]:
    """Return the index of the first line of each figure's caption.

    The captions of a page are all below their figures or all above, whichever gives more figures a caption.
    """
    starts = [index for index, line in enumerate(lines) if line.box is not None and is_caption(line.text)]
    below, above = (_nearest_captions(boxes, lines, starts, side) for side in ("below", "above"))
    return above if _count(above) > _count(below) else below


def _nearest_captions(
    boxes: Sequence[Box], lines: Sequence[Line], starts: Sequence[int], side: str
) -> list[int | None]:
    """Return for each figure the index of the nearest caption on one side, which may be the caption of several."""
    found = []
    for box in boxes:
        candidates = [
            (distance, index)
            for index in starts
            if (place := lines[index].box) is not None
            and (distance := _distance_on(side, box, place)) <= _MAX_CAPTION_DISTANCE
            and box.gaps(place)[0] == 0
        ]
        found.append(min(candidates)[1] if candidates else None)
    return found


def _distance_on(side: str, box: Box, place: Box) -> float:
    """Return how far a line is below or above a figure; infinite on the other side."""
    tolerance = place.height / 2
    distance = place.top - box.bottom if side == "below" else box.top - place.bottom
    return max(distance, 0.0) if distance >= -tolerance else math.inf


def _count(found: Sequence[int | None]) -> tuple[int, int]:
    indexes = [index for index in found if index is not None]
    return len(set(indexes)), len(indexes)


def _whole_caption(start: int, figure: Box, lines: Sequence[Line]) -> list[int]:
    """Return the indexes of a caption's lines: a full line goes on in the next one, if that is close and as high."""
    whole = [start]
    while whole[-1] + 1 < len(lines):
        last, following = lines[whole[-1]], lines[whole[-1] + 1]
        if last.box is None or following.box is None or is_caption(following.text):
            break
        is_full = last.box.width >= _FULL_LINE * max(figure.width, following.box.width)
        is_next = 0 <= following.box.top - last.box.top <= (1 + _MAX_LINE_GAP) * last.box.height
        is_alike = abs(following.box.height - last.box.height) <= _SAME_SIZE * last.box.height
        if not (is_full and is_next and is_alike and last.box.gaps(following.box)[0] == 0):
            break
        whole.append(whole[-1] + 1)
    return whole


def _distances(places: Sequence[Sequence[Box]], line_boxes: Sequence[Box | None], maximum: float) -> list[list[float]]:
    """Return for each figure the distance of each line; infinite for a line that is far or nearer to another figure.

    A line without a place is as far from all figures.
    """
    columns = []
    for line in line_boxes:
        if line is None:
            columns.append([maximum] * len(places))
            continue
        column = [min(math.hypot(*line.gaps(place)) for place in around) for around in places]
        # A line between two figures is about both.
        limit = min(maximum, min(column, default=0.0) + _TIE_LINES * line.height)
        columns.append([distance if distance <= limit else math.inf for distance in column])
    return [[column[number] for column in columns] for number in range(len(places))]


def _joined(parts: Iterable[str]) -> str:
    """Return the lines of a caption as one; Chinese needs no blank between them."""
    joined = ""
    for part in map(str.strip, parts):
        joined += f" {part}" if joined[-1:].isascii() and part[:1].isascii() and joined else part
    return joined


# Nodes


def figure_node(
    node_id: str,
    image: bytes,
    *,
    file_name: str,
    page_label: str | None = None,
    box: Sequence[float] | None = None,
    caption: str = "",
    page_text: str = "",
    file: Path | None = None,
) -> ImageNode:
    """Return the node of a figure.

    Args:
        node_id: Id of the figure within its source.
        image: The encoded image.
        file_name: Name of the document.
        page_label: Number of the page; None if the document has no pages.
        box: Left, top, right and bottom as fractions of the page; None if they are not known.
        caption: The caption in one line.
        page_text: The neighbouring text.
        file: Where to write the image; None keeps it in the node.
    """
    metadata: dict[str, Any] = {FILE_NAME: file_name}
    if page_label is not None:
        metadata[PAGE_LABEL] = page_label
    node = ImageRecord.of(node_id, content_hash(image), text=caption, metadata=metadata, **image_fields(image, file))
    if box is not None:
        node = with_hidden_metadata(node, {FIGURE_BOX: [round(fraction, 4) for fraction in box]})
    return with_page_text(node, page_text, TEXT_LAYER)


def relate(page_id: str, figures: Sequence[BaseNode], page: BaseNode | None = None) -> None:
    """Make a page the parent of its figures, and these its children.

    Args:
        page_id: Id of the page within its source.
        figures: The figures.
        page: Node of the page; None if the reader makes none.
    """
    parent = RelatedNodeInfo(node_id=page_id, node_type=ObjectType.IMAGE)
    for figure in figures:
        figure.relationships = {**figure.relationships, NodeRelationship.PARENT: parent}
    if page is not None and figures:
        children = [RelatedNodeInfo(node_id=figure.node_id, node_type=ObjectType.IMAGE) for figure in figures]
        page.relationships = {**page.relationships, NodeRelationship.CHILD: children}
