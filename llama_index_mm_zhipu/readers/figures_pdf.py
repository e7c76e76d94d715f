"""Figures of PDF pages: image objects, as they are drawn, and the lines of text with their places."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from ctypes import byref, c_float, c_int, create_string_buffer
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_index_mm_zhipu.readers.figures import Box, FigureText, Line, covers_page, is_figure, is_uniform, texts_of
from llama_index_mm_zhipu.text import replace_lone_surrogates

if TYPE_CHECKING:
    from PIL import Image
    from pypdfium2 import PdfPage, PdfTextPage

MAX_IMAGE_OBJECTS = 1000
"""Limit for the image objects of a page. Pages with more are mostly drawings that a program has cut into pieces."""

_MAX_CHARACTERS = 100_000
_MAX_HASHED_BYTES = 64 << 20
_MAX_DEPTH = 16
_TOUCHING = 2.0
"""Image objects at most this many points apart are pieces of one figure."""

_COLUMN_GAP = 1.5
_ROWS = 20
_UNITS = 1_000_000
_LINE_BREAKS = (0x0A, 0x0D)
_HYPHENS = (0x02, 0xFFFE)


@dataclass(frozen=True)
class PdfFigure:
    """A figure of a page.

    Attributes:
        image: The part of the drawn page.
        box: Left, top, right and bottom as fractions of the page.
        text: Caption and neighbouring text.
    """

    image: Image.Image
    box: tuple[float, float, float, float]
    text: FigureText


@dataclass(frozen=True)
class PdfFigures:
    """The figures of a page, and why others are left out, if they are."""

    found: Sequence[PdfFigure] = ()
    error: str = ""


class _TooManyImagesError(ValueError):
    """A page has more image objects than figures are looked for in."""


class _Matrix(NamedTuple):
    """The affine map (x, y) → (a x + c y + e, b x + d y + f), as PDF writes it."""

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 1.0
    e: float = 0.0
    f: float = 0.0

    def of(self, x: float, y: float) -> tuple[float, float]:
        return self.a * x + self.c * y + self.e, self.b * x + self.d * y + self.f

    def after(self, first: _Matrix) -> _Matrix:
        """Return the map that applies ``first``, then this one."""
        (a, b), (c, d), (e, f) = self.of(first.a, first.b), self.of(first.c, first.d), self.of(first.e, first.f)
        return _Matrix(a - self.e, b - self.f, c - self.e, d - self.f, e, f)

    def box_of(self, left: float, bottom: float, right: float, top: float) -> Box:
        """Return the smallest rectangle around the image of a rectangle."""
        xs, ys = zip(*(self.of(x, y) for x in (left, right) for y in (bottom, top)), strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))


def figures_of_page(page: PdfPage, text_page: PdfTextPage, image: Image.Image, seen: set[str]) -> PdfFigures:
    """Return the figures of a page, from top to bottom and from left to right. The caller holds the lock of pdfium.

    Args:
        page: The page.
        text_page: Its text layer.
        image: The drawn page.
        seen: Hashes of the figures of earlier pages, which are not returned again; those of this page are added.
    """
    import pypdfium2.raw as pdfium

    width, height = page.get_size()
    to_page = _to_page(pdfium, page, width, height)
    try:
        objects = list(_visible_images(pdfium, page, to_page, Box(0, 0, width, height)))
    except _TooManyImagesError as error:
        return PdfFigures(error=str(error))
    drawn, broken = [], []
    for box, members in _groups(objects):
        if not is_figure(box, width, height) or _is_repeated(pdfium, members, seen):
            continue
        fractions = box.left / width, box.top / height, box.right / width, box.bottom / height
        part = _cut_out(image, fractions)
        if not is_uniform(part):
            drawn.append((box, fractions, part))
        elif not all(_can_be_decoded(pdfium, member) for member in members):
            broken.append(fractions)
    reason = f"{len(broken)} of its images cannot be decoded, the first at {_percent(broken[0])}" if broken else ""
    if not drawn:
        return PdfFigures(error=reason)
    # Figures whose upper edges differ by less than a row are side by side.
    row = height / _ROWS
    drawn.sort(key=lambda each: (round(each[0].top / row), each[0].left))
    texts = texts_of([box for box, *_ in drawn], _lines(pdfium, text_page, to_page), height)
    found = [PdfFigure(part, fractions, text) for (_, fractions, part), text in zip(drawn, texts, strict=True)]
    return PdfFigures(found, reason)


def _percent(fractions: Sequence[float]) -> str:
    return ", ".join(f"{fraction:.0%}" for fraction in fractions)


def _cut_out(image: Image.Image, fractions: tuple[float, float, float, float]) -> Image.Image:
    left, top, right, bottom = fractions
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


def _visible_images(pdfium: Any, page: PdfPage, to_page: _Matrix, sheet: Box) -> Iterator[tuple[Box, Any]]:
    """Yield the image objects that are on the page, without those as large as the page."""
    for page_object, matrix in _image_objects(pdfium, page, to_page):
        visible = _visible_box(pdfium, page_object, matrix).intersection(sheet)
        if min(visible.width, visible.height) > 0 and not covers_page(visible, sheet.width, sheet.height):
            yield visible, page_object


def _to_page(pdfium: Any, page: PdfPage, width: float, height: float) -> _Matrix:
    """Return the map from the coordinates of a page's content to points from its upper left corner, as it is shown."""

    def shown(x: float, y: float) -> tuple[float, float]:
        column, row = c_int(), c_int()
        pdfium.FPDF_PageToDevice(page.raw, 0, 0, _UNITS, _UNITS, 0, x, y, byref(column), byref(row))
        return column.value * width / _UNITS, row.value * height / _UNITS

    # Points that are far apart, for the rounding of device coordinates.
    span = max(width, height)
    (e, f), (x_x, x_y), (y_x, y_y) = shown(0, 0), shown(span, 0), shown(0, span)
    return _Matrix((x_x - e) / span, (x_y - f) / span, (y_x - e) / span, (y_y - f) / span, e, f)


