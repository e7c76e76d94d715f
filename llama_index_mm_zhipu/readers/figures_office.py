"""``FigureReader``: the images in Word documents and PowerPoint slides, with their captions and neighbouring text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from llama_index.core.schema import ImageNode
from tqdm.auto import tqdm

from llama_index_mm_zhipu.images import ImageError, encode_image, load_image, load_resized, sniff_format
from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.figures import figure_node, is_uniform, relate
from llama_index_mm_zhipu.readers.figures_docx import figures_of_document
from llama_index_mm_zhipu.readers.figures_pptx import SlideError, figures_of_slides
from llama_index_mm_zhipu.readers.files import FileReader
from llama_index_mm_zhipu.readers.office_files import OfficeFile, PartError, open_office_file
from llama_index_mm_zhipu.readers.office_images import ImageReference, OfficeFigure
from llama_index_mm_zhipu.readers.records import RecordError, content_hash

_SLIDES = ".pptx"
_FIGURES_OF: dict[str, Callable[[OfficeFile], Iterator[OfficeFigure | SlideError]]] = {
    ".docx": figures_of_document,
    _SLIDES: figures_of_slides,
}
_DRAWINGS = (".emf", ".wmf", ".svg")
_SAMPLE_SIDE = 64


class FigureReader(FileReader):
    """Reads the images within Word documents (``.docx``) and slides (``.pptx``), without an office program.

    ``load_data(path, images)``: ``path`` is a file, or a folder of files that is searched recursively. By default nodes
    contain the images; with ``images``, they refer to files that are written to that folder. For the figures of PDF
    files, see ``PageReader(figures=True)``.

    The text of a node is the caption: a paragraph beside the image such as 图 3-2 … or Figure 2: …, else the
    alternative text of the image, else the title of the slide. Its page text is the neighbouring text. Node ids end
    with ``slides.pptx/3/figure-2`` or ``report.docx/figure-2``. Metadata are ``file_name``, ``page_label`` (the number
    of the slide, or of the page on which Word laid the image out when it saved the file) and, for slides,
    ``figure_box``: left, top, right and bottom as fractions of the slide. The parent of a figure on a slide is the node
    that ``PageReader`` makes of the slide.

    Images are shown as the document shows them: cropped, turned and mirrored. Left out are icons (less than 32 points
    or 1 % of the page), rules, images as large as the page, images of one colour, those that came before in the same
    file, and hidden slides.

    Args:
        follow_links: Whether to follow links that lead out of the folder, and links to folders. By default they are
            left out with a warning.
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``. Errors are files that are not Office files, encrypted
            files, parts that are damaged or too large, and images that are only linked or in a format such as EMF.
        show_progress: Whether to show a progress bar for each file.

    Examples:
        >>> from llama_index_mm_zhipu.readers import FigureReader
        >>> [figure] = FigureReader().load_data("slides.pptx")
        >>> figure.text, figure.metadata["page_label"], [round(side, 2) for side in figure.metadata["figure_box"]]
        ('图 1 红苹果', '1', [0.08, 0.28, 0.42, 0.57])
    """

    suffixes = tuple(_FIGURES_OF)
    what = "figures"

    def _images_of(self, file: Path, name: str, folder: Path | None) -> Iterator[NodeOrError]:
        with open_office_file(file) as office:
            figures = _FIGURES_OF[file.suffix.lower()](office)
            bar = tqdm(figures, desc=f"Reading {file.name}", unit="image", disable=not self.show_progress)
            yield from _nodes(office, bar, file, name, folder)


def _nodes(
    office: OfficeFile, figures: Iterable[OfficeFigure | SlideError], file: Path, name: str, folder: Path | None
) -> Iterator[NodeOrError]:
    are_slides = file.suffix.lower() == _SLIDES
    counts: Counter[int | None] = Counter()
    seen: set[object] = set()
    try:
        for index, figure in enumerate(figures, 1):
            if isinstance(figure, SlideError):
                yield RecordError(f"{file}, slide {figure.number}", figure.reason)
                continue
            try:
                image = _image_of(office, figure.reference, seen)
            except PartError as error:
                yield RecordError(f"{file}, image {index}", str(error))
                continue
            if image is not None:
                slide = figure.page if are_slides else None
                counts[slide] += 1
                yield _node(name, figure, slide, counts[slide], image, folder)
    except PartError as error:
        yield RecordError(str(file), str(error))


def _image_of(office: OfficeFile, reference: ImageReference, seen: set[object]) -> bytes | None:
    """Return what is shown of an image, encoded; None if it was seen before, or has a single colour.

    Raises:
        PartError: The image is not in the file, or cannot be opened.
    """
    if reference.part is None:
        raise PartError("an image is only linked, so it is left out; embed it in the document")
    if reference in seen:
        return None
    data = office.bytes_of(reference.part)
    content = (content_hash(data), reference.crop)
    is_repeated = content in seen
    seen.update((reference, content))
    if is_repeated:
        return None
    if Path(reference.part).suffix.lower() in _DRAWINGS:
        raise PartError(f"its image {reference.part} is a drawing made of lines; save it as PNG")
    try:
        if is_uniform(load_resized(data, _SAMPLE_SIDE)):
            return None
        return data if reference.is_plain else encode_image(reference.shown(load_image(data)), "PNG")
    except ImageError as error:
        raise PartError(f"its image {reference.part} cannot be opened: {error}") from None


def _node(
    name: str, figure: OfficeFigure, slide: int | None, number: int, image: bytes, folder: Path | None
) -> ImageNode:
    page = name if slide is None else f"{name}/{slide}"
    file = None
    if folder is not None:
        suffix = (sniff_format(image) or "png").lower()
        file = folder / f"{name}{'' if slide is None else f'-{slide}'}-figure-{number}.{suffix}"
    node = figure_node(
        f"{page}/figure-{number}",
        image,
        file_name=name,
        page_label=None if figure.page is None else str(figure.page),
        box=figure.box,
        caption=figure.text.caption,
        page_text="\n".join(figure.text.neighbours),
        file=file,
    )
    if slide is not None:
        relate(page, [node])
    return node
