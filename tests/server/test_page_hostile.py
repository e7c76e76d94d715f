"""Texts that are markup, or far too long: the page shows them as they are, runs nothing, and keeps its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from api import Serve
from browser import PHONE, Open, Visit
from llama_index.core.schema import ImageNode, TextNode
from playwright.sync_api import expect

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.images import with_page_text
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.testing.faults import ErrorAnswer, Says

pytestmark = pytest.mark.integration

MARKUP = "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'><style>*{display:none}</style>"
LONG = "很长的说明 " + "x" * 200_000
FILE_NAME = "<img src=x onerror=hacked=3>\"'&amp;.jpg"
KEY = "<b onclick=window.hacked=4>键"
SIZES = pytest.mark.parametrize("size", [PHONE, (1280, 900)])


@pytest.fixture(scope="module")
def hostile_store(
    demo_embedding: ChineseClipEmbedding, images: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of an index with hostile captions, names of files, ids and metadata."""
    root = tmp_path_factory.mktemp("hostile")
    paths = [root / FILE_NAME, root / ("长" * 80 + ".jpg"), root / "c.jpg", root / "d.jpg"]
    for path, name in zip(paths, images, strict=False):
        path.write_bytes(images[name])
    markup, long, citation, plain = map(str, paths)
    lines = [{"text": MARKUP, "box": [-5, 0.1, 9, 0.2], "score": 0.9}, {"text": LONG, "box": [0, 0, 1, 1], "score": 1}]
    nodes = [
        with_page_text(ImageNode(id_=MARKUP, image_path=markup, text=MARKUP), f"{MARKUP} {LONG}", "ocr", lines),
        ImageNode(
            id_="long", image_path=long, text=LONG, metadata={KEY: MARKUP, "长" * 300: LONG, "url": "javascript:0"}
        ),
        ImageNode(id_="../../%2e%2e/?#&=+ ", image_path=citation, text="[图99]和图1"),
        ImageNode(id_="plain", image_path=plain),
        TextNode(id_="text", text=f"{MARKUP}{LONG}"),
    ]
    build_index(nodes, demo_embedding, persist_dir=root / "store").close()
    return root / "store"


@pytest.fixture
def url(serve: Serve, hostile_store: Path) -> str:
    """URL of a server over the hostile index."""
    return str(serve(hostile_store).client.base_url)


def assert_harmless(visit: Visit) -> None:
    assert visit.page.evaluate("window.hacked") is None
    assert visit.page.locator("script").count() == 1
    assert visit.page.locator("img[src=x], main style").count() == 0
    assert not visit.is_too_wide()


@SIZES
def test_captions_names_and_metadata_are_texts(open_page: Open, url: str, size: tuple[int, int]) -> None:
    visit = open_page(url, "/?words=红苹果", size=size)
    expect(visit.cards).to_have_count(5)
    card = visit.page.locator("#results .card:not(.text-card)").filter(has_text="window.hacked=1")
    expect(card.locator(".caption")).to_have_text(MARKUP)
    expect(card.locator(".card-source")).to_have_text(FILE_NAME)
    expect(visit.cards.filter(has_text="[图99]和图1")).to_have_count(1)
    # Captions do not fill the page.
    assert visit.page.evaluate("document.documentElement.scrollHeight") < 20_000
    assert_harmless(visit)
    card.locator(".card-image").click()
    expect(visit.lightbox.locator(".lines li").first).to_have_text(MARKUP)
    expect(visit.lightbox.locator("mark")).to_have_count(0)
    assert_harmless(visit)
    assert visit.lightbox.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    visit.page.keyboard.press("Escape")
    visit.page.locator(".card[data-id=long] .card-image").click()
    expect(visit.lightbox.get_by_role("row", name=KEY)).to_contain_text(MARKUP)
    assert_harmless(visit)
    assert visit.lightbox.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    assert visit.lightbox.locator("a").count() == 0


@SIZES
def test_answers_and_questions_are_texts(
    open_page: Open, url: str, server: MockGLMServer, size: tuple[int, int]
) -> None:
    server.script(
        Says(f"{MARKUP}[图1]{LONG[:5000]}[图99]\n<a href='javascript:hacked=5'>链接</a>"), ErrorAnswer(400, "1", MARKUP)
    )
    visit = open_page(url, "/?view=ask", size=size, expected="status of 502")
    turn = visit.asked(f"{MARKUP}{'x' * 3000}")
    expect(turn.locator(".answer-text")).to_contain_text(MARKUP)
    expect(turn.locator(".answer-text button")).to_have_count(1)
    expect(turn.locator(".question")).to_contain_text(MARKUP)
    expect(turn.locator("a")).to_have_count(0)
    failed = visit.asked("错误")
    expect(failed.get_by_role("alert")).to_contain_text("window.hacked=1")
    assert_harmless(visit)


@SIZES
def test_addresses_are_texts(open_page: Open, url: str, size: tuple[int, int]) -> None:
    visit = open_page(url, "/", size=size, expected="status of 40")
    visit.page.evaluate(
        "fields => location.assign(`/?${new URLSearchParams(fields)}`)",
        [["words", MARKUP], ["filter", f"{KEY}={MARKUP}"], ["like", MARKUP], ["filter", "x" * 3000]],
    )
    expect(visit.page.locator("#words")).to_have_value(MARKUP)
    expect(visit.page.locator("#search-filters .chip")).to_have_count(2)
    expect(visit.page.locator("#search-notice [role=alert]")).to_be_visible()
    assert_harmless(visit)


@SIZES
def test_names_of_added_files_are_texts(open_page: Open, serve: Serve, own_store: Path, size: tuple[int, int]) -> None:
    url = str(serve(own_store, uploads=own_store / "uploads").client.base_url)
    visit = open_page(url, "/?view=add", size=size)
    visit.wait_for_additions()
    name = f"{MARKUP.replace('/', '∕')}{'长' * 300}.jpg"
    visit.drop((name, "image/jpeg", b"broken"), (f"{name}.exe", "", b"x"))
    expect(visit.page.locator(".skipped li")).to_have_count(2)
    expect(visit.page.locator(".skipped li").first).to_contain_text("window.hacked=1")
    assert_harmless(visit)


def test_an_id_that_looks_like_a_path_is_an_id(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?words=红苹果")
    card = visit.cards.filter(has_text="[图99]和图1")
    assert card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    card.locator(".card-image").click()
    expect(visit.lightbox.get_by_role("heading", level=2)).to_have_text("[图99]和图1")
    visit.button("like", within=visit.lightbox).click()
    expect(visit.cards.first).to_be_visible()
    link = visit.page.url.removeprefix(url)
    other = open_page(url, link)
    expect(other.page.locator("#search-attachment .chip")).to_be_visible()
    expect(other.cards.first).to_be_visible()
