"""Make the pages of the examples, ``lecture.pdf`` and ``car_maintenance.pdf``, from their JSON files.

Needs the packages ``reportlab`` and ``pypdfium2`` and a Chinese font with TrueType outlines, by default Droid Sans
Fallback (Debian and Ubuntu: fonts-droid-fallback)::

    python examples/cases/make_pages.py

A page has 720 × 540 points. The PDF files are reproducible and contain only the glyphs that they use. The figures of
steps are images in the file; all other figures are drawings made of lines and areas.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas
except ModuleNotFoundError:
    sys.exit("reportlab is missing: pip install reportlab")

from figures import draw_figure, figure_image
from typesetting import CHINESE, Box, draw_list, draw_text, load_fonts, wrap

HERE = Path(__file__).parent
DEFAULT_FONT = Path("/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf")

WIDTH, HEIGHT = 720, 540

_NAVY, _ORANGE, _TEAL, _GREY = "#1f3a5f", "#e08a2c", "#0f5b5e", "#6b7780"

Page = dict[str, Any]


def draw_slide(canvas: Canvas, book: str, page: Page, number: int) -> None:
    """Draw a slide: title bar, sentences on the left, figure on the right."""
    canvas.setFillColor(_NAVY)
    canvas.rect(0, HEIGHT - 78, WIDTH, 78, stroke=0, fill=1)
    canvas.setFillColor(_ORANGE)
    canvas.rect(0, HEIGHT - 83, WIDTH, 5, stroke=0, fill=1)
    draw_text(canvas, 36, HEIGHT - 51, page["title"], 32, "#ffffff")
    draw_list(canvas, Box(36, 44, 346, HEIGHT - 146), page["sentences"], 16, _ORANGE)
    _draw_captioned(canvas, page["figure"], Box(398, 58, 286, HEIGHT - 166), page["figure"]["caption"])
    draw_text(canvas, 36, 18, book, 11, _GREY)
    draw_text(canvas, WIDTH - 36, 18, str(number), 11, _GREY, "right")


def draw_handbook_page(canvas: Canvas, book: str, page: Page, number: int) -> None:
    """Draw a page of a handbook: running head, chapter title, sentences, and below them a figure or four steps."""
    draw_text(canvas, 36, HEIGHT - 30, book, 12, _GREY)
    draw_text(canvas, WIDTH - 36, HEIGHT - 30, f"第 {number} 章", 12, _GREY, "right")
    canvas.setStrokeColor(_TEAL)
    canvas.setLineWidth(1.5)
    canvas.line(36, HEIGHT - 38, WIDTH - 36, HEIGHT - 38)
    canvas.setFillColor(_TEAL)
    canvas.rect(36, HEIGHT - 80, 7, 28, stroke=0, fill=1)
    draw_text(canvas, 54, HEIGHT - 75, page["title"], 25, _TEAL)
    draw_text(canvas, WIDTH / 2, 16, f"{number}", 12, _GREY, "middle")
    if "steps" in page:
        draw_list(canvas, Box(36, 394, WIDTH - 72, HEIGHT - 488), page["sentences"], 15.5, _TEAL)
        draw_steps(canvas, page["steps"], Box(36, 36, WIDTH - 72, 356), number)
        return
    draw_list(canvas, Box(36, 272, WIDTH - 72, HEIGHT - 370), page["sentences"], 15.5, _TEAL)
    panel = Box(36, 38, WIDTH - 72, 224)
    canvas.setFillColor("#f6f8f8")
    canvas.roundRect(*panel, 6, stroke=0, fill=1)
    _draw_captioned(canvas, page["figure"], panel.inset(8), f"图 {number}　{page['figure']['caption']}")


def draw_steps(canvas: Canvas, steps: list[Page], box: Box, number: int) -> None:
    """Draw steps in rows of two, each as an image with a caption and a text below it."""
    gap, rows = 24.0, math.ceil(len(steps) / 2)
    width, height = (box.width - gap) / 2, (box.height - gap * (rows - 1)) / rows
    for index, step in enumerate(steps):
        row, column = divmod(index, 2)
        x, top = box.x + (width + gap) * column, box.y + box.height - (height + gap) * row
        # The caption, and two lines of text.
        image_height = height - 46
        place = x, top - image_height, width, image_height
        canvas.drawImage(ImageReader(figure_image(step["figure"], width, image_height)), *place)
        draw_text(canvas, x, top - image_height - 14, f"图 {number}-{index + 1}　{step['caption']}", 12, _TEAL)
        for line_number, line in enumerate(wrap(step["text"], 11, width)):
            draw_text(canvas, x, top - image_height - 29 - 14 * line_number, line, 11)


def make_pdf(case: Path, draw_page: Callable[[Canvas, str, Page, int], None]) -> Path:
    """Write the pages that a JSON file describes to a PDF file beside it, and return its path."""
    content = json.loads(case.read_text(encoding="utf-8"))
    output = case.with_suffix(".pdf")
    # invariant=1 leaves out dates and random identifiers, so that the file is reproducible. Without an initial font,
    # each page would refer to Helvetica, which is not embedded.
    canvas = Canvas(str(output), (WIDTH, HEIGHT), pageCompression=1, invariant=1, initialFontName=CHINESE)
    canvas.setTitle(content["title"])
    for number, page in enumerate(content["pages"], start=1):
        draw_page(canvas, content["title"], page, number)
        canvas.showPage()
    canvas.save()
    return output


def main() -> None:
    """Write both files and print their sizes."""
    load_fonts(_arguments().font)
    for name, draw_page in (("lecture", draw_slide), ("car_maintenance", draw_handbook_page)):
        output = make_pdf(HERE / f"{name}.json", draw_page)
        print(f"Wrote {output}, {output.stat().st_size / 1000:.0f} kB")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--font", type=Path, default=DEFAULT_FONT, help="Chinese font with TrueType outlines")
    return parser.parse_args()


def _draw_captioned(canvas: Canvas, figure: Page, box: Box, caption: str) -> None:
    draw_figure(canvas, figure, Box(box.x, box.y + 22, box.width, box.height - 22))
    draw_text(canvas, box.x + box.width / 2, box.y + 2, caption, 12, _GREY, "middle")


if __name__ == "__main__":
    main()
