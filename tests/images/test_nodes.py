"""Captions and page texts of image nodes."""

from __future__ import annotations

import pytest
from llama_index.core.schema import BaseNode, ImageDocument, ImageNode, MediaResource, MetadataMode, Node, TextNode

from llama_index_mm_zhipu.images import (
    as_image_node,
    caption_of,
    page_text_of,
    searchable_text_of,
    with_caption,
    with_page_text,
)
from llama_index_mm_zhipu.images.nodes import PAGE_TEXT_LINES

LINES = [{"text": "胎压过低", "box": [0.1, 0.2, 0.5, 0.25], "score": 0.98}]


@pytest.fixture(
    params=[
        ImageNode(id_="a", image_path="a.png"),
        ImageDocument(id_="a", image="AAAA"),
        Node(id_="a", image_resource=MediaResource(path="a.png")),
    ],
    ids=lambda node: type(node).__name__,
)
def image(request: pytest.FixtureRequest) -> BaseNode:
    node: BaseNode = request.param
    return node


def texts_of(node: BaseNode) -> tuple[str, str]:
    return caption_of(node), page_text_of(node)


def test_page_text_is_the_text_of_an_image_without_a_caption(image: BaseNode) -> None:
    page = with_page_text(image, "胎压过低", "ocr")
    assert texts_of(page) == ("", "胎压过低")
    assert page.get_content(MetadataMode.NONE) == "胎压过低"
    assert texts_of(image) == ("", "")


def test_caption_and_page_text_are_kept_apart_whichever_comes_first(image: BaseNode) -> None:
    one = with_caption(with_page_text(image, "胎压过低", "ocr"), "轮胎")
    other = with_page_text(with_caption(image, "轮胎"), "胎压过低", "ocr")
    for node in (one, other):
        assert texts_of(node) == ("轮胎", "胎压过低")
        assert node.get_content(MetadataMode.NONE) == "轮胎"
        assert searchable_text_of(node) == "轮胎\n胎压过低"
    assert one.metadata == other.metadata


def test_either_text_can_be_removed_or_replaced(image: BaseNode) -> None:
    both = with_page_text(with_caption(image, "轮胎"), "胎压过低", "ocr", LINES)
    assert texts_of(with_caption(both, "")) == ("", "胎压过低")
    assert texts_of(with_page_text(both, "机油", "text_layer")) == ("轮胎", "机油")
    without = with_page_text(both, "", "ocr")
    assert texts_of(without) == ("轮胎", "")
    assert without.metadata == image.metadata


def test_models_see_neither_marks_nor_lines(image: BaseNode) -> None:
    page = with_page_text(with_caption(image, "轮胎"), "胎压过低", "ocr", LINES)
    assert page.metadata[PAGE_TEXT_LINES] == LINES
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert page.get_content(mode) == "轮胎"


def test_an_image_node_made_of_another_class_keeps_both_texts(image: BaseNode) -> None:
    assert texts_of(as_image_node(with_page_text(image, "胎压过低", "ocr"))) == ("", "胎压过低")
    assert texts_of(as_image_node(with_page_text(with_caption(image, "轮胎"), "机油", "ocr"))) == ("轮胎", "机油")


def test_metadata_of_a_user_is_no_page_text() -> None:
    node = ImageNode(text="轮胎", image_path="a.png", metadata={"page_text": "机油", "text_source": "me"})
    assert texts_of(node) == ("轮胎", "")
    assert searchable_text_of(node) == node.get_content()


def test_text_nodes_are_searched_by_their_text() -> None:
    assert searchable_text_of(TextNode(text="机油", metadata={"file": "a"})) == TextNode(text="机油").get_content()