def _image_objects(pdfium: Any, page: PdfPage, to_page: _Matrix) -> Iterator[tuple[Any, _Matrix]]:
    """Yield the image objects of a page, also those in forms, each with the map from its coordinates to the page."""
    count = 0
    pending: list[tuple[Any, Callable[..., int], Callable[..., Any], _Matrix, int]] = [
        (page.raw, pdfium.FPDFPage_CountObjects, pdfium.FPDFPage_GetObject, to_page, 0)
    ]
    while pending:
        container, count_objects, get_object, matrix, depth = pending.pop()
        for index in range(count_objects(container)):
            page_object = get_object(container, index)
            object_type = pdfium.FPDFPageObj_GetType(page_object)
            if object_type == pdfium.FPDF_PAGEOBJ_IMAGE:
                count += 1
                if count > MAX_IMAGE_OBJECTS:
                    raise _TooManyImagesError(
                        f"it has more than {MAX_IMAGE_OBJECTS:,} image objects, so its figures are left out"
                    )
                yield page_object, matrix
            elif object_type == pdfium.FPDF_PAGEOBJ_FORM and depth < _MAX_DEPTH:
                form = pdfium.FPDFFormObj_CountObjects, pdfium.FPDFFormObj_GetObject
                pending.append((page_object, *form, matrix.after(_matrix_of(pdfium, page_object)), depth + 1))


def _matrix_of(pdfium: Any, page_object: Any) -> _Matrix:
    matrix = pdfium.FS_MATRIX()
    if not pdfium.FPDFPageObj_GetMatrix(page_object, byref(matrix)):
        return _Matrix()
    return _Matrix(matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f)


