"""Nodes as plain data: where they come from, what they are called, and nothing that is secret or of this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from figure_files import drawing, pdf_of, place
from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore, TextNode
from published_forms import Example
from videos import scene, write_video

from llama_index_mm_zhipu.images import MISSING_IMAGE, STORED_IMAGE, with_page_text
from llama_index_mm_zhipu.images.nodes import PAGE_TEXT, PAGE_TEXT_LINES, PAGE_TEXT_SOURCE
from llama_index_mm_zhipu.query.labels import IMAGE_LABEL, RETRIEVAL_SCORES
from llama_index_mm_zhipu.readers import FolderReader, JsonlReader, PageReader, VideoReader
from llama_index_mm_zhipu.readers.records import CONTENT_HASH, SOURCE_LOCATION, SOURCE_ROOT
from llama_index_mm_zhipu.service.conversion import result_of, results_of, source_of
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.store_file import INTERNAL_METADATA_KEYS


def data_of(node: BaseNode) -> dict[str, Any]:
    """Return a node as the values that JSON gives back."""
    found: dict[str, Any] = json.loads(json.dumps(result_of(node).as_dict(), ensure_ascii=False))
    return found


def test_an_image_file(emoji_folder: Path, captions_csv: Path) -> None:
    node = FolderReader().load_data(emoji_folder, captions_csv)[0]
    name = Path(node.image_path or "").stem
    assert data_of(node) == {
        "type": "image",
        "number": None,
        "node_id": node.node_id,
        "score": None,
        "score_type": None,
        "caption": name,
        "text": "",
        "page": "",
        "time": "",
        "source": str(emoji_folder / f"{name}.jpg"),
        "metadata": {"file_name": f"{name}.jpg", "price": node.metadata["price"]},
    }


def test_a_record_of_a_file(examples: list[Example], tmp_path: Path) -> None:
    file = tmp_path / "goods.jsonl"
    record = {
        "image_id": 7,
        "image_base64": examples[0].base64,
        "caption": "苹果",
        "file_name": "a.jpg",
        "tags": ["红"],
    }
    file.write_text(json.dumps(record), encoding="utf-8")
    (node,) = JsonlReader().load_data(file)
    found = data_of(node)
    assert (found["caption"], found["source"]) == ("苹果", str(file))
    assert found["metadata"] == {"file_name": "a.jpg", "tags": ["红"]}
    assert examples[0].base64[:40] not in json.dumps(found)


def test_a_page_and_its_figure(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    image = drawing("red")
    (folder / "deep" / "a.pdf").write_bytes(pdf_of([place(0, 20, 20, 120, 80)], [image]))
    page, figure = PageReader(figures=True).load_data(folder)
    for node in (page, figure):
        found = data_of(node)
        assert (found["page"], found["source"]) == ("1", str(folder / "deep" / "a.pdf"))
    assert data_of(figure)["metadata"]["figure_box"]
    (alone, _) = PageReader(figures=True).load_data(folder / "deep" / "a.pdf")
    assert source_of(alone) == str(folder / "deep" / "a.pdf")


def test_what_is_written_in_an_image_is_its_text() -> None:
    node = with_page_text(
        ImageNode(id_="a", image_path="/a.jpg", text="说明"), "营业时间", "ocr", [{"text": "营业时间"}]
    )
    found = data_of(node)
    assert (found["caption"], found["text"], found["metadata"]) == ("说明", "营业时间", {})


def test_a_frame_of_a_video(photos: list[Path], tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", [(scene(photos[0]), 3.0), (scene(photos[1]), 3.0)])
    frame = VideoReader().load_data(film)[-1]
    found = data_of(frame)
    assert (found["time"], found["source"]) == (frame.metadata["time"], str(film))
    assert found["time"].startswith("00:00:0")
    assert found["metadata"]["time_seconds"] == frame.metadata["time_seconds"]


def test_a_text_of_a_file() -> None:
    node = TextNode(id_="t", text="内容", metadata={"file_path": "/docs/a.md", "price": 3})
    found = data_of(node)
    assert (found["type"], found["text"], found["caption"], found["source"]) == ("text", "内容", "", "/docs/a.md")
    assert found["metadata"] == {"file_path": "/docs/a.md", "price": 3}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image_url": "https://me:s3cr3t@a.example/b.jpg?token=s3cr3t#s3cr3t"}, "https://a.example/b.jpg"),
        ({"image_path": "https://me:s3cr3t@a.example/b.jpg?token=s3cr3t"}, "https://a.example/b.jpg"),
        ({"image_url": "data:image/png;base64,s3cr3t"}, "an image given as 28 characters"),
        ({"image_path": "data:image/png;base64,s3cr3t"}, "an image given as 28 characters"),
        ({"image": "s3cr3t"}, ""),
    ],
)
def test_a_source_holds_neither_secrets_nor_the_image(fields: dict[str, str], expected: str) -> None:
    node = ImageNode(id_="a", **fields)  # type: ignore[arg-type]
    assert source_of(node) == expected
    assert "s3cr3t" not in json.dumps(data_of(node))


def test_the_source_of_a_name_that_is_not_utf8_is_its_path() -> None:
    root = "/photos/\uf7ff"
    node = ImageNode(id_="a", image="x", metadata={SOURCE_ROOT: root, SOURCE_LOCATION: f"{root}//1"})
    assert source_of(node) == "/photos/\udcff"


def test_a_retrieved_node_has_its_number_and_score(goods: ImageService) -> None:
    found = goods.search("飞机", similarity_top_k=2)
    texts, images = found.results[:2], found.results[2:]
    assert [(text.type, text.number) for text in texts] == [("text", None), ("text", None)]
    assert [(image.type, image.number) for image in images] == [("image", 1), ("image", 2)]
    assert {result.score_type for result in found.results} == {"similarity"}
    assert [result.score for result in found.results] == [node.score for node in found.nodes]
    assert {type(result.score) for result in found.results} == {float}
    assert not {key for result in found.results for key in result.metadata} & INTERNAL_METADATA_KEYS
    by_words = goods.search("飞机", similarity_top_k=2, mode="text_search").results
    assert {result.score_type for result in by_words} == {"score"}


@pytest.mark.parametrize("label", [{"number": "1\n[图2]", "score_type": "evil"}, "图1", ["图1"], None])
def test_a_key_of_a_data_set_is_no_label(label: object) -> None:
    node = ImageNode(id_="a", image="x", metadata={IMAGE_LABEL: label})
    (result,) = results_of([NodeWithScore(node=node, score=0.5)])
    assert (result.number, result.score_type, result.metadata) == (None, "score", {})


def test_the_keys_that_stand_for_constants_equal_them() -> None:
    assert {
        CONTENT_HASH,
        IMAGE_LABEL,
        MISSING_IMAGE,
        PAGE_TEXT,
        PAGE_TEXT_LINES,
        PAGE_TEXT_SOURCE,
        RETRIEVAL_SCORES,
        SOURCE_LOCATION,
        SOURCE_ROOT,
        STORED_IMAGE,
    } == INTERNAL_METADATA_KEYS
