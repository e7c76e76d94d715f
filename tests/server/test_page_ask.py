"""The page's questions: answers as they come, citations, conversations, images, and models that fail."""

from __future__ import annotations

import re
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
from api import Serve
from browser import LANGUAGES, Language, Open
from gates import HeldAfter
from playwright.sync_api import Route, expect

from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.testing.faults import ErrorAnswer, Says, Stall

pytestmark = pytest.mark.integration

ANSWER = "是红的[图1]，不是[图99]。\n也见图1。"


@pytest.fixture
def url(serve: Serve, files_store: Path) -> str:
    """URL of a server over the emoji."""
    return str(serve(files_store).client.base_url)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_answer_shows_its_citations_and_the_cited_sources_first(
    open_page: Open, url: str, server: MockGLMServer, language: Language
) -> None:
    server.script(Says(ANSWER))
    visit = open_page(url, "/?view=ask", language=language)
    turn = visit.asked("红苹果")
    expect(turn.locator(".question")).to_contain_text("红苹果")
    text = turn.locator(".answer-text")
    expect(text).to_contain_text("[图99]")
    citations = text.get_by_role("button")
    expect(citations).to_have_text(["图1", "图1"])
    expect(turn).to_contain_text(visit.say("cited", 1))
    expect(turn).to_contain_text(visit.say("unknownCitations", "图99"))
    cards = turn.locator(".card")
    # Three images and a text.
    expect(cards).to_have_count(4)
    expect(cards.first).to_have_attribute("data-id", "红苹果")
    expect(cards.nth(1)).to_be_hidden()
    turn.get_by_text(visit.say("otherSources", 3)).click()
    expect(cards.nth(1)).to_be_visible()
    citations.first.click()
    expect(cards.first).to_have_class(re.compile("marked"))
    expect(cards.first).to_be_in_viewport()
    expect(cards.first.locator(".card-image")).to_be_focused()
    visit.page.keyboard.press("Enter")
    expect(visit.lightbox.get_by_role("heading", level=2)).to_have_text("红苹果")
    visit.page.keyboard.press("Escape")
    expect(cards.first.locator(".card-image")).to_be_focused()


def test_several_numbers_in_one_bracket_are_citations_of_their_own(
    open_page: Open, url: str, server: MockGLMServer
) -> None:
    server.script(Says("都是红的[图1，图2]，[图1、图77]不是，[Image 2] is."))
    visit = open_page(url, "/?view=ask&filter=颜色=红")
    turn = visit.asked("哪些是红的")
    buttons = turn.locator(".answer-text").get_by_role("button")
    expect(buttons).to_have_text(["图1", "图2", "图1", "Image 2"])
    expect(turn.locator(".answer-text")).to_contain_text("图77")
    expect(turn).to_contain_text(visit.say("cited", 2))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_conversation_goes_on_until_a_new_one_begins(
    open_page: Open, url: str, server: MockGLMServer, language: Language
) -> None:
    visit = open_page(url, "/?view=ask", language=language)
    visit.asked("哪个是红苹果？")
    visit.asked("它多少钱？")
    assert "哪个是红苹果？" in str(server.requests[-1])
    expect(visit.turns).to_have_count(2)
    with visit.page.expect_request(lambda request: request.method == "DELETE") as forgotten:
        visit.button("newConversation").click()
    assert "/api/chats/" in forgotten.value.url
    expect(visit.turns).to_have_count(0)
    expect(visit.page.locator("#view-ask .hints")).to_be_visible()
    expect(visit.page.locator("#question")).to_be_focused()
    visit.asked("有飞机吗？")
    assert "哪个是红苹果？" not in str(server.requests[-1])


