"""``PageReader``: pages of PDF files and slides, drawn as images, with their text."""

from __future__ import annotations

import base64
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep, thread_time
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.schema import ImageNode
from llama_index.core.utils import iter_batch
from tqdm.auto import tqdm

from llama_index_mm_zhipu.images import encode_image, with_page_text
from llama_index_mm_zhipu.ingestion.ocr import ImageOcr, as_ocr
from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.figures import PAGE_LABEL, TEXT_LAYER, figure_node, relate
from llama_index_mm_zhipu.readers.figures_pdf import PdfFigure, PdfFigures, figures_of_page
from llama_index_mm_zhipu.readers.folder_files import OutsideLinks, list_files, name_error
from llama_index_mm_zhipu.readers.records import FILE_NAME, ImageRecord, RecordError, content_hash
from llama_index_mm_zhipu.text import CJK_RANGES
from llama_index_mm_zhipu.types import OnError

if TYPE_CHECKING:
    from PIL import Image
    from pypdfium2 import PdfDocument, PdfPage

logger = logging.getLogger(__name__)

PAGE_SECONDS = 5.0
"""Default for the processor time to draw a page; an ordinary page takes some hundredths of a second."""

MAX_PARTS = 500_000
"""Limit for the parts of large objects on a page: points of paths, and four for each object in a form.

pdfium checks for a pause only between the objects of the page itself, every few hundred of them. A single object with
millions of parts would be drawn without a pause.
"""

_PARTS_PER_FORM_OBJECT = 4
_FEW_PARTS = 100

_STEP_SECONDS = 0.1
_WHITE = 0xFFFFFFFF

# pdfium is not thread-safe. The lock is reentrant: while a thread holds it, the garbage collector may close another
# document in the same thread.
pdfium_lock = threading.RLock()


class SlowPageError(ValueError):
    """A page takes too long to draw. The message says why."""


def draw_page(page: PdfPage, longest_side: int, seconds: float) -> Image.Image:
    """Return a page as an RGB image.

    Args:
        page: The page. The function takes the lock itself, and releases it between steps.
        longest_side: Longer side of the image in pixels.
        seconds: Limit of the processor time of this thread; time that other threads take does not count.

    Raises:
        SlowPageError: The page takes longer, or has objects that would.
        ValueError: The page has no area, or pdfium fails.
    """
    import pypdfium2.raw as pdfium
    from pypdfium2 import PdfBitmap

    with pdfium_lock:
        width, height = page.get_size()
        if max(width, height) <= 0:
            raise ValueError("it has no area")
        _require_few_parts(pdfium, page)
        scale = longest_side / max(width, height)
        size = ceil(width * scale), ceil(height * scale)
        if 0 in size:
            raise ValueError("it has no area")
        bitmap = PdfBitmap.new_native(*size, pdfium.FPDFBitmap_BGR)
        pdfium.FPDFBitmap_FillRect(bitmap.raw, 0, 0, *size, _WHITE)
    target = (bitmap.raw, page.raw, 0, 0, *size, 0, pdfium.FPDF_ANNOT)
    try:
        _draw_in_steps(pdfium, page, target, seconds)
        with pdfium_lock:
            if page.formenv:
                # The values of form fields are a layer of their own.
                pdfium.FPDF_FFLDraw(page.formenv.raw, *target)
            image: Image.Image = bitmap.to_pil().convert("RGB")
            return image
    finally:
        with pdfium_lock:
            bitmap.close()


def _draw_in_steps(pdfium: Any, page: PdfPage, target: tuple[Any, ...], seconds: float) -> None:
    began = thread_time()
    pause, start_step = _pause_after_each_step(pdfium)
    try:
        with pdfium_lock:
            start_step()
            status = pdfium.FPDF_RenderPageBitmap_Start(*target, pause)
        while status == pdfium.FPDF_RENDER_TOBECONTINUED:
            if thread_time() - began > seconds:
                raise SlowPageError(
                    f"it takes longer than {seconds:g} s to draw; give PageReader(page_seconds=…) more, or leave it out"
                )
            # Lets a waiting thread take the lock; without the pause this thread would usually get it again.
            sleep(0.001)
            with pdfium_lock:
                start_step()
                status = pdfium.FPDF_RenderPage_Continue(page.raw, pause)
        if status != pdfium.FPDF_RENDER_DONE:
            raise ValueError("pdfium cannot draw it")
    finally:
        with pdfium_lock:
            pdfium.FPDF_RenderPage_Close(page.raw)


