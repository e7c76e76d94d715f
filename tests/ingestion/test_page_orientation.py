"""Pages that are upside down or sideways are turned, at no cost for upright pages, photographs and vertical text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pytest
from llama_index.core.schema import ImageNode
from PIL import Image, ImageDraw, ImageFont

import llama_index_mm_zhipu
from llama_index_mm_zhipu.images import page_text_of
from llama_index_mm_zhipu.ingestion import ImageOcr, OcrLine, RapidOcrEngine
from llama_index_mm_zhipu.ingestion.ocr_engines import Box
from llama_index_mm_zhipu.ingestion.page_orientation import recognize_upright, turned_box, turned_lines

FONT = files(llama_index_mm_zhipu) / "display" / "fonts" / "NotoSansSC-Subset.otf"
SIZE = (400, 300)
PAGE = [
    OcrLine("冷却系统检查", (0.1, 0.1, 0.7, 0.2), 0.99),
    OcrLine("发动机冷却后再打开散热器盖", (0.1, 0.3, 0.9, 0.36), 0.98),
    OcrLine("液面应在两条刻线之间", (0.1, 0.4, 0.8, 0.46), 0.98),
]


class Reader:
    """An engine for one made-up page: as RapidOCR, it reads lines upright or turned clockwise, and no others.

    The colour of its left upper corner shows how an image is turned. In images of other sizes, which are made of parts
    of the page, it reads ``parts``.
    """

    def __init__(self, lines: Sequence[OcrLine], parts: Sequence[OcrLine] = ()) -> None:
        self.lines = lines
        self.parts = parts
        self.calls = 0

    def image(self, turn: int) -> Image.Image:
        """Return the page turned clockwise."""
        page = Image.new("RGB", SIZE, "white")
        page.paste("red", (0, 0, 200, 150))
        page.paste("green", (200, 0, 400, 150))
        page.paste("blue", (200, 150, 400, 300))
        return page.rotate(-turn, expand=True)

    def __call__(self, image: Image.Image) -> list[OcrLine]:
        self.calls += 1
        if sorted(image.size) != sorted(SIZE):
            return list(self.parts)
        corner = image.getpixel((0, 0))
        turn = {(255, 0, 0): 0, (255, 255, 255): 90, (0, 0, 255): 180, (0, 128, 0): 270}[corner]  # type: ignore[index]
        lines = turned_lines(self.lines, turn)
        return lines if turn in (0, 90) else [OcrLine("工", line.box, 0.4) for line in lines]


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_page_is_turned_until_it_is_upright(turn: int) -> None:
    reader = Reader(PAGE)
    read = recognize_upright(reader.image(turn), reader)
    assert (turn + read.turn) % 360 == 0
    assert [line.text for line in read.lines] == [line.text for line in PAGE]
    assert reader.calls <= (3 if turn else 1)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_boxes_are_those_of_the_image_as_it_was_given(turn: int) -> None:
    reader = Reader(PAGE)
    read = recognize_upright(reader.image(turn), reader)
    assert turned_lines(read.lines, read.turn) == PAGE
    assert read.lines == turned_lines(PAGE, turn)


def test_a_box_moves_with_the_image() -> None:
    box = (0.1, 0.2, 0.4, 0.3)
    assert turned_box(box, 0) == box
    assert turned_box(box, 90) == (0.7, 0.1, 0.8, 0.4)
    assert turned_box(box, 180) == (0.6, 0.7, 0.9, 0.8)
    assert turned_box(box, 270) == (0.2, 0.6, 0.3, 0.9)
    assert turned_box(turned_box(box, 90), 270) == box


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="no text"),
        pytest.param([OcrLine("参德", (0.2, 0.2, 0.5, 0.3), 0.2)], id="noise of a photograph"),
        pytest.param([OcrLine("一", (0, 0, 1, 1), 0.3)] * 5, id="boxes of the whole image"),
        pytest.param([OcrLine("", (0.2, 0.2, 0.2, 0.2), 0.3)], id="an empty box"),
        pytest.param([OcrLine("STOP", (0.4, 0.1, 0.45, 0.3), 0.9)], id="one short line that is upright"),
    ],
)
def test_images_with_little_text_are_read_once(lines: list[OcrLine]) -> None:
    reader = Reader(lines)
    assert recognize_upright(reader.image(0), reader).turn == 0
    assert reader.calls == 1


def test_of_a_page_that_cannot_be_read_either_way_the_better_reading_is_kept() -> None:
    blurred = [OcrLine("工", line.box, 0.5) for line in PAGE]
    reader = Reader(blurred)
    read = recognize_upright(reader.image(0), reader)
    assert (read.turn, read.lines, reader.calls) == (0, blurred, 2)


def test_an_engine_that_reads_no_tall_lines_gets_both_quarter_turns() -> None:
    reader = Reader(PAGE)

    def wide_only(image: Image.Image) -> list[OcrLine]:
        lines = reader(image)
        return lines if image.width > image.height else [OcrLine("工", line.box, 0.4) for line in lines]

    for turn in (90, 270):
        assert recognize_upright(reader.image(turn), wide_only).turn == 360 - turn


def test_wide_lines_decide_on_a_page_with_a_vertical_margin() -> None:
    margin = OcrLine("内部资料请勿外传", (0.93, 0.1, 0.97, 0.6), 0.99)
    reader = Reader([*PAGE, margin])
    assert recognize_upright(reader.image(0), reader).turn == 0
    assert reader.calls == 1


def test_a_page_with_tall_lines_is_upright_if_their_characters_are() -> None:
    vertical = turned_lines(PAGE, 90)
    parts = [OcrLine(line.text[:8], (0, 0, 1, 0.1), 0.9) for line in PAGE]
    reader = Reader(vertical, parts)
    assert recognize_upright(reader.image(0), reader).turn == 0
    assert reader.calls == 2


# With RapidOCR

TITLE, FIRST, SECOND = "冷却系统检查", "发动机冷却后再打开散热器盖", "液面应在上下刻线之间"


@pytest.fixture(scope="module")
def engine() -> RapidOcrEngine:
    pytest.importorskip("rapidocr")
    return RapidOcrEngine(threads=1)


def printed_page() -> Image.Image:
    page = Image.new("RGB", (640, 400), "white")
    draw = ImageDraw.Draw(page)
    for top, size, text in ((40, 48, TITLE), (160, 32, FIRST), (240, 32, SECOND)):
        draw.text((50, top), text, fill="black", font=ImageFont.truetype(str(FONT), size))
    return page


@pytest.mark.parametrize("box", [(0.1, 0.1, 0.9, 0.15), (0.1, 0.1, 0.15, 0.9)], ids=["wide", "tall"])
def test_a_page_that_is_read_equally_badly_however_it_is_turned_stays_as_it_is(box: Box) -> None:
    calls = []

    def read(image: Image.Image) -> list[OcrLine]:
        calls.append(image.size)
        return [OcrLine("工", box, 0.4)]

    assert recognize_upright(Image.new("RGB", SIZE), read).turn == 0
    assert len(calls) > 1


def vertical_page() -> Image.Image:
    """Return a page whose characters stand one below the other, in columns from right to left."""
    page = Image.new("RGB", (400, 560), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.truetype(str(FONT), 32)
    for column, text in enumerate((TITLE, FIRST, SECOND)):
        for row, character in enumerate(text):
            draw.text((320 - 70 * column, 40 + 36 * row), character, fill="black", font=font)
    return page


@pytest.mark.integration
def test_a_printed_page_upside_down_is_read_from_its_first_line_on(engine: RapidOcrEngine) -> None:
    read = recognize_upright(printed_page().rotate(180), engine)
    assert read.turn == 180
    assert [line.text for line in read.lines] == [TITLE, FIRST, SECOND]
    assert read.lines[0].box[1] > read.lines[2].box[3]


@pytest.mark.integration
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_printed_page_is_read_however_it_is_turned(turn: int, engine: RapidOcrEngine) -> None:
    read = recognize_upright(printed_page().rotate(-turn, expand=True), engine)
    assert (turn + read.turn) % 360 == 0
    assert [line.text for line in read.lines] == [TITLE, FIRST, SECOND]


@pytest.mark.integration
def test_vertical_text_is_not_taken_for_a_sideways_page(engine: RapidOcrEngine) -> None:
    read = recognize_upright(vertical_page(), engine)
    assert read.turn == 0
    assert {line.text for line in read.lines} == {TITLE, FIRST, SECOND}


@pytest.mark.integration
def test_photographs_are_read_once(engine: RapidOcrEngine, photos: list[Path]) -> None:
    calls = []

    def counted(image: Image.Image) -> list[OcrLine]:
        calls.append(image.size)
        return engine(image)

    for photo in photos:
        with Image.open(photo) as image:
            assert recognize_upright(image.convert("RGB"), counted).turn == 0
    assert len(calls) == len(photos)


@pytest.mark.integration
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_image_ocr_writes_the_text_of_turned_pages_in_order(turn: int, engine: RapidOcrEngine, tmp_path: Path) -> None:
    file = tmp_path / "page.png"
    printed_page().rotate(-turn, expand=True).save(file)
    (node,) = ImageOcr(engine=engine, cache_path=tmp_path / "ocr.sqlite3")([ImageNode(image_path=str(file))])
    places = [page_text_of(node).index(line) for line in (TITLE, FIRST, SECOND)]
    assert places == sorted(places)
