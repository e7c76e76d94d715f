"""Pages of PDF files and images become nodes with the text, the boxes and the Markdown of GLM-OCR."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from llama_index.core.schema import MetadataMode
from PIL import Image

from llama_index_mm_zhipu.images import ImageError, caption_of, load_image, page_text_of
from llama_index_mm_zhipu.llm import GLMAuthenticationError, GLMError, LayoutParser
from llama_index_mm_zhipu.readers import LayoutReader, RecordError
from llama_index_mm_zhipu.testing import MockGLMServer, RawAnswer, SentPage

CASES = Path(__file__).parents[2] / "examples" / "cases"
LECTURE = CASES / "lecture.pdf"


@pytest.fixture
def parser(server: MockGLMServer, key: str) -> Iterator[LayoutParser]:
    """A client of the mock server, which reads the text layer of PDF pages."""
    client = LayoutParser(api_key=key, api_base=server.url, max_retries=0)
    yield client
    client.close()


def blank_pdf(path: Path, pages: int) -> Path:
    """Write a PDF file of blank pages."""
    document = pypdfium2.PdfDocument.new()
    for _ in range(pages):
        document.new_page(72, 72)
    document.save(path)
    document.close()
    return path


def test_pages_have_images_and_the_text_that_was_read(parser: LayoutParser, tmp_path: Path) -> None:
    reader = LayoutReader(parser, longest_side=640, id_prefix="")
    nodes = reader.load_data(LECTURE, tmp_path / "pages")
    assert [node.node_id for node in nodes] == [f"lecture.pdf/{number}" for number in range(1, 11)]
    assert nodes[1].image_path == str(tmp_path / "pages" / "lecture.pdf-2.jpg")
    assert load_image(nodes[1]).size == (640, 480)
    assert (nodes[1].metadata["file_name"], nodes[1].metadata["page_label"]) == ("lecture.pdf", "2")
    assert "训练集用来拟合模型的参数" in page_text_of(nodes[1])
    assert caption_of(nodes[1]) == ""
    assert nodes[1].metadata["page_text_source"] == "glm-ocr"
    first = nodes[1].metadata["page_text_lines"][0]
    assert (first["text"], first["score"], first["box"][:3]) == ("训练集与测试集", 1.0, [0.0, 0.0, 1.0])


def test_neither_llm_nor_embedding_sees_markdown_and_lines(key: str, tmp_path: Path) -> None:
    def read(page: SentPage) -> list[dict[str, Any]]:
        return [{"content": f"# 第{page.number}页", "bbox_2d": [0, 0, 9, 9]}, {"content": "**胎压**", "bbox_2d": None}]

    with MockGLMServer(layout=read) as server:
        nodes = LayoutReader(LayoutParser(api_key=key, api_base=server.url), longest_side=64).load_data(LECTURE)
    assert nodes[2].metadata["page_markdown"] == "# 第3页\n\n**胎压**"
    assert page_text_of(nodes[2]) == "第3页\n胎压"
    # Lines without a box are in the text only.
    assert [line["text"] for line in nodes[2].metadata["page_text_lines"]] == ["第3页"]
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert "#" not in nodes[2].get_content(mode)
        assert "box" not in nodes[2].get_content(mode)
    assert nodes[2].image_path is None


def test_an_image_file_is_one_node_that_refers_to_it(
    server: MockGLMServer, parser: LayoutParser, photos: list[Path]
) -> None:
    (node,) = LayoutReader(parser, id_prefix="").load_data(photos[0])
    assert (node.node_id, node.image_path) == (photos[0].name, str(photos[0]))
    assert "JPEG 400×" in page_text_of(node)
    assert "content_hash" in node.metadata


def test_a_folder_is_searched_recursively(parser: LayoutParser, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    shutil.copy(LECTURE, tmp_path / "deep" / "b.PDF")
    shutil.copy(photos[0], tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("no page")
    nodes = LayoutReader(parser, id_prefix="", longest_side=64).load_data(tmp_path)
    assert [node.node_id for node in nodes] == ["a.jpg", *(f"deep/b.PDF/{number}" for number in range(1, 11))]


def test_more_than_100_pages_are_read_in_parts(server: MockGLMServer, parser: LayoutParser, tmp_path: Path) -> None:
    file = blank_pdf(tmp_path / "long.pdf", 203)
    nodes = LayoutReader(parser, id_prefix="", longest_side=8).load_data(file, responses=tmp_path / "kept")
    assert [node.node_id for node in nodes] == [f"long.pdf/{number}" for number in range(1, 204)]
    ranges = [(request["start_page_id"], request["end_page_id"]) for request in server.requests]
    assert ranges == [(1, 100), (101, 200), (201, 203)]
    again = LayoutReader(parser, id_prefix="", longest_side=8).load_data(file, responses=tmp_path / "kept")
    assert again == nodes
    assert len(server.requests) == 3


def test_a_page_without_text_has_no_page_text(key: str) -> None:
    with MockGLMServer(layout=lambda page: [] if page.number == 1 else [{"content": "胎压"}]) as server:
        nodes = LayoutReader(LayoutParser(api_key=key, api_base=server.url), longest_side=64).load_data(LECTURE)
    assert [page_text_of(node) for node in nodes[:2]] == ["", "胎压"]
    assert not {"page_markdown", "page_text_source", "page_text_lines"} & nodes[0].metadata.keys()


# Kept answers


def test_a_file_is_sent_once_while_its_answer_is_kept(
    server: MockGLMServer, parser: LayoutParser, photos: list[Path], tmp_path: Path
) -> None:
    shutil.copy(photos[0], tmp_path / "scan.jpg")
    reader = LayoutReader(parser, id_prefix="")
    nodes = reader.load_data(tmp_path, responses=tmp_path / "kept")
    assert LayoutReader(id_prefix="").load_data(tmp_path, responses=tmp_path / "kept") == nodes
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["scan.jpg.json"]
    assert len(server.requests) == 1
    shutil.copy(photos[1], tmp_path / "scan.jpg")
    assert reader.load_data(tmp_path, responses=tmp_path / "kept") != nodes
    assert len(server.requests) == 2


def test_an_answer_that_another_program_saved_is_read(photos: list[Path], tmp_path: Path) -> None:
    element = {
        "index": 1,
        "label": "text",
        "bbox_2d": [0, 0, 300, 80],
        "content": "# 胎压",
        "width": 600,
        "height": 800,
    }
    saved = {"id": "1", "created": 1, "model": "GLM-OCR", "md_results": "# 胎压", "layout_details": [[element]]}
    (tmp_path / f"{photos[0].name}.json").write_text(json.dumps(saved), encoding="utf-8")
    (node,) = LayoutReader().load_data(photos[0], responses=tmp_path)
    assert page_text_of(node) == "胎压"
    assert node.metadata["page_text_lines"] == [{"text": "胎压", "box": [0.0, 0.0, 0.5, 0.1], "score": 1.0}]


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "holds no answer of layout_parsing"),
        ("[3]", "holds no answer of layout_parsing"),
        ('"text"', "holds no answer of layout_parsing"),
        ("{}", "neither layout_details nor md_results"),
        ('{"layout_details": [[], []]}', "it is about 2 pages, and .* has 1; delete it"),
        ("\udcff", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
    ],
    ids=range(9),
)
def test_a_kept_answer_that_cannot_be_used_is_an_error(
    kept: str, reason: str, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / f"{photos[0].name}.json").write_bytes(kept.encode(errors="surrogateescape"))
    with pytest.raises(RecordError, match=rf"{photos[0].name}\.json: .*{reason}"):
        LayoutReader().load_data(photos[0], responses=tmp_path)


# Failures


def test_a_file_that_fails_is_skipped_on_request(
    server: MockGLMServer, parser: LayoutParser, photos: list[Path], tmp_path: Path
) -> None:
    for name, photo in zip("abc", photos, strict=False):
        shutil.copy(photo, tmp_path / f"{name}.jpg")
    (tmp_path / "d.pdf").write_bytes(b"%PDF-1.7 damaged")
    (tmp_path / "e.png").write_text("no image")
    server.script(None, RawAnswer("<html>"))
    reader = LayoutReader(parser, id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["a.jpg", "c.jpg"]
    assert [Path(name).name for name in reader.skipped] == ["b.jpg", "d.pdf", "e.png"]

    server.script(None, RawAnswer("<html>"))
    with pytest.raises(GLMError, match=r"b\.jpg"):
        LayoutReader(parser).load_data(tmp_path)
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(RecordError, match=r"d\.pdf: cannot be opened as a PDF"):
        LayoutReader(parser).load_data(tmp_path)
    (tmp_path / "d.pdf").unlink()
    with pytest.raises(ImageError, match=r"e\.png"):
        LayoutReader(parser).load_data(tmp_path)


def test_a_wrong_key_is_never_skipped(server: MockGLMServer, parser: LayoutParser, photos: list[Path]) -> None:
    server.fail_next(401, "1002", "no", times=9)
    with pytest.raises(GLMAuthenticationError):
        LayoutReader(parser, on_error="skip").load_data(photos[0].parent)
    assert len(server.requests) == 1


def test_an_answer_about_other_pages_is_an_error(server: MockGLMServer, parser: LayoutParser) -> None:
    server.script(RawAnswer('{"layout_details": [[], []]}', content_type="application/json"))
    with pytest.raises(GLMError, match=r"lecture\.pdf: .*answered with 2 pages for 10"):
        LayoutReader(parser).load_data(LECTURE)


def test_a_page_that_cannot_be_drawn_is_left_out(parser: LayoutParser, photos: list[Path], tmp_path: Path) -> None:
    for name in "ab":
        Image.open(photos[0]).convert("RGB").save(tmp_path / f"{name}.pdf")
    page = (tmp_path / "a.pdf").read_bytes()
    without_area = re.sub(rb"/MediaBox \[[^\]]*\]", b"/MediaBox [ 0 0 9 9 ] /CropBox [50 50 60 60]", page)
    (tmp_path / "a.pdf").write_bytes(without_area)
    reader = LayoutReader(parser, id_prefix="", on_error="skip", longest_side=64)
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["b.pdf/1"]
    assert reader.skipped == {f"{tmp_path / 'a.pdf'}, page 1": "cannot be rendered (it has no area)"}


def test_paths_and_settings_are_checked(parser: LayoutParser, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        LayoutReader(parser).load_data(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"holds no pages; expected \.pdf"):
        LayoutReader(parser).load_data(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"is none of \.pdf"):
        LayoutReader(parser).load_data(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="longest_side is 0"):
        LayoutReader(parser, longest_side=0)
    with pytest.raises(TypeError, match="unknown argument"):
        LayoutReader(parser).load_data(tmp_path, response=tmp_path)
