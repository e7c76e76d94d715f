"""``PageReader``: pages of PDF files and slides, drawn as images, with their text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from llama_index.core.schema import ImageNode
from llama_index.core.utils import iter_batch
from tqdm.auto import tqdm

from llama_index_mm_zhipu.images import encode_image, with_page_text
from llama_index_mm_zhipu.ingestion.ocr import ImageOcr, as_ocr, is_ocr_to_follow
from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.figures import PAGE_LABEL, TEXT_LAYER, figure_node, relate
from llama_index_mm_zhipu.readers.figures_pdf import PdfFigure, PdfFigures, figures_of_page
from llama_index_mm_zhipu.readers.files import FileReader
from llama_index_mm_zhipu.readers.image_nodes import image_fields
from llama_index_mm_zhipu.readers.pdf import (
    LONGEST_SIDE,
    PAGE_SECONDS,
    PDF_SUFFIX,
    SlowPageError,
    clean_text_layer,
    draw_page,
    open_pdf,
    pdfium_error,
    pdfium_lock,
    require_drawing_limits,
    require_pdfium,
)
from llama_index_mm_zhipu.readers.records import FILE_NAME, ImageRecord, RecordError, content_hash
from llama_index_mm_zhipu.readers.slides import SLIDE_SUFFIXES, slides_to_pdf
from llama_index_mm_zhipu.reporting import WORDING_KEY
from llama_index_mm_zhipu.types import OnError

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

logger = logging.getLogger(__name__)

_MAX_SLOW_PAGES = 3
_OCR_BATCH_SIZE = 64


class PageReader(FileReader):
    """Reads each page as an image, with its text layer as the page text, so that full text search finds the page.

    ``load_data(path, images)``: ``path`` is a file, or a folder of files that is searched recursively. By default nodes
    contain the images; with ``images``, they refer to JPEG files that are written to that folder. Node ids end with
    ``lecture.pdf/3``; metadata are ``file_name`` and ``page_label``, as in LlamaIndex's readers of PDF files. A warning
    is logged for pages without a text layer, such as scans; ``ocr="auto"`` reads them, or an index with ``ocr=True``
    that reads the pages from ``lazy_load_data``, which logs no warning.

    PDF files need the extra ``pages``. Slides (``.pptx``, ``.ppt``, ``.odp``) also need LibreOffice, which converts
    them to PDF.

    With ``figures=True``, the images within a PDF page follow it as nodes of their own, such as
    ``lecture.pdf/3/figure-2``, cut out of the drawn page. The text of such a node is the caption (图 3-2 …, Figure 2:
    …), its page text is the text beside it, and ``figure_box`` in its metadata is left, top, right and bottom as
    fractions of the page. Its parent is the page. Left out are icons (less than 32 points or 1 % of the page), rules,
    images as large as the page, images of one colour, those that an earlier page of the file has too, and drawings
    made of lines.

    Args:
        longest_side: Longer side of a page in pixels, 2048 by default, at most 8192; a slide at 3840 is 3840 × 2880.
        page_seconds: Processor time for drawing a page in seconds, 5 by default. A page that takes longer is an error;
            after three such pages the rest of the file is left out.
        password: Password of encrypted PDF files.
        figures: Whether to return the figures of pages too.
        ocr: ``"auto"`` reads pages without a text layer by ``ImageOcr()``, which needs the extra ``ocr``; an
            ``ImageOcr`` does the same with other settings, and with ``overwrite=True`` reads all pages.
        follow_links: Whether to follow links that lead out of the folder, and links to folders. By default they are
            left out with a warning.
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Raises:
        ImportError: The extra is not installed, or OCR is asked for without the extra ``ocr``.
        TypeError: ``ocr`` is something else.
        ValueError: ``longest_side`` or ``page_seconds`` is out of range.

    Examples:
        >>> from llama_index_mm_zhipu.images import page_text_of
        >>> from llama_index_mm_zhipu.readers import PageReader
        >>> pages = PageReader(longest_side=800).load_data("lecture.pdf")
        >>> [(page.metadata["page_label"], page_text_of(page).splitlines()[0]) for page in pages[:2]]
        [('1', '什么是机器学习'), ('2', '训练集与测试集')]
    """

    suffixes = (PDF_SUFFIX, *SLIDE_SUFFIXES)
    what = "pages"

    def __init__(
        self,
        *,
        longest_side: int = LONGEST_SIDE,
        page_seconds: float = PAGE_SECONDS,
        password: str | None = None,
        figures: bool = False,
        ocr: bool | Literal["auto"] | ImageOcr = False,
        follow_links: bool = False,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(follow_links=follow_links, id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        require_drawing_limits(longest_side, page_seconds)
        self.longest_side = longest_side
        self.page_seconds = page_seconds
        self._password = password
        self.figures = figures
        self._ocr = as_ocr(ocr, on_error=on_error, show_progress=show_progress)
        require_pdfium()

    def _images_of(self, file: Path, name: str, folder: Path | None) -> Iterator[NodeOrError]:
        yield from self._with_ocr(self._pages_of(file, name, folder))

    def _with_ocr(self, pages: Iterator[NodeOrError]) -> Iterator[NodeOrError]:
        """Yield pages in order; those without text are read together, so that several processes have work."""
        if (ocr := self._ocr) is None:
            yield from pages
            return
        for batch in iter_batch(pages, _OCR_BATCH_SIZE):
            found = [page for page in batch if isinstance(page, ImageNode) and (ocr.overwrite or not page.text)]
            read = {node.node_id: node for node in ocr(found)}
            yield from (page if isinstance(page, RecordError) else read.get(page.node_id, page) for page in batch)

    def _pages_of(self, file: Path, name: str, folder: Path | None) -> Iterator[NodeOrError]:
        with TemporaryDirectory() as scratch:
            pdf = file if file.suffix.lower() == PDF_SUFFIX else slides_to_pdf(file, Path(scratch))
            with open_pdf(pdf, file, self._password) as document:
                yield from self._nodes(document, file, name, folder)

    def _nodes(self, document: PdfDocument, file: Path, name: str, folder: Path | None) -> Iterator[NodeOrError]:
        with pdfium_lock:
            count = len(document)
        without_text = slow = 0
        seen: set[str] = set()
        numbers = range(1, count + 1)
        for number in tqdm(numbers, desc=f"Reading {file.name}", unit="page", disable=not self.show_progress):
            try:
                image, text, figures = self._page(document, number, seen)
            except (pdfium_error(), ValueError) as error:
                yield RecordError(f"{file}, page {number}", f"cannot be rendered ({error})")
                slow += isinstance(error, SlowPageError)
                if slow == _MAX_SLOW_PAGES and number < count:
                    yield RecordError(str(file), f"pages {number + 1} to {count} are left out after {slow} slow ones")
                    break
                continue
            without_text += not text
            page = page_node(name, number, image, text, folder)
            nodes = [_figure_node(page, *each, folder) for each in enumerate(figures.found, 1)]
            relate(page.node_id, nodes, page)
            yield page
            yield from nodes
            if figures.error:
                yield RecordError(f"{file}, page {number}", figures.error)
        if without_text and self._ocr is None and not is_ocr_to_follow():
            logger.warning(
                "no text layer on %d of %d pages of %s: full text search finds them only if "
                'PageReader(ocr="auto") or build_index(…, ocr=True) reads them, or ImageCaptioner describes them',
                without_text,
                count,
                file,
                extra={WORDING_KEY: "no_text_layer"},
            )

    def _page(self, document: PdfDocument, number: int, seen: set[str]) -> tuple[bytes, str, PdfFigures]:
        with pdfium_lock:
            page = document[number - 1]
        try:
            image = draw_page(page, self.longest_side, self.page_seconds)
            with pdfium_lock, closing(page.get_textpage()) as layer:
                text = layer.get_text_bounded()
                figures = figures_of_page(page, layer, image, seen) if self.figures else PdfFigures()
        finally:
            with pdfium_lock:
                page.close()
        return encode_image(image), clean_text_layer(text), figures


def page_node(name: str, number: int, image: bytes, text: str, folder: Path | None) -> ImageNode:
    """Return the node of a page, which holds the image, or refers to a file that is written to a folder."""
    file = folder / f"{name}-{number}.jpg" if folder is not None else None
    metadata = {FILE_NAME: name, PAGE_LABEL: str(number)}
    node = ImageRecord.of(f"{name}/{number}", content_hash(image), metadata=metadata, **image_fields(image, file))
    return with_page_text(node, text, TEXT_LAYER)


def _figure_node(page: ImageNode, number: int, figure: PdfFigure, folder: Path | None) -> ImageNode:
    name, label = page.metadata[FILE_NAME], page.metadata[PAGE_LABEL]
    return figure_node(
        f"{page.node_id}/figure-{number}",
        encode_image(figure.image),
        file_name=name,
        page_label=label,
        box=figure.box,
        caption=figure.text.caption,
        page_text=clean_text_layer("\n".join(figure.text.neighbours)),
        file=folder / f"{name}-{label}-figure-{number}.jpg" if folder is not None else None,
    )
