"""Pages of PDF files and slides become images with their text."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import sys
import threading
from pathlib import Path

import pytest
from llama_index.core import SimpleDirectoryReader
from PIL import Image
from waiting import wait_until

from llama_index_mm_zhipu.images import load_image
from llama_index_mm_zhipu.readers import PageReader, RecordError, page_drawing, pages
from llama_index_mm_zhipu.readers.pages import clean_text_layer

CASES = Path(__file__).parents[2] / "examples" / "cases"
FILES = Path(__file__).parents[1] / "data" / "pages"


def scan(path: Path, photo: Path) -> Path:
    """Write a PDF of a photograph, without any text."""
    Image.open(photo).convert("RGB").save(path)
    return path


@pytest.mark.parametrize("name", ["lecture", "car_maintenance"])
def test_images_of_slides_and_all_that_they_say(name: str, tmp_path: Path) -> None:
    content = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))

    nodes = PageReader(longest_side=3840, id_prefix="").load_data(CASES / f"{name}.pdf", tmp_path / "pages")

    assert [node.node_id for node in nodes] == [f"{name}.pdf/{number + 1}" for number in range(len(content["pages"]))]
    for number, (node, page) in enumerate(zip(nodes, content["pages"], strict=True), 1):
        assert node.image_path == str(tmp_path / "pages" / f"{name}.pdf-{number}.jpg")
        with Image.open(node.image_path) as image:
            assert (image.format, image.size) == ("JPEG", (3840, 2880))
        assert (node.metadata["file_name"], node.metadata["page_label"]) == (f"{name}.pdf", str(number))
        said = re.sub(r"\s", "", node.text)
        for sentence in (page["title"], *page["sentences"]):
            assert re.sub(r"\s", "", sentence) in said


def test_pages_are_held_by_the_nodes_and_the_same_each_time() -> None:
    first, again = (PageReader(longest_side=640).load_data(CASES / "lecture.pdf") for _ in range(2))
    assert load_image(first[0]).size == (640, 480)
    assert first[0].image_path is None
    assert [node.hash for node in first] == [node.hash for node in again]
    assert len({node.hash for node in first}) == 10


def test_pages_look_as_they_should() -> None:
    (title, *_) = PageReader(longest_side=720).load_data(CASES / "lecture.pdf")
    image = load_image(title)
    # The title bar, the page's ground, and glyphs of the embedded font in between.
    assert image.getpixel((700, 10)) == pytest.approx((31, 58, 95), abs=6)
    assert image.getpixel((10, 300)) == pytest.approx((255, 255, 255), abs=6)
    darkest, _ = image.crop((40, 100, 380, 160)).convert("L").getextrema()
    assert darkest < 100


def test_a_name_that_no_store_can_hold_is_refused(tmp_path: Path, photos: list[Path]) -> None:
    scan(tmp_path / "b.pdf", photos[0])
    shutil.copy(tmp_path / "b.pdf", os.fsencode(tmp_path) + "/课件.pdf".encode("gbk"))
    reader = PageReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["b.pdf/1"]
    assert list(reader.skipped.values()) == ["the name is not UTF-8; rename it"]


def test_a_folder_is_looked_through(tmp_path: Path, photos: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "deep").mkdir()
    scan(tmp_path / "deep" / "b.PDF", photos[0])
    scan(tmp_path / "a.pdf", photos[1])
    (tmp_path / "~$c.pptx").write_bytes(b"open in an office program")
    (tmp_path / "notes.txt").write_text("no pages")

    nodes = PageReader(id_prefix="").load_data(tmp_path, tmp_path / "pages")

    assert [(node.node_id, node.text) for node in nodes] == [("a.pdf/1", ""), ("deep/b.PDF/1", "")]
    assert nodes[1].image_path == str(tmp_path / "pages" / "deep" / "b.PDF-1.jpg")
    assert "1 of 1 pages of" in caplog.text
    assert "ImageCaptioner describes them" in caplog.text


def test_links_out_of_the_folder_are_followed_on_request(
    tmp_path: Path, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "inside").mkdir()
    scan(tmp_path / "inside" / "a.pdf", photos[0])
    scan(tmp_path / "b.pdf", photos[1])
    try:
        (tmp_path / "inside" / "b.pdf").symlink_to(tmp_path / "b.pdf")
    except OSError:
        pytest.skip("this system makes no links")
    assert [node.node_id for node in PageReader(id_prefix="").load_data(tmp_path / "inside")] == ["a.pdf/1"]
    assert "left out 1 links that lead out of " in caplog.text
    nodes = PageReader(follow_links=True, id_prefix="").load_data(tmp_path / "inside")
    assert [node.node_id for node in nodes] == ["a.pdf/1", "b.pdf/1"]


def test_progress_is_shown_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    PageReader(longest_side=64, show_progress=True).load_data(CASES / "lecture.pdf")
    assert "Reading lecture.pdf: 100%" in capsys.readouterr().err
    PageReader(longest_side=64).load_data(CASES / "lecture.pdf")
    assert capsys.readouterr().err == ""


# Passwords and broken files


def test_a_password_opens_what_is_encrypted() -> None:
    with pytest.raises(RecordError, match=r"locked\.pdf: cannot be opened as a PDF .*give PageReader\(password=…\)"):
        PageReader().load_data(FILES / "locked.pdf")
    with pytest.raises(RecordError) as caught:
        PageReader(password="s3same").load_data(FILES / "locked.pdf")
    assert "s3same" not in str(caught.value)
    reader = PageReader(password="open sesame")
    assert reader.load_data(FILES / "locked.pdf")[0].text == "locked"
    assert "sesame" not in repr(reader)


def test_a_broken_file_is_named_or_skipped(tmp_path: Path, photos: list[Path]) -> None:
    scan(tmp_path / "b.pdf", photos[0])
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\nnothing more")
    with pytest.raises(RecordError, match=r"a\.pdf: cannot be opened as a PDF .*is it damaged\?"):
        PageReader().load_data(tmp_path)
    reader = PageReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["b.pdf/1"]
    assert reader.skipped.count == 1


def test_what_is_no_page_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.docx is none of \.pdf, \.pptx, \.ppt, \.odp"):
        PageReader().load_data(tmp_path / "a.docx")
    with pytest.raises(ValueError, match=r"holds no pages; expected \.pdf"):
        PageReader().load_data(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        PageReader().load_data(tmp_path / "gone")
    for longest_side in (0, 70_000):
        with pytest.raises(ValueError, match=f"longest_side is {longest_side}"):
            PageReader(longest_side=longest_side)


def test_without_pypdfium2_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(ImportError, match=r'pip install "llama-index-mm-zhipu\[pages\]"'):
        PageReader()


def test_a_page_without_area_is_named(tmp_path: Path, photos: list[Path]) -> None:
    page = scan(tmp_path / "b.pdf", photos[0]).read_bytes()
    (tmp_path / "a.pdf").write_bytes(
        re.sub(rb"/MediaBox \[[^\]]*\]", b"/MediaBox [ 0 0 9 9 ] /CropBox [50 50 60 60]", page)
    )
    reader = PageReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["b.pdf/1"]
    assert reader.skipped == {f"{tmp_path / 'a.pdf'}, page 1": "cannot be rendered (it has no area)"}


def test_what_was_filled_into_forms_is_drawn() -> None:
    (page,) = PageReader(longest_side=300).load_data(FILES / "form.pdf")
    darkest, _ = load_image(page).convert("L").getextrema()
    assert darkest < 60


def test_readings_left_in_cycles_do_not_stop_others() -> None:
    thresholds = gc.get_threshold()
    gc.set_threshold(23)
    try:
        for _ in range(10):
            reading = PageReader(longest_side=32).lazy_load_data(CASES / "lecture.pdf")
            cycle: list[object] = [reading]
            cycle.append(cycle)
            next(reading)
            del reading, cycle
            assert len(PageReader(longest_side=32).load_data(CASES / "lecture.pdf")) == 10
    finally:
        gc.set_threshold(*thresholds)


def test_llama_indexs_own_reader_of_folders_takes_it(tmp_path: Path) -> None:
    shutil.copy(CASES / "lecture.pdf", tmp_path)
    files = SimpleDirectoryReader(tmp_path, file_extractor={".pdf": PageReader(longest_side=64, id_prefix="")})
    pages = files.load_data()
    assert [page.node_id for page in pages] == [f"lecture.pdf/{number}" for number in range(1, 11)]
    assert pages[0].metadata["file_path"] == str(tmp_path / "lecture.pdf")
    assert pages[0].metadata["page_label"] == "1"


# Slides


def write_fake_soffice(folder: Path, script: str) -> None:
    """Write a program to be run instead of LibreOffice."""
    (folder / "soffice").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "soffice").chmod(0o755)


def is_running(process_id: str) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process_id}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_what_libreoffice_says_in_other_encodings_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_fake_soffice(tmp_path, "printf 'first\\n\\316\\322 failed\\n'\nexit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RecordError, match=r"slides\.pptx: LibreOffice cannot convert it \(.* failed\)"):
        PageReader().load_data(FILES / "slides.pptx")


@pytest.mark.skipif(shutil.which("soffice") is None, reason="needs LibreOffice")
def test_slides_are_read_by_way_of_libreoffice(tmp_path: Path) -> None:
    first, second = PageReader(longest_side=640, id_prefix="").load_data(FILES / "slides.pptx")
    assert (first.node_id, first.metadata["file_name"]) == ("slides.pptx/1", "slides.pptx")
    assert load_image(first).size == (640, 480)
    assert first.text.splitlines()[0] == "梯度下降"
    assert "测试误差很高" in second.text
    (tmp_path / "a.pptx").write_bytes(b"no slides")
    with pytest.raises(RecordError, match=r"a\.pptx: LibreOffice cannot convert it \(.*could not be loaded\)"):
        PageReader().load_data(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_libreoffice_is_stopped_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = tmp_path / "started"
    write_fake_soffice(tmp_path, f"sleep 3600 &\necho $! > {started}\nwait")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(pages, "LIBREOFFICE_SECONDS", 3)
    with pytest.raises(RecordError, match=r"slides\.pptx: LibreOffice took longer than 3 s"):
        PageReader().load_data(FILES / "slides.pptx")
    # A process that is killed takes a moment to end; this one would sleep for a minute.
    assert wait_until(lambda: not is_running(started.read_text().strip()))


def test_without_libreoffice_slides_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pages, "_INSTALLED", ())
    with pytest.raises(RecordError, match=r"slides\.pptx: slides need LibreOffice .* or save them as PDF"):
        PageReader().load_data(FILES / "slides.pptx")


# Pages that take long to draw


def page_of(content: bytes, *forms: bytes) -> bytes:
    """A PDF of one page with this content, which may draw the forms ``/F0``, ``/F1``, …, each of which the next."""
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


def test_a_page_that_takes_too_long_is_given_up_and_others_are_read(tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "a.pdf").write_bytes(page_of(STROKES * 10))
    scan(tmp_path / "b.pdf", photos[0])
    with pytest.raises(
        RecordError, match=r"a\.pdf, page 1: .*takes longer than 0\.01 s to draw; give PageReader\(page_"
    ):
        PageReader(page_seconds=0.01).load_data(tmp_path)
    reader = PageReader(page_seconds=0.01, id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["b.pdf/1"]
    assert reader.skipped.count == 1


def test_the_rest_of_a_file_of_slow_pages_is_left_out(monkeypatch: pytest.MonkeyPatch, photos: list[Path]) -> None:
    drawn: list[int] = []

    def slow(page: object, longest_side: int, seconds: float) -> None:
        drawn.append(longest_side)
        raise page_drawing.SlowPageError("it takes longer")

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


def test_pages_are_drawn_in_steps_as_they_are_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(page_of(STROKES))
    (whole,) = PageReader(longest_side=300).load_data(tmp_path)
    steps: list[int] = []
    pdfium = pytest.importorskip("pypdfium2.raw")
    following = pdfium.FPDF_RenderPage_Continue
    monkeypatch.setattr(pdfium, "FPDF_RenderPage_Continue", lambda *given: steps.append(1) or following(*given))
    monkeypatch.setattr(page_drawing, "_STEP_SECONDS", 0.0)
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

    monkeypatch.setattr(page_drawing, "_STEP_SECONDS", 0.0)
    monkeypatch.setattr(page_drawing, "sleep", read_other)
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
def test_a_page_of_objects_with_too_many_parts_is_refused(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    assert len(PageReader(longest_side=32).load_data(tmp_path)) == 1
    monkeypatch.setattr(page_drawing, "MAX_PARTS", 900)
    with pytest.raises(RecordError, match=r"a\.pdf, page 1: .*it has objects of more than 900 parts; leave it out"):
        PageReader(longest_side=32).load_data(tmp_path)


def test_a_page_of_many_small_objects_is_not_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(page_of(STROKES))
    monkeypatch.setattr(page_drawing, "MAX_PARTS", 900)
    assert len(PageReader(longest_side=32, page_seconds=100).load_data(tmp_path)) == 1


def test_the_time_of_a_page_is_a_positive_number() -> None:
    with pytest.raises(ValueError, match="page_seconds is 0; it is a number of seconds above 0"):
        PageReader(page_seconds=0)


# Text layers


def test_sentences_that_reach_the_margin_go_on() -> None:
    lines = [
        "梯度下降",
        "学习率决定每一步迈多大，是最需要细",
        " 心调节的超参数。",
        "",
        "过大时损失会来回震荡甚至发散，过小",
        "则收敛。",
    ]
    assert clean_text_layer("\r\n".join(lines)).splitlines() == [
        "梯度下降",
        "学习率决定每一步迈多大，是最需要细心调节的超参数。",
        "过大时损失会来回震荡甚至发散，过小则收敛。",
    ]


def test_sentences_that_end_at_the_margin_stay_apart() -> None:
    assert clean_text_layer("这一句刚好到头。\n下一句也刚好到\n") == "这一句刚好到头。\n下一句也刚好到"


def test_other_scripts_keep_their_lines() -> None:
    assert clean_text_layer("a line of English\nand another line\n") == "a line of English\nand another line"
    assert clean_text_layer("auto\ufffe\nmatic\x02") == "auto-\nmatic-"
    assert clean_text_layer(" \n\n") == ""
