"""Answers of layout_parsing become pages with elements, boxes and text; answers of another form are errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llama_index_mm_zhipu.llm import GLMProtocolError, Layout

PIXELS = {"num_pages": 1, "pages": [{"width": 2040, "height": 2640}]}
BOX = [204, 264, 1020, 528]
FRACTIONS = (0.1, 0.1, 0.5, 0.2)


def answer(*pages: list[dict[str, Any]], markdown: str | None = "", **fields: Any) -> dict[str, Any]:
    """Return an answer in the form of the API."""
    body = {"id": "1", "created": 1, "model": "GLM-OCR", "md_results": markdown, "layout_details": list(pages)}
    return {**body, **fields}


def element(content: Any = "胎压", box: Any = None, label: str = "text", **fields: Any) -> dict[str, Any]:
    """Return an element in the form of the API."""
    return {"index": 1, "label": label, "bbox_2d": box, "content": content, **fields}


def box_of(described: dict[str, Any], **fields: Any) -> Any:
    """Return the box of the only element of an answer."""
    return Layout.of([answer([described], **fields)]).pages[0].elements[0].box


# Boxes


def test_boxes_in_pixels_become_fractions_of_their_page() -> None:
    assert box_of(element(box=BOX), data_info=PIXELS) == pytest.approx(FRACTIONS)
    # Without sizes of pages, elements hold the size of their page.
    assert box_of(element(box=BOX, width=2040, height=2640)) == pytest.approx(FRACTIONS)


def test_boxes_in_fractions_stay_as_they_are() -> None:
    assert box_of(element(box=[0.1, 0.1, 0.5, 0.3], width=600, height=800)) == (0.1, 0.1, 0.5, 0.3)
    assert box_of(element(box=[0, 0, 1, 1])) == (0, 0, 1, 1)


def test_boxes_that_are_rounded_to_outside_of_the_page_are_cut() -> None:
    assert box_of(element(box=[-1, 0, 2041, 2642]), data_info=PIXELS) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    "box",
    [
        None,
        [],
        [1, 2, 3],
        "0,0,1,1",
        [0, 0, "1", 1],
        [True, 0, 1, 1],
        [0, 0, float("nan"), 1],
        [0, 0, float("inf"), 1],
        [0, 0, 10**400, 1],
        # Outside of the page, or without an area.
        [0, 0, 3000, 100],
        [-100, 0, 100, 100],
        [500, 100, 500, 200],
        [500, 200, 400, 100],
    ],
)
def test_an_element_keeps_its_text_without_a_usable_box(box: Any) -> None:
    (page,) = Layout.of([answer([element(box=box)], data_info=PIXELS)]).pages
    assert page.lines() == [("胎压", None)]


def test_boxes_of_an_unknown_unit_are_left_out() -> None:
    assert box_of(element(box=BOX)) is None
    assert box_of(element(box=BOX), data_info={"pages": []}) is None
    assert box_of(element(box=BOX), data_info={"pages": [{"width": 0, "height": 2640}]}) is None


# Text


def test_each_line_of_an_element_has_a_strip_of_its_box() -> None:
    table = "<table><tr><td>前轮</td><td>2.3</td></tr><tr><td>后轮</td><td>2.5</td></tr></table>"
    (page,) = Layout.of([answer([element(table, [0.2, 0.5, 0.8, 0.7], "table")])]).pages
    lines = page.lines()
    assert [text for text, _ in lines] == ["前轮 2.3", "后轮 2.5"]
    assert [box for _, box in lines] == [pytest.approx((0.2, 0.5, 0.8, 0.6)), pytest.approx((0.2, 0.6, 0.8, 0.7))]


def test_images_have_no_text() -> None:
    (page,) = Layout.of([answer([element("https://example.com/cut.png", label="image"), element()])]).pages
    assert page.text == "胎压"


def test_pages_of_a_document_have_their_own_markdown_and_numbers() -> None:
    body = answer([element("# 一"), element(None, label="image")], [], [element("二\n三")], markdown="# 一\n\n二\n三")
    layout = Layout.of([body], first=7)
    assert [(page.number, page.markdown, page.text) for page in layout.pages] == [
        (7, "# 一", "一"),
        (8, "", ""),
        (9, "二\n三", "二\n三"),
    ]
    assert layout.markdown == "# 一\n\n二\n三"


def test_the_only_page_has_the_markdown_of_the_answer() -> None:
    (page,) = Layout.of([answer([element("胎压")], markdown="# 胎压\n\n![](page=0,bbox=[1, 2, 3, 4])")]).pages
    assert page.markdown.startswith("# 胎压")
    assert page.text == "胎压"


@pytest.mark.parametrize("details", [None, []])
def test_an_answer_without_elements_has_the_text_of_its_markdown(details: Any) -> None:
    layout = Layout.of([answer(markdown="# 胎压", layout_details=details)])
    assert [(page.text, page.elements) for page in layout.pages] == [("胎压", ())]


def test_an_image_without_text_is_an_empty_page() -> None:
    for body in (answer(), answer([]), answer([], markdown=None), answer(markdown=None)):
        assert [(page.text, page.markdown) for page in Layout.of([body]).pages] == [("", "")]


def test_a_page_of_20000_characters_is_kept_whole() -> None:
    paragraphs = [f"第{number}段" + "字" * 95 for number in range(200)]
    body = answer([element(text, [0, 0, 1, 1]) for text in paragraphs], markdown="\n\n".join(paragraphs))
    (page,) = Layout.of([body]).pages
    assert page.text.splitlines() == paragraphs
    assert len(page.markdown) > 19_000


def test_lone_surrogates_are_replaced() -> None:
    layout = Layout.of([json.loads(json.dumps(answer([element("胎\ud83d压")], markdown="胎\ud83d压")))])
    assert layout.pages[0].text == "胎\ufffd压"
    assert layout.markdown == "胎\ufffd压"


def test_answers_about_ranges_are_one_document() -> None:
    first, second = (
        answer([element("一")], [element("二")], markdown="一\n\n二"),
        answer([element("三")], markdown="三"),
    )
    layout = Layout.of([first, second])
    assert [(page.number, page.text) for page in layout.pages] == [(1, "一"), (2, "二"), (3, "三")]
    assert layout.markdown == "一\n\n二\n\n三"
    assert Layout.of(layout.responses) == layout


# Other forms


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "neither layout_details nor md_results"),
        ({"choices": []}, "neither layout_details nor md_results"),
        ({"md_results": 3}, "neither layout_details nor md_results"),
        (answer(layout_details="[[]]"), "not a list of pages"),
        (answer(layout_details=[element()]), "not a list of pages"),
        (answer(layout_details=[[]], md_results=None) | {"layout_details": {"0": []}}, "not a list of pages"),
        (answer([element(["胎压"])]), "text as its content"),
        (answer(["胎压"]), "text as its content"),  # type: ignore[list-item]
        (answer(markdown="胎压", data_info={"pages": [{}, {}]}), "not divided into the 2 pages"),
    ],
)
def test_answers_of_another_form_are_errors(body: dict[str, Any], reason: str) -> None:
    with pytest.raises(GLMProtocolError, match=reason):
        Layout.of([body])