def test_a_conversation_stays_while_the_user_searches(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?view=ask")
    visit.asked("哪个是红苹果？")
    visit.tab("search").click()
    visit.search("柠檬")
    visit.page.locator("#language").click()
    visit.tab("ask").click()
    expect(visit.turns.locator(".question")).to_contain_text("哪个是红苹果？")
    expect(visit.turns.get_by_role("button", name=visit.say("copy"))).to_be_visible()


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_answer_is_shown_as_it_comes_and_can_be_stopped(
    open_page: Open, url: str, server: MockGLMServer, language: Language
) -> None:
    released = threading.Event()
    server.script(HeldAfter(3, released))
    # The server does not notice at once that nobody reads any more.
    visit = open_page(url, "/?view=ask", language=language, expected="status of 409")
    turn = visit.ask("说来话长")
    expect(turn.locator(".answer-text")).not_to_be_empty()
    expect(turn.locator(".card").first).to_be_visible()
    expect(turn).to_contain_text(visit.say("answering"))
    visit.button("stop").locator("visible=true").click()
    expect(turn).to_contain_text(visit.say("answerStopped"))
    expect(turn.locator(".answer-text")).not_to_be_empty()
    visit.button("askAgain", within=turn).click()
    expect(turn).to_contain_text(visit.say("findingSources"))
    released.set()
    visit.finish(turn)
    expect(turn.get_by_role("alert")).to_have_count(0)
    expect(turn.locator(".answer-text")).to_contain_text("说来话长")
    expect(visit.turns).to_have_count(1)


def test_an_answer_that_does_not_come_can_be_stopped(open_page: Open, url: str, server: MockGLMServer) -> None:
    server.script(Stall())
    visit = open_page(url, "/?view=ask", expected="status of 409")
    turn = visit.ask("说来话长")
    visit.button("stop").locator("visible=true").click()
    expect(turn).to_contain_text(visit.say("answerStopped"))
    # Another conversation need not wait for it.
    visit.button("newConversation").click()
    expect(visit.asked("你好").locator(".answer-text")).not_to_be_empty()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_about_ones_own_image_sends_it(
    open_page: Open, url: str, server: MockGLMServer, images: dict[str, bytes], language: Language
) -> None:
    visit = open_page(url, "/?view=ask", language=language)
    visit.asked("这是什么？")
    without = str(server.requests[-1]).count("image_url")
    chip = visit.page.locator("#ask-attachment .chip")
    visit.paste(("image.png", "image/png", images["西瓜"]))
    expect(chip).to_contain_text(visit.say("aboutChip"))
    chip.get_by_role("button").click()
    expect(chip).to_have_count(0)
    with visit.page.expect_file_chooser() as chooser:
        visit.button("chooseImage").locator("visible=true").click()
    chooser.value.set_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": images["香蕉"]})
    expect(chip).to_be_visible()
    visit.drop(("消防车.jpg", "image/jpeg", images["消防车"]))
    expect(chip).to_have_attribute("title", "消防车.jpg")
    turn = visit.asked("这又是什么？")
    expect(turn.locator(".question img")).to_be_visible()
    expect(chip).to_have_count(0)
    assert str(server.requests[-1]).count("image_url") > without


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_about_an_image_of_the_index_begins_at_its_card(
    open_page: Open, url: str, server: MockGLMServer, language: Language
) -> None:
    visit = open_page(url, "/?words=红苹果", language=language)
    card = visit.page.locator(".card[data-id='樱桃']")
    card.get_by_role("button", name=visit.say("about"), exact=True).click()
    expect(visit.page.locator("#question")).to_be_focused()
    assert "about=" in visit.page.url
    turn = visit.asked("多少钱？")
    expect(turn.locator(".card[data-id='樱桃']")).to_have_count(1)
    assert "about=" not in visit.page.url


def test_filters_apply_to_questions(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?view=ask&filter=颜色=绿")
    expect(visit.page.locator("#ask-filters .chip")).to_have_count(1)
    turn = visit.asked("有什么？")
    expect(turn.locator(".card[data-id='西瓜']")).to_have_count(1)
    expect(turn.locator(".card[data-number]:not([data-number=''])")).to_have_count(1)


def test_shift_and_enter_begin_a_line(open_page: Open, url: str, server: MockGLMServer) -> None:
    visit = open_page(url, "/?view=ask")
    question = visit.page.locator("#question")
    question.press_sequentially("第一行")
    question.press("Shift+Enter")
    question.press_sequentially("第二行")
    expect(visit.turns).to_have_count(0)
    question.press("Enter")
    visit.finish(visit.turns)
    assert "第一行\\n第二行" in str(server.requests[-1])


def test_an_empty_question_is_not_sent(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?view=ask")
    expect(visit.page.locator("#send")).to_be_enabled()
    visit.page.locator("#question").fill("  \n ")
    visit.page.locator("#send").click()
    expect(visit.turns).to_have_count(0)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "refusal", [ErrorAnswer(401, "1000", "身份验证失败<b>"), ErrorAnswer(400, "1301", "系统检测到不安全内容")]
)
def test_a_model_that_refuses_is_an_error_and_can_be_asked_again(
    open_page: Open, url: str, server: MockGLMServer, refusal: ErrorAnswer, language: Language
) -> None:
    server.script(refusal)
    visit = open_page(url, "/?view=ask", language=language)
    turn = visit.asked("会断的")
    expect(turn.get_by_role("alert")).to_contain_text(visit.say("errors.model"))
    expect(turn.get_by_role("alert")).to_contain_text(refusal.message)
    visit.button("retry", within=turn).click()
    expect(turn.get_by_role("alert")).to_have_count(0)
    visit.finish(turn)
    expect(turn.locator(".answer-text")).not_to_be_empty()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_model_that_breaks_off_leaves_the_text_so_far(
    open_page: Open, url: str, server: MockGLMServer, language: Language
) -> None:
    released = threading.Event()
    server.script(HeldAfter(3, released, is_cut=True))
    visit = open_page(url, "/?view=ask", language=language)
    turn = visit.ask("会断的")
    text = turn.locator(".answer-text")
    expect(text).not_to_be_empty()
    released.set()
    expect(turn.get_by_role("alert")).to_contain_text(visit.say("errors.model"))
    expect(text).not_to_be_empty()
    visit.button("retry", within=turn).click()
    expect(turn.get_by_role("alert")).to_have_count(0)
    visit.finish(turn)
    expect(text).to_contain_text("会断的")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_conversation_that_is_gone_is_said_and_a_new_one_begins(
    open_page: Open, serve: Serve, files_store: Path, language: Language
) -> None:
    api = serve(files_store)

    def forget_first(route: Route) -> None:
        chat = re.search(rb'name="chat"\r\n\r\n([^\r]+)', route.request.post_data_buffer or b"")
        if chat:
            assert api.client.delete(f"/api/chats/{chat[1].decode()}").status_code == 204
        route.continue_()

    visit = open_page(str(api.client.base_url), "/?view=ask", language=language, expected="status of 410")
    visit.asked("你好")
    visit.page.route("**/api/ask", forget_first)
    turn = visit.asked("还在吗？")
    expect(turn.get_by_role("alert")).to_contain_text(visit.say("chatGone"))
    visit.button("askAgain", within=turn).click()
    expect(turn.get_by_role("alert")).to_have_count(0)
    visit.finish(turn)
    expect(turn.locator(".answer-text")).not_to_be_empty()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_mock_service_is_said_to_be_one(open_page: Open, serve: Serve, files_store: Path, language: Language) -> None:
    visit = open_page(str(serve(files_store, is_mock=True).client.base_url), "/?view=ask", language=language)
    note = visit.page.get_by_text(visit.say("mock"))
    expect(note).to_be_visible()
    expect(note).to_contain_text("ZHIPUAI_API_KEY")
    visit.asked("你好")
    expect(note).to_be_visible()


def test_a_model_is_no_mock_service(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?view=ask")
    visit.asked("你好")
    expect(visit.page.locator("#mock")).to_be_hidden()


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_a_key_the_page_says_how_to_set_one(
    open_page: Open, serve: Serve, files_store: Path, monkeypatch: pytest.MonkeyPatch, language: Language
) -> None:
    for name in ("ZHIPUAI_API_KEY", "ZAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    opening: Future[ImageService] = Future()
    opening.set_result(ImageService.open(files_store))
    url = str(serve(opening=opening).client.base_url)
    visit = open_page(url, "/?view=ask", language=language, expected="status of 503")
    turn = visit.asked("你好")
    expect(turn.get_by_role("alert")).to_contain_text(visit.say("errors.no_key"))
