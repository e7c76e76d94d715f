"""The page for people who cannot see it well, or who use the keyboard alone: every state in axe-core, and all keys."""

from __future__ import annotations

import re
from base64 import b64encode
from concurrent.futures import Future
from pathlib import Path

import pytest
from api import Serve
from axe import assert_accessible
from browser import LANGUAGES, Language, Open, Visit
from llama_index.core.schema import ImageNode
from playwright.sync_api import expect

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.images import with_page_text
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.testing.faults import Cut, Says, Stall

pytestmark = pytest.mark.integration

both_languages = pytest.mark.parametrize("language", LANGUAGES)


@both_languages
def test_the_search_in_all_its_states(
    open_page: Open, serve: Serve, files_store: Path, axe: str, images: dict[str, bytes], language: Language
) -> None:
    visit = open_page(str(serve(files_store).client.base_url), language=language, expected="status of 40")
    expect(visit.page.locator("#view-search .hints")).to_be_visible()
    assert_accessible(visit, axe, "first visit")
    visit.search("红苹果")
    expect(visit.cards).to_have_count(11)
    assert_accessible(visit, axe, "results")
    visit.button("addFilter", within=visit.page.locator("#search-filters")).click()
    form = visit.page.locator("#search-filters form")
    form.get_by_label(visit.say("filterKey")).select_option("颜色")
    assert_accessible(visit, axe, "form of a filter")
    form.get_by_role("button", name="红", exact=True).click()
    visit.button("filterApply", within=form).click()
    visit.page.locator("#cutoff").fill("1")
    expect(visit.summary).to_have_text(visit.say("nothingFound"))
    assert_accessible(visit, axe, "nothing found")
    visit.go("/?words=红苹果&filter=颜色")
    expect(visit.page.locator("#search-notice [role=alert]")).to_be_visible()
    assert_accessible(visit, axe, "error")
    visit.go("/")
    visit.paste(("image.jpg", "image/jpeg", images["香蕉"]))
    expect(visit.cards).to_have_count(10)
    assert_accessible(visit, axe, "own image")
    visit.page.keyboard.press("Escape")
    visit.page.locator("#show-keys").click()
    expect(visit.page.locator("#keys")).to_be_visible()
    assert_accessible(visit, axe, "keys")


@both_languages
def test_the_lightbox_with_lines(
    open_page: Open,
    serve: Serve,
    demo_embedding: ChineseClipEmbedding,
    images: dict[str, bytes],
    axe: str,
    tmp_path: Path,
    language: Language,
) -> None:
    lines = [
        {"text": "轮胎气压", "box": [0.1, 0.1, 0.5, 0.2], "score": 0.99},
        {"text": "更换机油", "box": [0.1, 0.3, 0.5, 0.4], "score": 0.98},
    ]
    page = ImageNode(id_="手册", image=b64encode(images["飞机"]).decode(), metadata={"页码": 3})
    node = with_page_text(page, "轮胎气压 更换机油", "ocr", lines)
    build_index([node], demo_embedding, persist_dir=tmp_path / "store").close()
    visit = open_page(str(serve(tmp_path / "store").client.base_url), "/?words=气压&image=手册", language=language)
    expect(visit.lightbox.locator("mark")).to_have_count(1)
    visit.lightbox.get_by_role("switch").check()
    assert_accessible(visit, axe, "lightbox")


@both_languages
def test_the_questions_in_all_their_states(
    open_page: Open, serve: Serve, files_store: Path, axe: str, server: MockGLMServer, language: Language
) -> None:
    url = str(serve(files_store, is_mock=True).client.base_url)
    visit = open_page(url, "/?view=ask&about=柠檬&filter=颜色=红", language=language)
    expect(visit.page.locator("#ask-attachment .chip")).to_be_visible()
    assert_accessible(visit, axe, "no question yet")
    server.script(Says("是红的[图1]，不是[图99]。"), None, Cut(after=2))
    turn = visit.asked("红苹果")
    turn.locator("details summary").last.click()
    assert_accessible(visit, axe, "answer")
    visit.button("newConversation").click()
    visit.asked("你好")
    visit.button("newConversation").click()
    expect(visit.asked("会断的").get_by_role("alert")).to_be_visible()
    assert_accessible(visit, axe, "failed answer")
    visit.button("newConversation").click()
    server.script(Stall(after=3))
    stalled = visit.ask("说来话长")
    expect(stalled.locator(".answer-text")).not_to_be_empty()
    assert_accessible(visit, axe, "answer on its way")
    visit.button("stop").locator("visible=true").click()
    expect(stalled).to_contain_text(visit.say("answerStopped"))
    assert_accessible(visit, axe, "stopped answer")