def _pause_after_each_step(pdfium: Any) -> tuple[Any, Callable[[], None]]:
    """Return the callback by which pdfium asks whether to pause, and a function that starts a step."""
    end = 0.0

    def start_step() -> None:
        nonlocal end
        end = perf_counter() + _STEP_SECONDS

    pause = pdfium.IFSDK_PAUSE(version=1)
    pause.NeedToPauseNow = type(pause.NeedToPauseNow)(lambda _: perf_counter() > end)
    return pause, start_step


def _require_few_parts(pdfium: Any, page: PdfPage) -> None:
    remaining = MAX_PARTS
    for index in range(pdfium.FPDFPage_CountObjects(page.raw)):
        parts = _count_parts(pdfium, pdfium.FPDFPage_GetObject(page.raw, index), remaining)
        # Small objects do not count: pdfium pauses between them.
        remaining -= parts if parts > _FEW_PARTS else 0
        if remaining < 0:
            raise SlowPageError(f"it has objects of more than {MAX_PARTS:,} parts; leave it out, or save it as images")


def _count_parts(pdfium: Any, page_object: Any, limit: int) -> int:
    """Return the number of parts of an object; counting stops above the limit."""
    object_type = pdfium.FPDFPageObj_GetType(page_object)
    if object_type == pdfium.FPDF_PAGEOBJ_PATH:
        return int(pdfium.FPDFPath_CountSegments(page_object))
    parts = 1
    if object_type == pdfium.FPDF_PAGEOBJ_FORM:
        for index in range(pdfium.FPDFFormObj_CountObjects(page_object)):
            parts += _PARTS_PER_FORM_OBJECT
            parts += _count_parts(pdfium, pdfium.FPDFFormObj_GetObject(page_object, index), limit - parts)
            if parts > limit:
                break
    return parts


LONGEST_SIDE = 2048
"""Default for the longer side of a page in pixels: small print is legible, and a page is a JPEG of about 300 KB."""

MAX_LONGEST_SIDE = 8192
"""Limit for the longer side of a page in pixels: ``images`` would not open a larger square."""

SLIDE_SUFFIXES = (".pptx", ".ppt", ".odp")
"""Suffixes of files that LibreOffice converts to PDF."""

LIBREOFFICE_SECONDS = 300

_PDF = ".pdf"
_SUFFIXES = (_PDF, *SLIDE_SUFFIXES)
_SUFFIXES_LISTED = ", ".join(_SUFFIXES)
_MAX_SLOW_PAGES = 3
_OCR_BATCH_SIZE = 64

# LibreOffice's installers put it here, outside of PATH.
_INSTALLED = (
    "/Applications/LibreOffice.app/Contents/MacOS/soffice",
    r"C:\Program Files\LibreOffice\program\soffice.exe",
)


