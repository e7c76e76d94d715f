"""PDF files: open them, draw their pages as images, and clean their text layers."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import ceil
from pathlib import Path
from time import perf_counter, sleep, thread_time
from typing import TYPE_CHECKING, Any

from llama_index_mm_zhipu.readers.image_nodes import MAX_LONGEST_SIDE
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.text import CJK_RANGES

if TYPE_CHECKING:
    from PIL import Image
    from pypdfium2 import PdfDocument, PdfPage

LONGEST_SIDE = 2048
"""Default for the longer side of a page in pixels: small print is legible, and a page is a JPEG of about 300 KB."""

PDF_SUFFIX = ".pdf"

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


@contextmanager
def open_pdf(pdf: Path, file: Path, password: str | None = None) -> Iterator[PdfDocument]:
    """Open a PDF file that was made from a file, or is that file, which errors name."""
    from pypdfium2 import PdfDocument

    try:
        with pdfium_lock:
            document = PdfDocument(pdf, password=password)
            # Without this, the values of form fields are not drawn.
            document.init_forms()
    except pdfium_error() as error:
        hint = "give PageReader(password=…)" if "password" in str(error).lower() else "is it damaged?"
        raise RecordError(str(file), f"cannot be opened as a PDF ({error}); {hint}") from None
    try:
        yield document
    finally:
        with pdfium_lock:
            document.close()


def pdfium_error() -> type[Exception]:
    """Return the class of pdfium's errors."""
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