@both_languages
def test_the_additions_and_an_empty_index(
    open_page: Open,
    serve: Serve,
    demo_folder: Path,
    images: dict[str, bytes],
    axe: str,
    tmp_path: Path,
    language: Language,
) -> None:
    opening: Future[ImageService] = Future()
    opening.set_result(
        ImageService.open(tmp_path / "new store", create=True, model=demo_folder / "model", device="cpu")
    )
    visit = open_page(str(serve(opening=opening, uploads=tmp_path / "uploads").client.base_url), language=language)
    expect(visit.page.get_by_role("heading", name=visit.say("addEmpty"))).to_be_visible()
    assert_accessible(visit, axe, "empty index")
    visit.tab("add").click()
    visit.wait_for_additions()
    assert_accessible(visit, axe, "before an addition")
    visit.page.route("**/api/index", lambda route: None)
    visit.drop(("飞机.jpg", "image/jpeg", images["飞机"]), ("笔记.txt", "text/plain", b"text"))
    expect(visit.page.locator("#upload progress")).to_be_visible()
    assert_accessible(visit, axe, "addition on its way")
    visit.button("stop", within=visit.page.locator("#upload")).click()
    assert_accessible(visit, axe, "stopped addition")
    visit.page.unroute("**/api/index")
    visit.button("resume", within=visit.page.locator("#upload")).click()
    expect(visit.page.locator("#upload")).to_contain_text(visit.say("uploadDone"))
    assert_accessible(visit, axe, "done addition")


@both_languages
def test_a_model_that_loads_or_fails_and_a_missing_token(
    open_page: Open, serve: Serve, emoji_store: Path, axe: str, language: Language
) -> None:
    opening: Future[ImageService] = Future()
    visit = open_page(str(serve(opening=opening).client.base_url), "/?words=柠檬", language=language)
    expect(visit.page.locator(".skeleton").first).to_be_visible()
    assert_accessible(visit, axe, "loading")
    opening.set_exception(FileNotFoundError("no model"))
    expect(visit.page.locator("#banner [role=alert]")).to_be_visible()
    assert_accessible(visit, axe, "failed")
    url = str(serve(emoji_store, token="a token of many characters").client.base_url)
    other = open_page(url, language=language, expected="status of 401")
    expect(other.page.locator("#banner [role=alert]")).to_be_visible()
    assert_accessible(other, axe, "no token")


def assert_visible_focus(visit: Visit) -> None:
    """Check that the element that has the focus is drawn in another way than without it."""
    style = """node => {
      const style = getComputedStyle(node);
      return [style.outlineStyle, style.boxShadow, style.borderColor];
    }"""
    focused = visit.page.locator(":focus")
    with_focus = focused.evaluate(style)
    handle = focused.element_handle()
    handle.evaluate("node => node.blur()")
    assert handle.evaluate(style) != with_focus, handle.evaluate("node => node.outerHTML")
    handle.evaluate("node => node.focus({ focusVisible: true })")


@both_languages
def test_everything_is_done_by_the_keyboard(
    open_page: Open, serve: Serve, files_store: Path, language: Language
) -> None:
    visit = open_page(str(serve(files_store).client.base_url), language=language)
    press = visit.page.keyboard.press
    expect(visit.page.locator("#count")).to_contain_text("10")
    press("Tab")
    expect(visit.page.locator(".skip")).to_be_focused()
    expect(visit.page.locator(".skip")).to_be_in_viewport()
    press("/")
    expect(visit.page.locator("#words")).to_be_focused()
    visit.page.keyboard.type("红苹果/?")
    expect(visit.page.locator("#words")).to_have_value("红苹果/?")
    press("Enter")
    expect(visit.cards).to_have_count(11)
    cards = visit.page.locator("#results .card-image")
    for _ in range(20):
        press("Tab")
        if cards.first.evaluate("card => card === document.activeElement"):
            break
        assert_visible_focus(visit)
    expect(cards.first).to_be_focused()
    assert_visible_focus(visit)
    press("ArrowRight")
    expect(cards.nth(1)).to_be_focused()
    press("ArrowLeft")
    press("ArrowDown")
    press("ArrowUp")
    expect(cards.first).to_be_focused()
    press("End")
    expect(cards.last).to_be_focused()
    press("Home")
    press("Enter")
    expect(visit.lightbox).to_be_visible()
    press("ArrowRight")
    expect(visit.lightbox.locator(".position")).to_have_text(visit.say("position", 2, 10))
    # The focus stays in the dialog.
    for _ in range(15):
        press("Tab")
        assert visit.page.evaluate(
            "document.activeElement === document.body || lightbox.contains(document.activeElement)"
        )
    press("Escape")
    expect(cards.nth(1)).to_be_focused()
    press("?")
    expect(visit.page.locator("#keys")).to_be_visible()
    press("Escape")
    expect(visit.page.locator("#keys")).to_be_hidden()
    expect(cards.nth(1)).to_be_focused()
    visit.tab("ask").focus()
    press("Enter")
    expect(visit.tab("ask")).to_have_attribute("aria-current", "page")
    press("/")
    expect(visit.page.locator("#question")).to_be_focused()
    visit.page.keyboard.type("你好")
    press("Enter")
    visit.finish(visit.turns)
    expect(visit.page.locator("#question")).to_be_focused()
    expect(visit.page.locator("#ask-status")).to_have_text(re.compile("."))
