"""A saved gallery in Chromium: links lead to images, colours follow the theme, nothing is loaded or run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import ImageNode, NodeWithScore
from playwright.sync_api import Browser, Page, sync_playwright

from llama_index_mm_zhipu import show

pytestmark = pytest.mark.integration

EVIL = '<script>document.title = "run"</script><img src="http://127.0.0.1:9/x" onerror="document.title = \'run\'">'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs Chromium (Debian and Ubuntu: apt-get install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def saved(photo_nodes: list[ImageNode], tmp_path: Path) -> Path:
    """A page of twelve images; the answer cites the last one."""
    nodes = [
        *photo_nodes,
        photo_nodes[0].model_copy(update={"id_": "evil", "text": EVIL}),
        photo_nodes[1].model_copy(update={"id_": "cited"}),
    ]
    sources = [NodeWithScore(node=node, score=0.5) for node in nodes]
    return show(EVIL, Response(f"帽子在[图12]里。{EVIL}", source_nodes=sources)).save(tmp_path / "results.html")


def open_page(browser: Browser, file: Path, scheme: str) -> tuple[Page, list[str]]:
    """Open a file in a small window; the URLs that the page loads are appended to the list."""
    page = browser.new_page(viewport={"width": 600, "height": 500}, color_scheme=scheme)  # type: ignore[arg-type]
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(file.as_uri())
    return page, loaded


def test_a_citation_scrolls_to_its_image(browser: Browser, saved: Path) -> None:
    page, _ = open_page(browser, saved, "light")
    card = page.locator("figure", has_text="图12")
    assert page.evaluate("scrollY") == 0
    page.click("text=图12 >> nth=0")
    page.wait_for_function("scrollY > 500")
    box = card.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 500
    assert card.evaluate("element => element.matches(':target')")
    assert page.locator(".mmz-cited").count() == 1


def test_no_request_is_made_and_no_script_is_run(browser: Browser, saved: Path) -> None:
    page, loaded = open_page(browser, saved, "light")
    assert loaded == [saved.as_uri()]
    assert page.title() == EVIL
    assert page.locator("img").count() == 12
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_colours_follow_the_theme(browser: Browser, saved: Path, scheme: str, is_dark: bool) -> None:
    page, _ = open_page(browser, saved, scheme)
    text = page.locator("figcaption p").first.evaluate("element => getComputedStyle(element).color")
    brightness = sum(int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert (brightness > 128) == is_dark
