"""The page while the model loads, if it cannot be loaded, without a token, and when the server fails or stops."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from api import Serve
from browser import LANGUAGES, Language, Open
from playwright.sync_api import expect
from programs import start_program

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.testing.faults import Stall

pytestmark = pytest.mark.integration

TOKEN = "a token of many characters"

_SERVE = "import sys; from llama_index_mm_zhipu.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_search_waits_for_the_model_and_then_begins(
    open_page: Open, serve: Serve, emoji_store: Path, connect: Callable[..., ZhipuMultiModal], language: Language
) -> None:
    opening: Future[ImageService] = Future()
    visit = open_page(str(serve(opening=opening).client.base_url), language=language)
    expect(visit.page.locator("#banner [role=status]")).to_have_text(visit.say("loadingModel"))
    visit.page.locator("#words").fill("红苹果")
    visit.page.locator("#words").press("Enter")
    expect(visit.summary).to_have_text(visit.say("searchWaits"))
    expect(visit.page.locator(".skeleton").first).to_be_visible()
    visit.tab("ask").click()
    expect(visit.page.locator("#send")).to_be_disabled()
    visit.tab("search").click()
    opening.set_result(ImageService.open(emoji_store, llm=connect()))
    expect(visit.cards).to_have_count(11)
    expect(visit.page.locator("#banner")).to_be_empty()
    visit.tab("ask").click()
    expect(visit.page.locator("#send")).to_be_enabled()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_model_that_cannot_be_loaded_is_an_error_with_the_reason(
    open_page: Open, serve: Serve, language: Language
) -> None:
    opening: Future[ImageService] = Future()
    opening.set_exception(FileNotFoundError("no model in /models/<b>x</b>"))
    visit = open_page(str(serve(opening=opening).client.base_url), "/?words=柠檬", language=language)
    alert = visit.page.locator("#banner [role=alert]")
    expect(alert).to_contain_text(visit.say("loadFailed"))
    expect(alert).to_contain_text("no model in /models/<b>x</b>")
    expect(visit.page.locator(".skeleton")).to_have_count(0)
    visit.tab("ask").click()
    expect(visit.page.locator("#send")).to_be_disabled()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("path", "code", "part"),
    [
        ("/?words=柠檬&filter=颜色", "bad_request", "颜色"),
        ("/?words=柠檬&filter=没有=1", "bad_request", "没有"),
        ("/?like=没有", "not_found", "没有"),
    ],
)
def test_an_error_of_the_server_is_shown_with_what_to_do(
    open_page: Open, serve: Serve, emoji_store: Path, path: str, code: str, part: str, language: Language
) -> None:
    visit = open_page(str(serve(emoji_store).client.base_url), path, language=language, expected="status of 40")
    alert = visit.page.locator("#search-notice [role=alert]")
    expect(alert).to_contain_text(visit.say(f"errors.{code}"))
    expect(alert).to_contain_text(part)
    expect(visit.button("retry", within=alert)).to_be_visible()
    visit.go("/?words=柠檬")
    expect(visit.cards).to_have_count(11)


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_the_token_the_page_says_where_it_is(
    open_page: Open, serve: Serve, emoji_store: Path, language: Language
) -> None:
    url = str(serve(emoji_store, token=TOKEN).client.base_url)
    visit = open_page(url, "/?words=柠檬", language=language, expected="status of 401")
    expect(visit.page.locator("#banner [role=alert]")).to_contain_text(visit.say("errors.unauthorized"))
    expect(visit.cards).to_have_count(0)
    visit.go(f"/?token={TOKEN.replace(' ', '+')}&words=柠檬")
    expect(visit.cards).to_have_count(11)
    assert "token" not in visit.page.url
    expect(visit.page.locator("#banner")).to_be_empty()
    visit.page.reload()
    expect(visit.cards).to_have_count(11)
    # The browser remembers it, and other browsers do not know it.
    other = open_page(url, language=language, expected="status of 401")
    expect(other.page.locator("#banner [role=alert]")).to_be_visible()


@pytest.fixture
def start_server(
    emoji_store: Path, server: MockGLMServer, key: str, demo_folder: Path
) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """A function that starts ``mmzhipu serve`` on a port, and returns it when it is ready."""
    processes = []
    environment = {**os.environ, "ZHIPUAI_API_KEY": key, "ZHIPUAI_BASE_URL": server.url, "LANG": "en_US.UTF-8"}

    def start(port: int) -> subprocess.Popen[str]:
        arguments = (
            "serve",
            "--store",
            emoji_store,
            "--model",
            demo_folder / "model",
            "--device",
            "cpu",
            "--port",
            port,
        )
        process = start_program(_SERVE, *arguments, env=environment, stderr=subprocess.PIPE)
        processes.append(process)
        assert process.stderr is not None
        assert any(line.startswith("Ready") for line in process.stderr)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_a_server_that_stops_in_mid_answer_keeps_the_text_and_is_asked_again_when_it_is_back(
    open_page: Open, server: MockGLMServer, start_server: Callable[[int], subprocess.Popen[str]]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start_server(port)
    visit = open_page(f"http://127.0.0.1:{port}", "/?view=ask", expected="net::ERR_|status of 410")
    server.script(Stall(after=3))
    turn = visit.ask("说来话长")
    expect(turn.locator(".answer-text")).not_to_be_empty()
    said = turn.locator(".answer-text").inner_text()
    process.kill()
    process.wait()
    expect(turn).to_contain_text(visit.say("answerBroken"))
    # More may have come in between.
    assert turn.locator(".answer-text").inner_text().startswith(said)
    # Nobody answers.
    visit.button("askAgain", within=turn).click()
    expect(turn.get_by_role("alert")).to_contain_text(visit.say("errors.offline"))
    visit.tab("search").click()
    visit.page.locator("#words").fill("红苹果")
    visit.page.locator("#words").press("Enter")
    expect(visit.page.locator("#search-notice [role=alert]")).to_contain_text(visit.say("errors.offline"))
    start_server(port)
    visit.button("retry", within=visit.page.locator("#search-notice")).click()
    expect(visit.cards).to_have_count(11)
    visit.tab("ask").click()
    visit.button("retry", within=turn).click()
    visit.finish(turn)
    expect(turn.get_by_role("alert")).to_have_count(0)
    expect(turn.locator(".answer-text")).to_contain_text(re.compile("说来话长"))
