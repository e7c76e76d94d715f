"""The page's lightbox: keys, focus, metadata, and the lines that OCR found."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import pytest
from api import Serve
from browser import LANGUAGES, PHONE, Language, Open
from llama_index.core.schema import ImageNode
from playwright.sync_api import expect
from waiting import wait_until

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.images import with_page_text

pytestmark = pytest.mark.integration


@pytest.fixture
def url(serve: Serve, files_store: Path) -> str:
    """URL of a server over the emoji."""
    return str(serve(files_store).client.base_url)


@pytest.fixture
def manual_url(serve: Serve, demo_embedding: ChineseClipEmbedding, images: dict[str, bytes], tmp_path: Path) -> str:
    """URL of a server over a page whose lines of text are known."""
    lines = [
        {"text": "轮胎气压", "box": [0.1, 0.1, 0.5, 0.2], "score": 0.99},
        {"text": "更换机油", "box": [0.1, 0.3, 0.5, 0.4], "score": 0.98},
    ]
    page = ImageNode(id_="手册", image=b64encode(images["飞机"]).decode(), metadata={"页码": 3, "标签": ["车", "油"]})
    node = with_page_text(page, "轮胎气压 更换机油", "ocr", lines)
    build_index([node], demo_embedding, persist_dir=tmp_path / "store").close()
    return str(serve(tmp_path / "store").client.base_url)


@pytest.mark.parametrize("language", LANGUAGES)
def test_keys_move_among_the_images_and_the_focus_returns(open_page: Open, url: str, language: Language) -> None:
    visit = open_page(url, "/?words=红苹果", language=language)
    cards = visit.page.locator("#results .card:not(.text-card)")
    expect(cards).to_have_count(10)
    ids: list[str] = cards.evaluate_all("cards => cards.map((card) => card.dataset.id)")
    cards.nth(0).locator(".card-image").click()
    title = visit.lightbox.get_by_role("heading", level=2)
    expect(title).to_have_text(ids[0])
    image = visit.lightbox.get_by_role("img", name=ids[0])
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(visit.button("previous", within=visit.lightbox)).to_be_disabled()
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("ArrowRight")
    expect(title).to_have_text(ids[1])
    visit.button("next", within=visit.lightbox).click()
    expect(title).to_have_text(ids[2])
    visit.button("previous", within=visit.lightbox).click()
    expect(title).to_have_text(ids[1])
    expect(visit.lightbox.locator(".position")).to_have_text(visit.say("position", 2, 10))
    visit.page.keyboard.press("Escape")
    expect(visit.lightbox).to_be_hidden()
    expect(cards.nth(1).locator(".card-image")).to_be_focused()


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_shows_where_an_image_is_from_and_what_is_known_of_it(open_page: Open, url: str, language: Language) -> None:
    visit = open_page(url, "/?words=红苹果&image=红苹果", language=language)
    expect(visit.lightbox.locator(".facts")).to_contain_text("06 红苹果.jpg")
    table = visit.lightbox.get_by_role("table", name=visit.say("metadata"))
    expect(table.get_by_role("row", name="价格")).to_contain_text("60")
    expect(table.get_by_role("row", name="颜色")).to_contain_text("红")
    visit.button("like", within=visit.lightbox).click()
    expect(visit.lightbox).to_be_hidden()
    expect(visit.page.locator("#search-attachment")).to_contain_text(visit.say("likeChip"))
    visit.page.locator(".card[data-id='樱桃'] .card-image").click()
    visit.button("about", within=visit.lightbox).click()
    expect(visit.page.locator("#ask-attachment")).to_contain_text(visit.say("aboutChip"))
    expect(visit.page.locator("#question")).to_be_focused()


@pytest.mark.parametrize("language", LANGUAGES)
def test_lines_with_the_words_are_marked_and_the_others_on_demand(
    open_page: Open, manual_url: str, language: Language
) -> None:
    visit = open_page(manual_url, "/?words=气压多少&image=手册", language=language)
    lines = visit.lightbox.locator(".lines li")
    expect(lines).to_have_text(["轮胎气压", "更换机油"])
    expect(lines.locator("mark")).to_have_text(["轮胎气压"])
    expect(visit.lightbox).to_contain_text(visit.say("matches", 1))
    matching = visit.lightbox.locator(".box").nth(0)
    other = visit.lightbox.locator(".box").nth(1)
    image = visit.lightbox.locator(".stage img")
    # The frame has the proportions of the image once that is loaded.
    expect(visit.lightbox.locator(".stage .image-frame")).to_have_class(re.compile("loaded"))
    expect(matching).to_be_visible()
    # The results that come later show the image anew.
    assert wait_until(lambda: None not in (image.bounding_box(), matching.bounding_box()))
    frame, box = image.bounding_box(), matching.bounding_box()
    assert frame is not None
    assert box is not None
    # 0.1, 0.1, 0.5 and 0.2 of the image, but for a border.
    assert (box["x"] - frame["x"]) / frame["width"] == pytest.approx(0.1, abs=0.03)
    assert (box["y"] - frame["y"]) / frame["height"] == pytest.approx(0.1, abs=0.03)
    assert box["width"] / frame["width"] == pytest.approx(0.4, abs=0.03)
    assert box["height"] / frame["height"] == pytest.approx(0.1, abs=0.03)
    outline = "box => getComputedStyle(box).outlineStyle"
    assert (matching.evaluate(outline), other.evaluate(outline)) == ("solid", "none")
    lines.nth(1).get_by_role("button").focus()
    expect(other).to_have_class("box active")
    visit.lightbox.get_by_role("switch", name=visit.say("showAllBoxes")).check()
    expect(visit.lightbox.locator(".all-boxes")).to_be_visible()
    lines.nth(0).get_by_role("button").focus()
    assert other.evaluate(outline) == "solid"
    expect(visit.lightbox.get_by_role("row", name="标签")).to_contain_text("油")


def test_it_fits_on_a_phone(open_page: Open, manual_url: str) -> None:
    visit = open_page(manual_url, "/?words=气压&image=手册", size=PHONE)
    expect(visit.lightbox.locator(".lines li")).to_have_count(2)
    assert not visit.is_too_wide()
    box = visit.lightbox.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE[0]
    assert visit.lightbox.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


def test_an_image_whose_file_is_gone_is_shown_with_the_reason(
    open_page: Open, serve: Serve, demo_embedding: ChineseClipEmbedding, images: dict[str, bytes], tmp_path: Path
) -> None:
    file = tmp_path / "会消失.jpg"
    file.write_bytes(images["飞机"])
    build_index(file, demo_embedding, persist_dir=tmp_path / "store").close()
    url = str(serve(tmp_path / "store").client.base_url)
    file.unlink()
    visit = open_page(url, "/?words=飞机", expected="status of 400")
    card = visit.cards.first
    expect(card.locator(".missing-text")).to_contain_text("会消失.jpg")
    card.locator(".card-image").click()
    expect(visit.lightbox.locator(".missing-text")).to_contain_text("会消失.jpg")
    visit.page.keyboard.press("Escape")
    expect(card.locator(".card-image")).to_be_focused()


def test_an_image_that_is_not_in_the_index_is_an_error(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?image=没有", expected="status of 404")
    expect(visit.lightbox.get_by_role("alert")).to_contain_text(visit.say("errors.not_found"))
    visit.page.keyboard.press("Escape")
    expect(visit.lightbox).to_be_hidden()
