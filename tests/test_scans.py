"""Pages that were printed and scanned by script are found by their words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from llama_index_mm_zhipu.ingestion import ImageOcr, RapidOcrEngine


@pytest.fixture(scope="module")
def scans(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    """The benchmark that degrades pages."""
    return load_script(Path("benchmarks/scans.py"))


@pytest.fixture(scope="module")
def engine() -> RapidOcrEngine:
    pytest.importorskip("rapidocr")
    return RapidOcrEngine(threads=1)


@pytest.fixture
def page() -> Image.Image:
    """A white page with a black line from left to right in its middle."""
    pixels = np.full((600, 800, 3), 255, dtype=np.uint8)
    pixels[295:305, 100:700] = 0
    return Image.fromarray(pixels)


def test_a_scan_is_the_same_in_every_run_and_differs_by_page(scans: ModuleType, page: Image.Image) -> None:
    hard = scans.SCANS["hard"]
    assert scans.scan(page, hard, "lecture.pdf/1").tobytes() == scans.scan(page, hard, "lecture.pdf/1").tobytes()
    assert scans.scan(page, hard, "lecture.pdf/1").tobytes() != scans.scan(page, hard, "lecture.pdf/2").tobytes()


def test_a_page_askew_is_turned_clockwise_by_the_given_angle(scans: ModuleType, page: Image.Image) -> None:
    pixels = np.asarray(scans.scan(page, scans.Scan(skew=3), "page").convert("L"))
    rows, columns = np.nonzero(pixels < 128)
    assert np.degrees(np.arctan(np.polyfit(columns, rows, 1)[0])) == pytest.approx(3, abs=0.1)


def test_a_scan_has_the_given_resolution_and_turn(scans: ModuleType, page: Image.Image) -> None:
    assert scans.scan(page, scans.Scan(dpi=150), "page").size == (1500, 1125)
    sideways = np.asarray(scans.scan(page, scans.Scan(dpi=75, turn=90), "page").convert("L"))
    assert sideways.shape == (750, 562)
    assert (sideways[375, 270:292] < 128).any()


def test_light_falls_off_towards_a_corner(scans: ModuleType, page: Image.Image) -> None:
    pixels = np.asarray(scans.scan(page, scans.Scan(light=0.6), "page").convert("L"))
    corners = sorted(int(pixels[y, x]) for y in (0, -1) for x in (0, -1))
    assert corners[0] == pytest.approx(0.4 * 255, abs=3)
    assert corners[-1] >= 250


def test_errors_count_wrong_and_missing_characters_whatever_their_order(scans: ModuleType) -> None:
    assert scans.character_errors("胎压不足", "不足胎压") == 0
    assert scans.character_errors("胎压不足", "胎圧不足") == 1
    assert scans.character_errors("胎压不足", "") == 4
    assert scans.normalized("（１） 胎压") == "(1)胎压"


@pytest.mark.integration
def test_questions_about_mildly_degraded_scans_find_their_page_among_the_first_three(
    scans: ModuleType, engine: RapidOcrEngine, tmp_path: Path
) -> None:
    pages = scans.read_pages()[::4]
    found = scans.measure(pages, scans.SCANS["mild"], ImageOcr(engine=engine, cache_path=tmp_path / "ocr.sqlite3"))
    assert len(found["ranks"]) >= 10
    assert max(found["ranks"]) <= 3
    assert sum(found["errors"]) < 0.05 * sum(found["characters"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mild", "hard", "mild, turned 90°", "mild, turned 180°", "mild, turned 270°"])
def test_nearly_all_questions_about_scans_find_their_page_among_the_first_three(
    scans: ModuleType, engine: RapidOcrEngine, tmp_path: Path, name: str
) -> None:
    ocr = ImageOcr(engine=engine, cache_path=tmp_path / "ocr.sqlite3")
    found = scans.measure(scans.read_pages(), scans.SCANS[name], ocr)
    assert len(found["ranks"]) == 44
    assert sum(rank <= 3 for rank in found["ranks"]) >= 0.95 * 44
