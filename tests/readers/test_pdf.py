"""Drawing of pages in steps, with limits for pages that take too long."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image

from llama_index_mm_zhipu.readers import PageReader, RecordError, pages, pdf

CASES = Path(__file__).parents[2] / "examples" / "cases"


def page_of(content: bytes, *forms: bytes) -> bytes:
    """Return a PDF of one page with this content, which may draw form ``/F0``, which may draw ``/F1``, and so on."""
    names = [b"/Resources<</XObject<</F%d %d 0 R>>>>" % (number, 5 + number) for number in range(len(forms))]
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]/Contents 4 0 R" + b"".join(names[:1]) + b">>",
        b"<</Length %d>>stream\n%b\nendstream" % (len(content), content),
    ]
    for form, resources in zip(forms, [*names, b""][1:], strict=bool(forms)):
        head = b"<</Type/XObject/Subtype/Form/BBox[0 0 100 100]%b/Length %d>>" % (resources, len(form))
        objects.append(head + b"stream\n" + form + b"\nendstream")
    body = b"".join(b"%d 0 obj%b\nendobj\n" % each for each in enumerate(objects, 1))
    return b"%PDF-1.7\n" + body + b"trailer<</Size %d/Root 1 0 R>>\n%%%%EOF" % (len(objects) + 1)


STROKES = b"".join(b"%d 0 m %d 100 l S\n" % (number % 100, number * 7 % 100) for number in range(3000))


def test_a_page_that_takes_too_long_is_cancelled_and_others_are_read(tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "a.pdf").write_bytes(page_of(STROKES * 10))
    Image.open(photos[0]).convert("RGB").save(tmp_path / "b.pdf")
    with pytest.raises(
        RecordError, match=r"a\.pdf, page 1: .*takes longer than 0\.01 s to draw; give PageReader\(page_"
    ):
        PageReader(page_seconds=0.01).load_data(tmp_path)
    reader = PageReader(page_seconds=0.01, id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["b.pdf/1"]
    assert reader.skipped.count == 1


def test_the_rest_of_a_file_is_left_out_after_three_slow_pages(
    monkeypatch: pytest.MonkeyPatch, photos: list[Path]
) -> None:
    drawn: list[int] = []

    def slow(page: object, longest_side: int, seconds: float) -> None:
        drawn.append(longest_side)
        raise pdf.SlowPageError("it takes longer")

    monkeypatch.setattr(pages, "draw_page", slow)
    reader = PageReader(on_error="skip")
    with pytest.raises(ValueError, match="holds no pages"):
        reader.load_data(CASES / "lecture.pdf")
    assert len(drawn) == 3
    assert list(reader.skipped) == [
        *(f"{CASES / 'lecture.pdf'}, page {n}" for n in (1, 2, 3)),
        str(CASES / "lecture.pdf"),
    ]
    assert reader.skipped[str(CASES / "lecture.pdf")] == "pages 4 to 10 are left out after 3 slow ones"


def test_drawing_in_steps_gives_the_same_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(page_of(STROKES))
    (whole,) = PageReader(longest_side=300).load_data(tmp_path)
    steps: list[int] = []
    pdfium = pytest.importorskip("pypdfium2.raw")
    following = pdfium.FPDF_RenderPage_Continue
    monkeypatch.setattr(pdfium, "FPDF_RenderPage_Continue", lambda *given: steps.append(1) or following(*given))
    monkeypatch.setattr(pdf, "_STEP_SECONDS", 0.0)
    (in_steps,) = PageReader(longest_side=300, page_seconds=100).load_data(tmp_path)
    assert len(steps) > 10
    assert in_steps.image == whole.image


def test_other_files_are_read_while_a_page_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(page_of(STROKES))
    read: list[int] = []
    threads: list[threading.Thread] = []

    def read_other(seconds: float) -> None:
        if not threads:
            reader = PageReader(longest_side=64)
            threads.append(threading.Thread(target=lambda: read.append(len(reader.load_data(CASES / "lecture.pdf")))))
            threads[0].start()
            threads[0].join(60)

    monkeypatch.setattr(pdf, "_STEP_SECONDS", 0.0)
    monkeypatch.setattr(pdf, "sleep", read_other)
    assert len(PageReader(longest_side=300, page_seconds=100).load_data(tmp_path)) == 1
    assert read == [10]


@pytest.mark.parametrize(
    "content",
    [
        page_of(b"0 0 m\n" + b"9 9 l\n" * 1000 + b"S"),
        page_of(b"0 0 m\n" + b"9 9 l\n" * 1000 + b"f"),
        page_of(b"/F0 Do\n", b"0 0 m 9 9 l S\n" * 400),
        page_of(b"/F0 Do\n", b"/F1 Do\n" * 20, b"/F2 Do\n" * 20, b"0 0 m 9 9 l S"),
        page_of((b"0 0 m\n" + b"9 9 l\n" * 500 + b"S\n") * 3),
    ],
    ids=["long path", "filled path", "large form", "forms in forms", "several long paths"],
)
def test_a_page_with_objects_of_too_many_parts_is_an_error(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    assert len(PageReader(longest_side=32).load_data(tmp_path)) == 1
    monkeypatch.setattr(pdf, "MAX_PARTS", 900)
    with pytest.raises(RecordError, match=r"a\.pdf, page 1: .*it has objects of more than 900 parts; leave it out"):
        PageReader(longest_side=32).load_data(tmp_path)


def test_a_page_with_many_small_objects_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(page_of(STROKES))
    monkeypatch.setattr(pdf, "MAX_PARTS", 900)
    assert len(PageReader(longest_side=32, page_seconds=100).load_data(tmp_path)) == 1


def test_the_time_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="page_seconds is 0; it is a number of seconds above 0"):
        PageReader(page_seconds=0)
