"""Figures of Word documents, from the XML of the document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from llama_index_mm_zhipu.readers.figures import Box, FigureText, is_caption, is_figure, label_of, labels_in
from llama_index_mm_zhipu.readers.office_files import OfficeFile, PartError, Relation
from llama_index_mm_zhipu.readers.office_images import (
    ImageReference,
    OfficeFigure,
    alternative_text_of,
    number_of,
    points_of,
    reference_of,
)

_TWIPS_PER_POINT = 20
_A4 = (595.0, 842.0)
_CAPTION_STYLES = ("caption", "题注")
_MAX_NEIGHBOURS = 2


@dataclass(frozen=True)
class _Text:
    """A paragraph."""

    text: str
    is_caption: bool


@dataclass(frozen=True)
class _Image:
    """An image in a paragraph, with its alternative text and the page on which Word last laid it out."""

    reference: ImageReference
    text: str
    page: int


def figures_of_document(file: OfficeFile) -> Iterator[OfficeFigure]:
    """Yield the figures of a document.

    Pages are those on which Word laid the document out when it was saved last; other programs do not record them.

    Raises:
        PartError: The document cannot be read.
    """
    main = file.main_part()
    root, relations = file.xml_of(main), file.relations_of(main)
    has_pages = next(root.iter("lastRenderedPageBreak"), None) is not None
    items = list(_items(root, relations, _caption_styles(file, relations)))
    captions, references = _captions_of(items), _references(items)
    for index, item in enumerate(items):
        if isinstance(item, _Image):
            caption = captions.get(index) or item.text
            near = dict.fromkeys(references.get(label_of(caption), []), 0.0)
            for position, distance in (*_paragraphs_on(items, index, 1), *_paragraphs_on(items, index, -1)):
                near.setdefault(position, distance)
            candidates = [(distance, position, items[position].text) for position, distance in near.items()]
            yield OfficeFigure(item.reference, FigureText.of(caption, candidates), item.page if has_pages else None)


def _items(root: Element, relations: Mapping[str, Relation], caption_styles: set[str]) -> Iterator[_Text | _Image]:
    """Yield images and paragraphs in the order of the document; an image comes before the text of its paragraph."""
    page = 1
    page_size = _page_size(root)
    for paragraph in root.iter("p"):
        text = ""
        for element in _own_elements(paragraph):
            if element.tag == "lastRenderedPageBreak":
                page += 1
            elif element.tag in ("br", "tab", "cr"):
                text += " "
            elif element.tag == "t":
                text += element.text or ""
            elif element.tag in ("inline", "anchor"):
                for reference in _images_of(element, relations, page_size):
                    yield _Image(reference, alternative_text_of(element.find("docPr")), page)
        if text := text.strip():
            style = paragraph.find("pPr/pStyle")
            yield _Text(text, is_caption(text) or (style is not None and style.get("val") in caption_styles))


def _own_elements(paragraph: Element) -> Iterator[Element]:
    """Yield the elements of a paragraph, without those of paragraphs in text boxes within it."""
    pending = list(reversed(paragraph))
    while pending:
        element = pending.pop()
        if element.tag != "p":
            yield element
            pending += reversed(element)


def _images_of(
    drawing: Element, relations: Mapping[str, Relation], page_size: tuple[float, float]
) -> Iterator[ImageReference]:
    """Yield the images of a drawing that are figures by their size."""
    images = list(drawing.iter("pic"))
    for image in images:
        # In a group, each image has a size of its own.
        size = drawing.find("extent") if len(images) == 1 else image.find("spPr/xfrm/ext")
        reference = reference_of(image.find("blipFill"), image.find("spPr/xfrm"), relations)
        if reference is None:
            continue
        if size is None or is_figure(
            Box(0, 0, points_of(number_of(size, "cx")), points_of(number_of(size, "cy"))), *page_size
        ):
            yield reference


def _page_size(root: Element) -> tuple[float, float]:
    """Return the size of the document's last section in points."""
    width, height = _A4
    for size in root.iter("pgSz"):
        width = number_of(size, "w") / _TWIPS_PER_POINT or width
        height = number_of(size, "h") / _TWIPS_PER_POINT or height
    return width, height


def _caption_styles(file: OfficeFile, relations: Mapping[str, Relation]) -> set[str]:
    """Return the ids of the styles for captions."""
    for relation in relations.values():
        if relation.kind != "styles" or relation.target is None:
            continue
        try:
            styles = file.xml_of(relation.target).findall("style")
        except PartError:
            # Captions are also recognised by their text.
            continue
        names = {style.get("styleId", ""): style.find("name") for style in styles}
        return {
            each for each, name in names.items() if name is not None and name.get("val", "").lower() in _CAPTION_STYLES
        }
    return set()


def _captions_of(items: Sequence[_Text | _Image]) -> dict[int, str]:
    """Return the captions of images by their index: those after the images, or those before, if these are more."""
    after, before = (_captions_on(items, step) for step in (1, -1))
    return before | after if len(after) >= len(before) else after | before


def _captions_on(items: Sequence[_Text | _Image], step: int) -> dict[int, str]:
    """Return the captions directly after images (``step`` 1) or directly before them (``step`` -1).

    Images in a row, as in a table, have as many captions in a row, or share the last one.
    """
    found: dict[int, str] = {}
    index = 0
    while index < len(items):
        end = index
        while end < len(items) and isinstance(items[end], _Image):
            end += 1
        if end == index:
            index += 1
            continue
        texts = _caption_run(items, end if step == 1 else index - 1, step)
        for position, image in enumerate(range(index, end)):
            if texts:
                found[image] = texts[min(position, len(texts) - 1)]
        index = end
    return found


def _caption_run(items: Sequence[_Text | _Image], start: int, step: int) -> list[str]:
    texts = []
    position = start
    while 0 <= position < len(items):
        item = items[position]
        if not isinstance(item, _Text) or not item.is_caption:
            break
        texts.append(item.text)
        position += step
    return texts[::step]


def _references(items: Sequence[_Text | _Image]) -> dict[str | None, list[int]]:
    """Return the indexes of the paragraphs that refer to figures, by the label of the figure."""
    found: dict[str | None, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        if isinstance(item, _Text) and not item.is_caption:
            for label in labels_in(item.text):
                found[label].append(index)
    return found


def _paragraphs_on(items: Sequence[_Text | _Image], index: int, step: int) -> Iterator[tuple[int, float]]:
    """Yield index and distance of the next paragraphs on one side, up to the next image that is not beside this one."""
    distance, position = 0, index + step
    while 0 <= position < len(items) and distance < _MAX_NEIGHBOURS:
        item = items[position]
        if isinstance(item, _Image) and distance:
            break
        if isinstance(item, _Text) and not item.is_caption:
            distance += 1
            yield position, float(distance)
        position += step
