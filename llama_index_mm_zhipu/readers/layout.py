"""``LayoutReader``: pages of PDF files and images, with what GLM-OCR reads on them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.images import ImageError, encode_image, read_file, with_hidden_metadata, with_page_text
from llama_index_mm_zhipu.llm.errors import ACCOUNT_ERRORS, GLMError
from llama_index_mm_zhipu.llm.layout import Layout, LayoutPage
from llama_index_mm_zhipu.llm.layout_parsing import MAX_PAGES, LayoutParser
from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.files import FileReader, absolute
from llama_index_mm_zhipu.readers.pages import page_node
from llama_index_mm_zhipu.readers.pdf import (
    LONGEST_SIDE,
    PAGE_SECONDS,
    PDF_SUFFIX,
    draw_page,
    open_pdf,
    pdfium_lock,
    require_drawing_limits,
    require_pdfium,
)
from llama_index_mm_zhipu.readers.records import CONTENT_HASH, FILE_NAME, ImageRecord, RecordError, content_hash
from llama_index_mm_zhipu.shared_folders import replaced_file
from llama_index_mm_zhipu.types import OnError

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

GLM_OCR = "glm-ocr"
"""Source of page texts that GLM-OCR read, see ``with_page_text``."""

PAGE_MARKDOWN = "page_markdown"
"""Metadata key of a page as Markdown, hidden from LLMs and embedding models."""

_RESPONSES = "responses"


class LayoutReader(FileReader):
    """Reads each page of PDF files, and image files, with the text that GLM-OCR reads in them.

    ``load_data(path, images, responses)``: ``path`` is a PDF file or an image, or a folder of them that is searched
    recursively. Nodes of pages contain the images, or with ``images`` refer to JPEG files that are written to that
    folder; nodes of image files refer to these files. The text without Markdown is the page text, with its lines and
    their boxes; the metadata ``page_markdown`` is the page as Markdown. Node ids end with ``manual.pdf/3`` or
    ``scan.jpg``; other metadata are ``file_name`` and, for pages, ``page_label``.

    ``responses`` names a folder where the API's answers are kept, each as ``manual.pdf.json``: a file that has one
    there, and has not changed since, is not sent again. JSON that was saved by another program may be put there, too:
    one answer, or a list of answers about consecutive ranges of pages.

    PDF files need the extra ``pages``. Files of more than 100 pages are sent once for every 100 pages.

    Args:
        parser: The client of GLM-OCR; the default is ``LayoutParser()``, which is made when the first file is sent.
        longest_side: Longer side of the image of a PDF page in pixels, 2048 by default.
        page_seconds: Processor time for drawing a page in seconds, 5 by default. A page that takes longer is an error.
        follow_links: Whether to follow links that lead out of the folder, and links to folders.
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``. A wrong key or an empty account is always raised.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> from llama_index_mm_zhipu.readers import LayoutReader
        >>> pages = LayoutReader().load_data("lecture.pdf", responses="responses")
        >>> [(page.metadata["page_label"], page.metadata["page_markdown"].splitlines()[0]) for page in pages[:2]]
        [('1', '什么是机器学习'), ('2', '训练集与测试集')]
    """

    suffixes = (PDF_SUFFIX, ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
    what = "pages"

    def __init__(
        self,
        parser: LayoutParser | None = None,
        *,
        longest_side: int = LONGEST_SIDE,
        page_seconds: float = PAGE_SECONDS,
        follow_links: bool = False,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(follow_links=follow_links, id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        require_drawing_limits(longest_side, page_seconds)
        self.parser = parser
        self.longest_side = longest_side
        self.page_seconds = page_seconds

    def _records(
        self, path: str | Path, images: str | Path | None = None, responses: str | Path | None = None
    ) -> Iterator[NodeOrError]:
        folder, kept = absolute(images), absolute(responses)

        def read(file: Path, name: str) -> Iterator[NodeOrError]:
            return self._images_of(file, name, folder, kept / f"{name}.json" if kept is not None else None)

        return self._read_each(path, read, description="Reading files")

    def _images_of(
        self, file: Path, name: str, folder: Path | None, response_file: Path | None = None
    ) -> Iterator[NodeOrError]:
        try:
            if file.suffix.lower() == PDF_SUFFIX:
                yield from self._pages_of(file, name, folder, response_file)
            else:
                yield self._image_of(file, name, response_file)
        except ACCOUNT_ERRORS:
            raise
        except (GLMError, ImageError) as error:
            if self.on_error == "raise":
                raise
            yield RecordError(str(file), str(error))

    def _image_of(self, file: Path, name: str, response_file: Path | None) -> ImageNode:
        (page,) = self._layout_of(file, 1, response_file).pages
        node = ImageRecord.of(name, content_hash(read_file(file)), image_path=str(file), metadata={FILE_NAME: name})
        return _with_layout(node, page)

    def _pages_of(
        self, file: Path, name: str, folder: Path | None, response_file: Path | None
    ) -> Iterator[NodeOrError]:
        require_pdfium()
        with open_pdf(file, file) as document:
            with pdfium_lock:
                count = len(document)
            layout = self._layout_of(file, count, response_file)
            for page in layout.pages:
                try:
                    image = self._drawn(document, page.number)
                # Errors of pdfium are RuntimeErrors.
                except (RuntimeError, ValueError) as error:
                    yield RecordError(f"{file}, page {page.number}", f"cannot be rendered ({error})")
                    continue
                yield _with_layout(page_node(name, page.number, image, "", folder), page)

    def _drawn(self, document: PdfDocument, number: int) -> bytes:
        with pdfium_lock:
            page = document[number - 1]
        try:
            return encode_image(draw_page(page, self.longest_side, self.page_seconds))
        finally:
            with pdfium_lock:
                page.close()

    def _layout_of(self, file: Path, count: int, response_file: Path | None) -> Layout:
        """Return the layout of a file from the kept answers, or send the file and keep the answers."""
        if response_file is None:
            return self._ask(file, count)
        digest = content_hash(read_file(file))
        layout = _kept_layout(response_file, digest) if response_file.exists() else None
        if layout is None:
            layout = self._ask(file, count)
            _keep(layout, response_file, digest)
        elif len(layout.pages) != count:
            raise RecordError(
                str(response_file),
                f"it is about {len(layout.pages)} pages, and {file} has {count}; delete it to send the file again",
            )
        return layout

    def _ask(self, file: Path, count: int) -> Layout:
        if self.parser is None:
            self.parser = LayoutParser()
        if count <= MAX_PAGES:
            return self.parser.parse(file, page_count=count)
        parts = [
            self.parser.parse(file, start_page=first, end_page=min(first + MAX_PAGES - 1, count))
            for first in range(1, count + 1, MAX_PAGES)
        ]
        return Layout.of([response for part in parts for response in part.responses])


def _kept_layout(file: Path, digest: str) -> Layout | None:
    """Return the layout that a file of answers holds, or None if these are about another content."""
    try:
        kept: Any = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(kept, dict) and _RESPONSES in kept:
            if kept.get(CONTENT_HASH) != digest:
                return None
            kept = kept[_RESPONSES]
        responses = kept if isinstance(kept, list) else [kept]
        if not responses or not all(isinstance(response, dict) for response in responses):
            raise ValueError("it holds no answer of layout_parsing")
        return Layout.of(responses)
    except (OSError, ValueError, RecursionError, GLMError) as error:
        raise RecordError(str(file), f"cannot be read ({error}); delete it to send its file again") from None


def _keep(layout: Layout, file: Path, digest: str) -> None:
    """Write answers to a file, which is whole or does not exist."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(file) as opened:
        opened.write(json.dumps({CONTENT_HASH: digest, _RESPONSES: layout.responses}).encode("ascii"))


def _with_layout(node: ImageNode, page: LayoutPage) -> ImageNode:
    """Return a copy of a node with the page text and the Markdown of a page."""
    lines: list[Mapping[str, Any]] = [
        {"text": text, "box": list(box), "score": 1.0} for text, box in page.lines() if box is not None
    ]
    read = with_page_text(node, page.text, GLM_OCR, lines)
    return with_hidden_metadata(read, {PAGE_MARKDOWN: page.markdown}) if page.markdown else read
