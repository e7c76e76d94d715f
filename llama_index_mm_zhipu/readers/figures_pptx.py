"""Figures of PowerPoint slides, from the XML of the slides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from xml.etree.ElementTree import Element

from llama_index_mm_zhipu.readers.figures import Box, Line, is_figure, texts_of
from llama_index_mm_zhipu.readers.office_files import OfficeFile, PartError, Relation
from llama_index_mm_zhipu.readers.office_images import (
    ImageReference,
    OfficeFigure,
    alternative_text_of,
    box_of,
    degrees_of,
    number_of,
    points_of,
    reference_of,
)

MAX_IMAGES_ON_SLIDE = 200
"""Limit for the images of a slide that are figures by their size."""

_MAX_DEPTH = 32
_TITLES = ("title", "ctrTitle")
_FOOTERS = ("dt", "ftr", "sldNum", "hdr")
_TRANSPARENT = ("AlternateContent", "Choice", "Fallback")
_SLIDE_WIDTH, _SLIDE_HEIGHT = 9_144_000, 6_858_000


class _Scale(NamedTuple):
    """The map from the coordinates within a group to those of the slide."""

    x: float = 1.0
    y: float = 1.0
    left: float = 0.0
    top: float = 0.0

    def of(self, box: Box) -> Box:
        return Box(
            self.left + self.x * box.left,
            self.top + self.y * box.top,
            self.left + self.x * box.right,
            self.top + self.y * box.bottom,
        )


class SlideError(NamedTuple):
    """A slide that cannot be read, and why."""

    number: int
    reason: str


@dataclass
class _Slide:
    """What is on a slide: its title, lines of text, and images with their places in points and alternative texts."""

    title: str = ""
    lines: list[Line] = field(default_factory=list)
    images: list[tuple[ImageReference, Box | None, str]] = field(default_factory=list)


def figures_of_slides(file: OfficeFile) -> Iterator[OfficeFigure | SlideError]:
    """Yield the figures of the slides, and the error of each slide that cannot be read, with its number.

    Slides that are hidden are left out and not counted, as in LibreOffice's PDF files.

    Raises:
        PartError: The presentation itself cannot be read.
    """
    main = file.main_part()
    presentation, relations = file.xml_of(main), file.relations_of(main)
    size = presentation.find("sldSz")
    width = points_of(number_of(size, "cx") or _SLIDE_WIDTH)
    height = points_of(number_of(size, "cy") or _SLIDE_HEIGHT)
    number = 1
    for reference in presentation.iterfind("sldIdLst/sldId"):
        relation = relations.get(reference.get("r:id", ""))
        if relation is None or relation.target is None:
            continue
        try:
            root = file.xml_of(relation.target)
            if root.get("show") in ("0", "false"):
                continue
            slide = _read_slide(file, relation.target, root)
        except PartError as error:
            yield SlideError(number, str(error))
        else:
            yield from _figures_of(slide, number, width, height)
        number += 1


def _figures_of(slide: _Slide, number: int, width: float, height: float) -> Iterator[OfficeFigure | SlideError]:
    sheet = Box(0, 0, width, height)
    placed = []
    for reference, box, alternative in slide.images:
        # An image without a place may be anywhere, so all texts are beside it.
        visible = sheet if box is None else box.intersection(sheet)
        if box is None or is_figure(visible, width, height):
            placed.append((reference, visible, alternative))
    if len(placed) > MAX_IMAGES_ON_SLIDE:
        yield SlideError(number, f"it has more than {MAX_IMAGES_ON_SLIDE} images, so its figures are left out")
        return
    texts = texts_of([visible for _, visible, _ in placed], slide.lines, height, are_paragraphs=True)
    for (reference, box, alternative), text in zip(placed, texts, strict=True):
        fractions = box.left / width, box.top / height, box.right / width, box.bottom / height
        yield OfficeFigure(
            reference,
            replace(text, caption=text.caption or alternative or slide.title),
            number,
            None if box is sheet else fractions,
        )


def _read_slide(file: OfficeFile, part: str, root: Element) -> _Slide:
    relations = file.relations_of(part)
    inherited = _placeholders_of_layout(file, relations)
    slide = _Slide()
    for shape, box in _shapes(root.find("cSld/spTree"), _Scale(), 0):
        placeholder = shape.find(".//nvPr/ph")
        kind = placeholder.get("type", "body") if placeholder is not None else ""
        if box is None and placeholder is not None:
            box = inherited.get(f"idx {placeholder.get('idx')}") or inherited.get(kind)
        place = _in_points(box, degrees_of(shape.find("spPr/xfrm"))) if box is not None else None
        fill = shape.find("blipFill") if shape.tag == "pic" else shape.find("spPr/blipFill")
        reference = reference_of(fill, shape.find("spPr/xfrm"), relations)
        if reference is not None:
            slide.images.append((reference, place, alternative_text_of(shape.find("*/cNvPr"))))
        texts = [] if kind in _FOOTERS else list(_texts_of(shape))
        if kind in _TITLES:
            slide.title = " ".join(texts)
            # A title is about everything on its slide.
            place = None
        slide.lines += [Line(text, place) for text in texts]
    return slide


def _shapes(tree: Element | None, scale: _Scale, depth: int) -> Iterator[tuple[Element, Box | None]]:
    """Yield images, shapes and tables, each with its place on the slide before it is turned."""
    for child in tree if tree is not None and depth < _MAX_DEPTH else ():
        if child.tag == "grpSp":
            yield from _shapes(child, _scale_of(child.find("grpSpPr/xfrm"), scale), depth + 1)
        elif child.tag in _TRANSPARENT:
            yield from _shapes(child, scale, depth + 1)
        elif child.tag in ("pic", "sp", "graphicFrame"):
            form = child.find("xfrm") if child.tag == "graphicFrame" else child.find("spPr/xfrm")
            box = box_of(form)
            yield child, scale.of(box) if box is not None else None


def _scale_of(form: Element | None, outer: _Scale) -> _Scale:
    box = box_of(form)
    offset, size = (form.find("chOff"), form.find("chExt")) if form is not None else (None, None)
    if box is None or offset is None or size is None:
        return outer
    width, height = number_of(size, "cx"), number_of(size, "cy")
    x, y = box.width / width if width else 1.0, box.height / height if height else 1.0
    left, top = box.left - x * number_of(offset, "x"), box.top - y * number_of(offset, "y")
    return _Scale(outer.x * x, outer.y * y, outer.left + outer.x * left, outer.top + outer.y * top)


def _in_points(box: Box, degrees: float) -> Box:
    """Return the rectangle around a shape that is turned about its middle."""
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    across = (box.width * cosine + box.height * sine) / 2
    down = (box.width * sine + box.height * cosine) / 2
    return Box(*map(points_of, (x - across, y - down, x + across, y + down)))


def _placeholders_of_layout(file: OfficeFile, relations: Mapping[str, Relation]) -> dict[str, Box]:
    """Return the places of a layout's placeholders by index and by type: slides leave out those that they inherit."""
    boxes: dict[str, Box] = {}
    for relation in relations.values():
        if relation.kind != "slideLayout" or relation.target is None:
            continue
        try:
            tree = file.xml_of(relation.target).find("cSld/spTree")
        except PartError:
            # Without it only the places of some shapes are unknown.
            continue
        for shape, box in _shapes(tree, _Scale(), 0):
            placeholder = shape.find(".//nvPr/ph")
            if placeholder is not None and box is not None:
                boxes.setdefault(f"idx {placeholder.get('idx')}", box)
                boxes.setdefault(placeholder.get("type", "body"), box)
    return boxes


def _texts_of(shape: Element) -> Iterator[str]:
    """Yield the paragraphs of a shape, or the rows of a table."""
    rows: Sequence[Element] = list(shape.iter("tr")) or shape.findall("txBody/p")
    for row in rows:
        text = "".join(
            "\n" if each.tag in ("br", "tc") else each.text or ""
            for each in row.iter()
            if each.tag in ("t", "br", "tc")
        )
        if text := " ".join(text.split()):
            yield text