class PageReader(ImageReader):
    """Reads each page as an image, with its text layer as the page text, so that full text search finds the page.

    ``load_data(path, images)``: ``path`` is a file, or a folder of files that is searched recursively. By default nodes
    contain the images; with ``images``, they refer to JPEG files that are written to that folder. Node ids end with
    ``lecture.pdf/3``; metadata are ``file_name`` and ``page_label``, as in LlamaIndex's readers of PDF files. A warning
    is logged for pages without a text layer, such as scans; ``ocr="auto"`` reads them.

    PDF files need the extra ``pages``. Slides (``.pptx``, ``.ppt``, ``.odp``) also need LibreOffice, which converts
    them to PDF.

    With ``figures=True``, the images within a PDF page follow it as nodes of their own, such as
    ``lecture.pdf/3/figure-2``, cut out of the drawn page. The text of such a node is the caption (图 3-2 …, Figure 2:
    …), its page text is the text beside it, and ``figure_box`` in its metadata is left, top, right and bottom as
    fractions of the page. Its parent is the page. Left out are icons (less than 32 points or 1 % of the page), rules,
    images as large as the page, images of one colour, those that an earlier page of the file has too, and drawings
    made of lines.

    Args:
        longest_side: Longer side of a page in pixels, at most 8192; a slide at 3840 is 3840 × 2880.
        page_seconds: Processor time for drawing a page. A page that takes longer is an error; after three such pages
            the rest of the file is left out.
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
    """

    ids_are_files = True

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
        super().__init__(id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        require_drawing_limits(longest_side, page_seconds)
        self.longest_side = longest_side
        self.page_seconds = page_seconds
        self._password = password
        self.figures = figures
        self._ocr = as_ocr(ocr, on_error=on_error, show_progress=show_progress)
        self.follow_links = follow_links
        self._excluded_links = ""
        require_pdfium()

    def _root(self, path: Path) -> Path:
        # A single file has the same ids as when its folder is read.
        return path.parent if path.expanduser().is_file() else path

    def _records(self, path: str | Path, images: str | Path | None = None) -> Iterator[NodeOrError]:
        root = Path(path).expanduser().absolute()
        folder = Path(images).expanduser().absolute() if images is not None else None
        for file in self._files(root):
            name = file.name if file == root else file.relative_to(root).as_posix()
            if (bad_name := name_error(name, file)) is not None:
                yield bad_name
                continue
            try:
                yield from self._with_ocr(self._pages_of(file, name, folder))
            except RecordError as error:
                yield error

    def _with_ocr(self, pages: Iterator[NodeOrError]) -> Iterator[NodeOrError]:
        """Yield pages in order; those without text are read together, so that several processes have work."""
        if (ocr := self._ocr) is None:
            yield from pages
            return
        for batch in iter_batch(pages, _OCR_BATCH_SIZE):
            found = [page for page in batch if isinstance(page, ImageNode) and (ocr.overwrite or not page.text)]
            read = {node.node_id: node for node in ocr(found)}
            yield from (page if isinstance(page, RecordError) else read.get(page.node_id, page) for page in batch)

    def _empty_message(self, path: str | Path, images: str | Path | None = None) -> str:
        return f"{path} holds no pages; {self._excluded_links or f'expected {_SUFFIXES_LISTED} files'}"

    def _files(self, root: Path) -> list[Path]:
        if root.is_file():
            if root.suffix.lower() not in _SUFFIXES:
                raise ValueError(f"{root} is none of {_SUFFIXES_LISTED}")
            return [root]
        if not root.is_dir():
            raise FileNotFoundError(f"no such file or folder: {root}")
        links = OutsideLinks(root, self.follow_links)
        files = list_files(root, _SUFFIXES, links=links)
        links.warn()
        self._excluded_links = links.summary()
        return files

    def _pages_of(self, file: Path, name: str, folder: Path | None) -> Iterator[NodeOrError]:
        with TemporaryDirectory() as scratch:
            pdf = file if file.suffix.lower() == _PDF else slides_to_pdf(file, Path(scratch))
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
            except (_pdfium_error(), ValueError) as error:
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
        if without_text and self._ocr is None:
            logger.warning(
                "%d of %d pages of %s have no text layer: full text search finds them only if "
                'PageReader(ocr="auto") reads them or ImageCaptioner describes them',
                without_text,
                count,
                file,
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
    source: dict[str, Any] = {"image": base64.b64encode(image).decode("ascii")}
    if folder is not None:
        file = folder / f"{name}-{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image)
        source = {"image_path": str(file)}
    metadata = {FILE_NAME: name, PAGE_LABEL: str(number)}
    node = ImageRecord.of(f"{name}/{number}", content_hash(image), metadata=metadata, **source)
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


@contextmanager
def open_pdf(pdf: Path, file: Path, password: str | None = None) -> Iterator[PdfDocument]:
    """Open a PDF file that was made from a file, or is that file, which errors name."""
    from pypdfium2 import PdfDocument

    try:
        with pdfium_lock:
            document = PdfDocument(pdf, password=password)
            # Without this, the values of form fields are not drawn.
            document.init_forms()
    except _pdfium_error() as error:
        hint = "give PageReader(password=…)" if "password" in str(error).lower() else "is it damaged?"
        raise RecordError(str(file), f"cannot be opened as a PDF ({error}); {hint}") from None
    try:
        yield document
    finally:
        with pdfium_lock:
            document.close()


def _pdfium_error() -> type[Exception]:
    from pypdfium2 import PdfiumError

    error: type[Exception] = PdfiumError
    return error


def require_drawing_limits(longest_side: int, page_seconds: float) -> None:
    """Raise an error if a limit for the drawing of pages is out of range.

    Raises:
        ValueError: A limit is out of range.
    """
    if not 1 <= longest_side <= MAX_LONGEST_SIDE:
        raise ValueError(f"longest_side is {longest_side}; it is a number of pixels, at most {MAX_LONGEST_SIDE}")
    if page_seconds <= 0:
        raise ValueError(f"page_seconds is {page_seconds}; it is a number of seconds above 0")


def require_pdfium() -> None:
    """Raise an error if pypdfium2 is not installed.

    Raises:
        ImportError: It is not installed; the message names the extra.
    """
    try:
        import pypdfium2  # noqa: F401
    except ImportError:
        raise ImportError('PDF files need pypdfium2: pip install "llama-index-mm-zhipu[pages]"') from None


# Text layers

_UNSPACED_CHARACTER = re.compile(f"[{CJK_RANGES}]")
_MARGIN = 0.8
"""A line of at least this share of the longest line may have been broken for lack of space."""


def clean_text_layer(text: str) -> str:
    """Return the text of a page without blank lines and pdfium's marks for hyphens.

    A line that reaches the margin and ends with a Chinese character is joined with the next one if that begins with a
    Chinese character, so that words and sentences are whole.
    """
    lines = [line.strip().replace("\ufffe", "-").replace("\x02", "-") for line in text.splitlines()]
    lines = [line for line in lines if line]
    margin = _MARGIN * max(map(_width, lines), default=0)
    joined = ""
    for line, following in pairwise([*lines, ""]):
        continues = (
            _width(line) >= margin and _UNSPACED_CHARACTER.match(line[-1]) and _UNSPACED_CHARACTER.match(following)
        )
        joined += line if continues else f"{line}\n"
    return joined.strip()


def _width(line: str) -> int:
    """Return the width of a line in columns: Chinese characters take two."""
    return len(line) + len(_UNSPACED_CHARACTER.findall(line))


# Slides


def slides_to_pdf(file: Path, folder: Path) -> Path:
    """Convert slides with LibreOffice, and return the PDF file.

    Args:
        file: The slides.
        folder: Folder for the PDF file.

    Raises:
        RecordError: LibreOffice is not installed, cannot read the file, or takes too long.
    """
    program = shutil.which("soffice") or next(filter(shutil.which, _INSTALLED), None)
    if program is None:
        raise RecordError(
            str(file),
            "slides need LibreOffice to become images: install it (its soffice must be on the PATH), or save them as "
            "PDF",
        )
    # With the default profile, a running LibreOffice would take over the request and this process would not wait.
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = [program, profile, "--headless", "--convert-to", "pdf", "--outdir", str(folder), str(file)]
    try:
        status, output = _run(command, folder / "output.txt")
    except subprocess.TimeoutExpired:
        raise RecordError(str(file), f"LibreOffice took longer than {LIBREOFFICE_SECONDS} s; save it as PDF") from None
    pdf = folder / f"{file.stem}.pdf"
    if not pdf.is_file():
        # The last line is the error, earlier lines are warnings.
        reason = output.strip().splitlines()[-1:] or [f"exit status {status}"]
        raise RecordError(str(file), f"LibreOffice cannot convert it ({reason[0]})")
    return pdf


def _run(command: list[str], output: Path) -> tuple[int, str]:
    """Run LibreOffice, and return exit status and output; on errors all its processes are killed."""
    # The output goes to a file: further processes that LibreOffice starts would keep a pipe open.
    with output.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(timeout=LIBREOFFICE_SECONDS)
        except BaseException:
            _kill_process_group(process)
            raise
    return status, output.read_text(encoding="utf-8", errors="replace")


def _kill_process_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        # The processes may have ended meanwhile.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
