"""``PageReader``: pages of PDF files and slides, as images with their text."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import ImageNode
from tqdm.auto import tqdm

from llama_index_mm_zhipu.images import encode_image
from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.folder_files import OutsideLinks, name_error, visible_files
from llama_index_mm_zhipu.readers.page_drawing import PAGE_SECONDS, SlowPageError, draw_page, pdfium_lock, tidied
from llama_index_mm_zhipu.readers.records import ImageRecord, RecordError, content_hash
from llama_index_mm_zhipu.types import OnError

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

logger = logging.getLogger(__name__)

SLIDE_SUFFIXES = (".pptx", ".ppt", ".odp")
"""Endings of the files that LibreOffice is asked to convert."""

TIMEOUT_SECONDS = 300

# Where LibreOffice's own installers put it, off the PATH.
_INSTALLED = (
    "/Applications/LibreOffice.app/Contents/MacOS/soffice",
    r"C:\Program Files\LibreOffice\program\soffice.exe",
)


def slides_to_pdf(file: Path, folder: Path) -> Path:
    """Convert slides.

    Args:
        file: The slides.
        folder: Where the PDF file goes.

    Returns:
        The PDF file.

    Raises:
        RecordError: LibreOffice is not there, or cannot read the file.
    """
    program = shutil.which("soffice") or next(filter(shutil.which, _INSTALLED), None)
    if program is None:
        raise RecordError(
            f"{file}: slides need LibreOffice to become images: install it (its soffice must be on the PATH), or "
            "save them as PDF"
        )
    # A profile of its own: an open LibreOffice would take the request over, and not answer.
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = [program, profile, "--headless", "--convert-to", "pdf", "--outdir", str(folder), str(file)]
    try:
        status, said = _run(command, folder / "said.txt")
    except subprocess.TimeoutExpired:
        raise RecordError(f"{file}: LibreOffice took longer than {TIMEOUT_SECONDS} s; save it as PDF") from None
    pdf = folder / f"{file.stem}.pdf"
    if not pdf.is_file():
        # Warnings stand above the error.
        reason = said.strip().splitlines()[-1:] or [f"exit status {status}"]
        raise RecordError(f"{file}: LibreOffice cannot convert it ({reason[0]})")
    return pdf


def _run(command: list[str], output: Path) -> tuple[int, str]:
    """Run LibreOffice, which starts further processes, and leave none of them behind."""
    # A file, not a pipe, which those processes would hold open.
    with output.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(timeout=TIMEOUT_SECONDS)
        except BaseException:
            _kill_all(process)
            raise
    return status, output.read_text(encoding="utf-8", errors="replace")


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        # They may be gone already.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


LONGEST_SIDE = 2048
"""Pixels of a page's longer side: small print stays legible, and a page is a JPEG of some 300 KB."""

_PDF = ".pdf"
_ENDINGS = (_PDF, *SLIDE_SUFFIXES)
_ENDINGS_LISTED = ", ".join(_ENDINGS)

MOST_PIXELS = 8192
"""Of a page's longer side: a larger square would not be opened again (``images`` limits the size of images)."""

_MAX_SLOW_PAGES = 3


