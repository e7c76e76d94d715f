"""Pages of PDF files as images, drawn in steps: a page that takes too long is given up, and others go on meanwhile."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import pairwise
from math import ceil
from time import perf_counter, sleep, thread_time
from typing import TYPE_CHECKING, Any

from llama_index_mm_zhipu.text import CJK_RANGES

if TYPE_CHECKING:
    from PIL import Image
    from pypdfium2 import PdfPage

PAGE_SECONDS = 5.0
"""Processor time to draw a page; an ordinary one takes some hundredths of a second."""

MAX_PARTS = 500_000
"""Of the large objects of a page: points of paths, and four for each object in a form. pdfium pauses only between the
objects of the page itself, some hundred at a time."""

_PARTS_OF_OBJECT = 4
_FEW_PARTS = 100

_STEP_SECONDS = 0.1
_WHITE = 0xFFFFFFFF

# pdfium must not run in two threads at a time.
# A lock that its thread may take twice: the garbage collector may close a document while another is read.
pdfium_lock = threading.RLock()


class SlowPageError(ValueError):
    """A page takes too long to draw. The message says why."""


def draw_page(page: PdfPage, longest_side: int, seconds: float) -> Image.Image:
    """Draw a page.

    Args:
        page: The lock need not be held; it is given up between steps.
        longest_side: Pixels.
        seconds: Processor time, so that other work of the machine does not count.

    Raises:
        SlowPageError: It would take longer.
        ValueError: It has no area, or pdfium fails.
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
    where = (bitmap.raw, page.raw, 0, 0, *size, 0, pdfium.FPDF_ANNOT)
    try:
        _draw_in_steps(pdfium, page, where, seconds)
        with pdfium_lock:
            if page.formenv:
                # What was filled into forms.
                pdfium.FPDF_FFLDraw(page.formenv.raw, *where)
            image: Image.Image = bitmap.to_pil().convert("RGB")
            return image
    finally:
        with pdfium_lock:
            bitmap.close()


def _draw_in_steps(pdfium: Any, page: PdfPage, where: tuple[Any, ...], seconds: float) -> None:
    began = thread_time()
    pause, start_step = _pause_after_each_step(pdfium)
    try:
        with pdfium_lock:
            start_step()
            status = pdfium.FPDF_RenderPageBitmap_Start(*where, pause)
        while status == pdfium.FPDF_RENDER_TOBECONTINUED:
            if thread_time() - began > seconds:
                raise SlowPageError(
                    f"it takes longer than {seconds:g} s to draw; give PageReader(page_seconds=…) more, or leave it out"
                )
            # Otherwise this thread would take the lock again before one that waits for it.
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
    """Return what pdfium asks, between objects, whether to pause, and a function that begins a step."""
    end = 0.0

    def start_step() -> None:
        nonlocal end
        end = perf_counter() + _STEP_SECONDS

    pause = pdfium.IFSDK_PAUSE(version=1)
    pause.NeedToPauseNow = type(pause.NeedToPauseNow)(lambda _: perf_counter() > end)
    return pause, start_step


def _require_few_parts(pdfium: Any, page: PdfPage) -> None:
    left = MAX_PARTS
    for position in range(pdfium.FPDFPage_CountObjects(page.raw)):
        parts = _parts(pdfium, pdfium.FPDFPage_GetObject(page.raw, position), left)
        # Between objects of few parts pdfium pauses often enough.
        left -= parts if parts > _FEW_PARTS else 0
        if left < 0:
            raise SlowPageError(f"it has objects of more than {MAX_PARTS:,} parts; leave it out, or save it as images")


def _parts(pdfium: Any, drawn: Any, most: int) -> int:
    """Count the parts of an object; at more than ``most`` the count ends."""
    kind = pdfium.FPDFPageObj_GetType(drawn)
    if kind == pdfium.FPDF_PAGEOBJ_PATH:
        return int(pdfium.FPDFPath_CountSegments(drawn))
    parts = 1
    if kind == pdfium.FPDF_PAGEOBJ_FORM:
        for position in range(pdfium.FPDFFormObj_CountObjects(drawn)):
            parts += _PARTS_OF_OBJECT
            parts += _parts(pdfium, pdfium.FPDFFormObj_GetObject(drawn, position), most - parts)
            if parts > most:
                break
    return parts


_CHARACTER = re.compile(f"[{CJK_RANGES}]")
_FULL = 0.8
"""Share of the longest line from which on a line may have been broken for lack of room."""


def tidied(text: str) -> str:
    """Return a text layer without blank lines and pdfium's marks at hyphens, Chinese sentences in one line.

    A line that reaches the margin and ends within Chinese goes on in the next one: words and sentences stay whole.
    """
    lines = [line.strip().replace("\ufffe", "-").replace("\x02", "-") for line in text.splitlines()]
    lines = [line for line in lines if line]
    margin = _FULL * max(map(_width, lines), default=0)
    whole = ""
    for line, following in pairwise([*lines, ""]):
        goes_on = _width(line) >= margin and _CHARACTER.match(line[-1]) and _CHARACTER.match(following)
        whole += line if goes_on else f"{line}\n"
    return whole.strip()


def _width(line: str) -> int:
    return len(line) + len(_CHARACTER.findall(line))