def _visible_box(pdfium: Any, page_object: Any, matrix: _Matrix) -> Box:
    """Return the rectangle around an image object, without what its clip path hides."""
    box = matrix.after(_matrix_of(pdfium, page_object)).box_of(0, 0, 1, 1)
    clip = pdfium.FPDFPageObj_GetClipPath(page_object)
    for path in range(max(pdfium.FPDFClipPath_CountPaths(clip), 0) if clip else 0):
        points = list(_points(pdfium, clip, path))
        if points:
            xs, ys = zip(*points, strict=True)
            box = box.intersection(matrix.box_of(min(xs), min(ys), max(xs), max(ys)))
    return box


def _points(pdfium: Any, clip: Any, path: int) -> Iterator[tuple[float, float]]:
    x, y = c_float(), c_float()
    for index in range(max(pdfium.FPDFClipPath_CountPathSegments(clip, path), 0)):
        segment = pdfium.FPDFClipPath_GetPathSegment(clip, path, index)
        if pdfium.FPDFPathSegment_GetPoint(segment, byref(x), byref(y)):
            yield x.value, y.value


def _groups(objects: Sequence[tuple[Box, Any]]) -> list[tuple[Box, list[Any]]]:
    """Return image objects that touch or overlap as groups, each with the rectangle around it.

    Programs cut large images into strips, and draw one image over another.
    """
    groups: list[tuple[Box, list[Any]]] = []
    for box, page_object in objects:
        members = [page_object]
        while touching := [group for group in groups if max(box.gaps(group[0])) <= _TOUCHING]:
            for group in touching:
                groups.remove(group)
                box, members = box.union(group[0]), [*group[1], *members]
        groups.append((box, members))
    return groups


def _is_repeated(pdfium: Any, members: Sequence[Any], seen: set[str]) -> bool:
    """Return whether a figure of the same image objects was seen before, and add it to ``seen``."""
    digest, hashed = hashlib.sha256(), 0
    for page_object in members:
        size = pdfium.FPDFImageObj_GetImageDataRaw(page_object, None, 0)
        if 0 < size <= _MAX_HASHED_BYTES:
            buffer = create_string_buffer(size)
            hashed += pdfium.FPDFImageObj_GetImageDataRaw(page_object, buffer, size)
            digest.update(buffer)
    if not hashed:
        return False
    is_repeated = digest.hexdigest() in seen
    seen.add(digest.hexdigest())
    return is_repeated


def _can_be_decoded(pdfium: Any, page_object: Any) -> bool:
    bitmap = pdfium.FPDFImageObj_GetBitmap(page_object)
    if bitmap:
        pdfium.FPDFBitmap_Destroy(bitmap)
    return bool(bitmap)


def _lines(pdfium: Any, text_page: PdfTextPage, to_page: _Matrix) -> list[Line]:
    """Return the lines of a text layer; texts in neighbouring columns are lines of their own."""
    lines: list[Line] = []
    text, place = "", None
    rectangle = pdfium.FS_RECTF()
    for index in range(min(pdfium.FPDFText_CountChars(text_page.raw), _MAX_CHARACTERS)):
        code = pdfium.FPDFText_GetUnicode(text_page.raw, index)
        has_box = pdfium.FPDFText_GetLooseCharBox(text_page.raw, index, byref(rectangle))
        box = to_page.box_of(rectangle.left, rectangle.bottom, rectangle.right, rectangle.top) if has_box else None
        is_blank = box is None or box.width <= 0 or box.height <= 0 or chr(code).isspace()
        if code in _LINE_BREAKS or (not is_blank and place is not None and box is not None and _is_apart(place, box)):
            lines.append(Line(text, place))
            text, place = "", None
        if code not in _LINE_BREAKS:
            text += "-" if code in _HYPHENS else chr(code)
        if not is_blank and box is not None:
            place = box if place is None else place.union(box)
    lines.append(Line(text, place))
    return [
        Line(replace_lone_surrogates(line.text).strip(), line.box)
        for line in lines
        if line.text.strip() and line.box is not None
    ]


def _is_apart(place: Box, box: Box) -> bool:
    """Return whether a character does not continue a line: it is in another column, or in another row."""
    horizontal, vertical = place.gaps(box)
    return horizontal > _COLUMN_GAP * place.height or vertical > 0