class PageReader(ImageReader):
    """Reads each page as an image, with its text layer as the caption: full text finds what the page says.

    ``load_data(path, images)``: ``path`` is a file or a folder of them, looked through with its subfolders. Images
    are held by the nodes themselves, or, with ``images``, are JPEG files in that folder. Node ids are
    ``lecture.pdf/3``, metadata ``file_name`` and ``page_label``, as LlamaIndex's readers of PDF files have them. Pages
    without a text layer, such as scans, are warned of: ``ImageCaptioner`` describes them.

    PDF files need the extra ``pages``; slides (``.pptx``, ``.ppt``, ``.odp``) LibreOffice, too, which makes PDF files
    of them.

    Args:
        longest_side: Pixels of a page's longer side; 3840 makes 3840 × 2880 of a slide.
        page_seconds: Processor time to draw a page. One that takes longer is an error; after three of them the rest of
            the file is left out.
        password: Of encrypted PDF files.
        follow_links: Follow links that lead out of the folder, and links to folders. Else such links are left out, with
            a warning.
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
        show_progress: Show a progress bar.

    Raises:
        ImportError: The extra is missing.
    """

    ids_are_files = True

    def __init__(
        self,
        *,
        longest_side: int = LONGEST_SIDE,
        page_seconds: float = PAGE_SECONDS,
        password: str | None = None,
        follow_links: bool = False,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        if not 1 <= longest_side <= MOST_PIXELS:
            raise ValueError(f"longest_side is {longest_side}; it is a number of pixels, at most {MOST_PIXELS}")
        if page_seconds <= 0:
            raise ValueError(f"page_seconds is {page_seconds}; it is a number of seconds above 0")
        self.longest_side = longest_side
        self.page_seconds = page_seconds
        self._password = password
        self.follow_links = follow_links
        self._left_out = ""
        _require_pdfium()

    def _root(self, path: Path) -> Path:
        # A file alone is named as in its folder.
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
                yield from self._pages_of(file, name, folder)
            except RecordError as error:
                yield error

    def _nothing_read(self, path: str | Path, images: str | Path | None = None) -> str:
        return f"{path} holds no pages; {self._left_out or f'expected {_ENDINGS_LISTED} files'}"

    def _files(self, root: Path) -> list[Path]:
        if root.is_file():
            if root.suffix.lower() not in _ENDINGS:
                raise ValueError(f"{root} is none of {_ENDINGS_LISTED}")
            return [root]
        if not root.is_dir():
            raise FileNotFoundError(f"no such file or folder: {root}")
        links = OutsideLinks(root, self.follow_links)
        files = visible_files(root, _ENDINGS, links=links)
        links.warn()
        self._left_out = links.left_out()
        return files

    def _pages_of(self, file: Path, name: str, folder: Path | None) -> Iterator[NodeOrError]:
        with TemporaryDirectory() as scratch:
            pdf = file if file.suffix.lower() == _PDF else slides_to_pdf(file, Path(scratch))
            with _opened(pdf, file, self._password) as document:
                yield from self._nodes(document, file, name, folder)

    def _nodes(self, document: PdfDocument, file: Path, name: str, folder: Path | None) -> Iterator[NodeOrError]:
        with pdfium_lock:
            count = len(document)
        without_text = slow = 0
        numbers = range(1, count + 1)
        for number in tqdm(numbers, desc=f"Reading {file.name}", unit="page", disable=not self.show_progress):
            try:
                image, text = self._page(document, number)
            except (_pdfium_error(), ValueError) as error:
                yield RecordError(f"{file}, page {number}: cannot be rendered ({error})")
                slow += isinstance(error, SlowPageError)
                if slow == _MAX_SLOW_PAGES and number < count:
                    yield RecordError(f"{file}: pages {number + 1} to {count} are left out after {slow} slow ones")
                    break
                continue
            without_text += not text
            yield _node(name, number, image, text, folder)
        if without_text:
            logger.warning(
                "%d of %d pages of %s have no text layer: words do not find them by what they say, unless "
                "ImageCaptioner describes them",
                without_text,
                count,
                file,
            )

    def _page(self, document: PdfDocument, number: int) -> tuple[bytes, str]:
        with pdfium_lock:
            page = document[number - 1]
        try:
            image = draw_page(page, self.longest_side, self.page_seconds)
            with pdfium_lock, closing(page.get_textpage()) as layer:
                text = layer.get_text_bounded()
        finally:
            with pdfium_lock:
                page.close()
        return encode_image(image), tidied(text)


def _node(name: str, number: int, image: bytes, text: str, folder: Path | None) -> ImageNode:
    source: dict[str, Any] = {"image": base64.b64encode(image).decode("ascii")}
    if folder is not None:
        file = folder / f"{name}-{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image)
        source = {"image_path": str(file)}
    metadata = {"file_name": name, "page_label": str(number)}
    return ImageRecord.of(f"{name}/{number}", content_hash(image), text=text, metadata=metadata, **source)


@contextmanager
def _opened(pdf: Path, file: Path, password: str | None) -> Iterator[PdfDocument]:
    from pypdfium2 import PdfDocument

    try:
        with pdfium_lock:
            document = PdfDocument(pdf, password=password)
            # What was filled into forms is drawn only then.
            document.init_forms()
    except _pdfium_error() as error:
        hint = "give PageReader(password=…)" if "password" in str(error).lower() else "is it damaged?"
        raise RecordError(f"{file}: cannot be opened as a PDF ({error}); {hint}") from None
    try:
        yield document
    finally:
        with pdfium_lock:
            document.close()


def _pdfium_error() -> type[Exception]:
    from pypdfium2 import PdfiumError

    error: type[Exception] = PdfiumError
    return error


def _require_pdfium() -> None:
    try:
        import pypdfium2  # noqa: F401
    except ImportError:
        raise ImportError('PageReader needs pypdfium2: pip install "llama-index-mm-zhipu[pages]"') from None
