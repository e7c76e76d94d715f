"""Pages of PDF files and slides become images with their text."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from llama_index.core import SimpleDirectoryReader
from PIL import Image
from pixel_engine import WIDTH as PIXELS
from pixel_engine import PixelEngine, image_of
from waiting import wait_until

from llama_index_mm_zhipu.images import load_image, page_text_of
from llama_index_mm_zhipu.ingestion import ImageOcr
from llama_index_mm_zhipu.readers import PageReader, RecordError, slides
from llama_index_mm_zhipu.readers.pdf import clean_text_layer

CASES = Path(__file__).parents[2] / "examples" / "cases"
FILES = Path(__file__).parents[1] / "data" / "pages"


def scan(path: Path, photo: Path) -> Path:
    """Write a PDF of one photograph without text."""
    Image.open(photo).convert("RGB").save(path)
    return path


@pytest.mark.parametrize("name", ["lecture", "car_maintenance"])
def test_pages_have_images_and_their_whole_text(name: str, tmp_path: Path) -> None:
    content = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))

    nodes = PageReader(longest_side=3840, id_prefix="").load_data(CASES / f"{name}.pdf", tmp_path / "pages")

    assert [node.node_id for node in nodes] == [f"{name}.pdf/{number + 1}" for number in range(len(content["pages"]))]
    for number, (node, page) in enumerate(zip(nodes, content["pages"], strict=True), 1):
        assert node.image_path == str(tmp_path / "pages" / f"{name}.pdf-{number}.jpg")
        with Image.open(node.image_path) as image:
            assert (image.format, image.size) == ("JPEG", (3840, 2880))
        assert (node.metadata["file_name"], node.metadata["page_label"]) == (f"{name}.pdf", str(number))
        text = re.sub(r"\s", "", node.text)
        for sentence in (page["title"], *page["sentences"]):
            assert re.sub(r"\s", "", sentence) in text


def test_nodes_contain_the_pages_and_have_the_same_hash_each_time() -> None:
    first, again = (PageReader(longest_side=640).load_data(CASES / "lecture.pdf") for _ in range(2))
    assert load_image(first[0]).size == (640, 480)
    assert first[0].image_path is None
    assert [node.hash for node in first] == [node.hash for node in again]
    assert len({node.hash for node in first}) == 10


def test_pages_are_rendered_with_colours_and_embedded_fonts() -> None:
    (title, *_) = PageReader(longest_side=720).load_data(CASES / "lecture.pdf")
    image = load_image(title)
    # The title bar, the background, and glyphs of the embedded font.
    assert image.getpixel((700, 10)) == pytest.approx((31, 58, 95), abs=6)
    assert image.getpixel((10, 300)) == pytest.approx((255, 255, 255), abs=6)
    darkest, _ = image.crop((40, 100, 380, 160)).convert("L").getextrema()
    assert darkest < 100


def test_a_file_name_that_is_not_utf_8_is_an_error(tmp_path: Path, photos: list[Path]) -> None:
    scan(tmp_path / "b.pdf", photos[0])
    shutil.copy(tmp_path / "b.pdf", os.fsencode(tmp_path) + "/课件.pdf".encode("gbk"))
    reader = PageReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["b.pdf/1"]
    assert list(reader.skipped.values()) == ["the name is not UTF-8; rename it"]


def test_a_folder_is_searched_recursively(tmp_path: Path, photos: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "deep").mkdir()
    scan(tmp_path / "deep" / "b.PDF", photos[0])
    scan(tmp_path / "a.pdf", photos[1])
    (tmp_path / "~$c.pptx").write_bytes(b"open in an office program")
    (tmp_path / "notes.txt").write_text("no pages")

    nodes = PageReader(id_prefix="").load_data(tmp_path, tmp_path / "pages")

    assert [(node.node_id, node.text) for node in nodes] == [("a.pdf/1", ""), ("deep/b.PDF/1", "")]
    assert nodes[1].image_path == str(tmp_path / "pages" / "deep" / "b.PDF-1.jpg")
    assert "no text layer on 1 of 1 pages of" in caplog.text
    assert 'PageReader(ocr="auto") or build_index(…, ocr=True) reads them, or ImageCaptioner describes' in caplog.text


def scans(path: Path, texts: list[str]) -> Path:
    """Write a PDF without text layer, with a page for each text that ``PixelEngine`` reads."""
    first, *others = map(image_of, texts)
    first.save(path, save_all=True, append_images=others, quality=100)
    return path


def test_ocr_reads_the_pages_without_text_layer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = PixelEngine(tmp_path / "calls.jsonl")
    ocr = ImageOcr(engine=engine, cache_path=tmp_path / "ocr.sqlite3")
    scans(tmp_path / "b.pdf", ["AAAA", "", "BBBB"])
    shutil.copy(CASES / "lecture.pdf", tmp_path / "a.pdf")
    nodes = PageReader(longest_side=PIXELS, ocr=ocr, id_prefix="").load_data(tmp_path)
    assert [node.node_id for node in nodes[10:]] == ["b.pdf/1", "b.pdf/2", "b.pdf/3"]
    assert [bool(node.text) for node in nodes[:10]] == [True] * 10
    assert [bool(page_text_of(node)) for node in nodes[10:]] == [True, False, True]
    assert nodes[10].metadata["page_text_source"] == "ocr"
    assert len(engine.calls) == 3
    assert caplog.text == ""
    every_page = ImageOcr(engine=engine, cache_path=tmp_path / "ocr.sqlite3", overwrite=True)
    PageReader(longest_side=PIXELS, ocr=every_page).load_data(tmp_path / "a.pdf")
    assert len(engine.calls) >= 13


def test_another_value_of_ocr_is_an_error() -> None:
    with pytest.raises(TypeError, match="ocr is 'always'; give True, False or an ImageOcr"):
        PageReader(ocr="always")  # type: ignore[arg-type]


@pytest.mark.integration
def test_rapidocr_reads_scans(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    pages = PageReader(longest_side=1280).load_data(CASES / "lecture.pdf")[:2]
    first, second = map(load_image, pages)
    first.save(tmp_path / "scan.pdf", save_all=True, append_images=[second])
    read = PageReader(ocr="auto").load_data(tmp_path / "scan.pdf")
    for before, after in zip(pages, read, strict=True):
        assert set(page_text_of(after)) >= set(before.text) - set("•· ")


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
    assert "left out 1 link to outside of " in caplog.text
    nodes = PageReader(follow_links=True, id_prefix="").load_data(tmp_path / "inside")
    assert [node.node_id for node in nodes] == ["a.pdf/1", "b.pdf/1"]


def test_a_progress_bar_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    PageReader(longest_side=64, show_progress=True).load_data(CASES / "lecture.pdf")
    assert "Reading lecture.pdf: 100%" in capsys.readouterr().err
    PageReader(longest_side=64).load_data(CASES / "lecture.pdf")
    assert capsys.readouterr().err == ""


# Passwords and damaged files


def test_a_password_opens_an_encrypted_file() -> None:
    with pytest.raises(RecordError, match=r"locked\.pdf: cannot be opened as a PDF .*give PageReader\(password=…\)"):
        PageReader().load_data(FILES / "locked.pdf")
    with pytest.raises(RecordError) as caught:
        PageReader(password="s3same").load_data(FILES / "locked.pdf")
    assert "s3same" not in str(caught.value)
    reader = PageReader(password="open sesame")
    assert reader.load_data(FILES / "locked.pdf")[0].text == "locked"
    assert "sesame" not in repr(reader)


def test_a_damaged_file_is_an_error_or_skipped(tmp_path: Path, photos: list[Path]) -> None:
    scan(tmp_path / "b.pdf", photos[0])
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\nnothing more")
    with pytest.raises(RecordError, match=r"a\.pdf: cannot be opened as a PDF .*is it damaged\?"):
        PageReader().load_data(tmp_path)
    reader = PageReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["b.pdf/1"]
    assert reader.skipped.count == 1


def test_other_files_and_invalid_sizes_are_errors(tmp_path: Path) -> None:
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


def test_a_page_without_area_is_an_error(tmp_path: Path, photos: list[Path]) -> None:
    page = scan(tmp_path / "b.pdf", photos[0]).read_bytes()
    (tmp_path / "a.pdf").write_bytes(
        re.sub(rb"/MediaBox \[[^\]]*\]", b"/MediaBox [ 0 0 9 9 ] /CropBox [50 50 60 60]", page)
    )
    reader = PageReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["b.pdf/1"]
    assert reader.skipped == {f"{tmp_path / 'a.pdf'}, page 1": "cannot be rendered (it has no area)"}


def test_values_of_form_fields_are_drawn() -> None:
    (page,) = PageReader(longest_side=300).load_data(FILES / "form.pdf")
    darkest, _ = load_image(page).convert("L").getextrema()
    assert darkest < 60


def test_garbage_collection_of_an_unfinished_reader_does_not_block_others() -> None:
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


def test_simple_directory_reader_accepts_it_as_file_extractor(tmp_path: Path) -> None:
    shutil.copy(CASES / "lecture.pdf", tmp_path)
    files = SimpleDirectoryReader(tmp_path, file_extractor={".pdf": PageReader(longest_side=64, id_prefix="")})
    pages = files.load_data()
    assert [page.node_id for page in pages] == [f"lecture.pdf/{number}" for number in range(1, 11)]
    assert pages[0].metadata["file_path"] == str(tmp_path / "lecture.pdf")
    assert pages[0].metadata["page_label"] == "1"


# Slides


def write_fake_soffice(folder: Path, script: str) -> None:
    """Write a script that replaces LibreOffice."""
    (folder / "soffice").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "soffice").chmod(0o755)


def is_running(process_id: str) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process_id}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_errors_of_libreoffice_in_other_encodings_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_fake_soffice(tmp_path, "printf 'first\\n\\316\\322 failed\\n'\nexit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RecordError, match=r"slides\.pptx: LibreOffice cannot convert it \(.* failed\)"):
        PageReader().load_data(FILES / "slides.pptx")


@pytest.mark.skipif(shutil.which("soffice") is None, reason="needs LibreOffice")
def test_slides_are_converted_with_libreoffice(tmp_path: Path) -> None:
    first, second = PageReader(longest_side=640, id_prefix="").load_data(FILES / "slides.pptx")
    assert (first.node_id, first.metadata["file_name"]) == ("slides.pptx/1", "slides.pptx")
    assert load_image(first).size == (640, 480)
    assert first.text.splitlines()[0] == "梯度下降"
    assert "测试误差很高" in second.text
    (tmp_path / "a.pptx").write_bytes(b"no slides")
    with pytest.raises(RecordError, match=r"a\.pptx: LibreOffice cannot convert it \(.*could not be loaded\)"):
        PageReader().load_data(tmp_path)


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_libreoffice_and_its_child_processes_are_killed_on_timeout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    write_fake_soffice(tmp_path, f"sleep 3600 &\necho $! > {started}\nwait")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(slides, "LIBREOFFICE_SECONDS", 3)
    with pytest.raises(RecordError, match=r"slides\.pptx: LibreOffice took longer than 3 s"):
        PageReader().load_data(FILES / "slides.pptx")
    # A killed process takes a moment to end; this one would sleep for an hour.
    assert wait_until(lambda: not is_running(started.read_text().strip()))


def test_without_libreoffice_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(slides, "_INSTALLED", ())
    with pytest.raises(RecordError, match=r"slides\.pptx: slides need LibreOffice .* or save them as PDF"):
        PageReader().load_data(FILES / "slides.pptx")


# Text layers


def test_chinese_lines_that_reach_the_margin_are_joined() -> None:
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


def test_lines_that_end_with_a_full_stop_are_not_joined() -> None:
    assert clean_text_layer("这一句刚好到头。\n下一句也刚好到\n") == "这一句刚好到头。\n下一句也刚好到"


def test_lines_in_other_scripts_are_not_joined() -> None:
    assert clean_text_layer("a line of English\nand another line\n") == "a line of English\nand another line"
    assert clean_text_layer("auto\ufffe\nmatic\x02") == "auto-\nmatic-"
    assert clean_text_layer(" \n\n") == ""
