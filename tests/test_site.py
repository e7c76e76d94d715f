"""The site of the documentation: complete, without dead links, searchable, and readable without a server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import chromium
from playwright.sync_api import Browser, Locator, Page, expect
from serving import serving

pytest.importorskip("zensical", reason="needs Python >= 3.11")
import build_site

LANGUAGES = list(build_site.LANGUAGES)
TIMEOUT = 60_000
OLD, NEW = "0.1", "0.2"


class Links(HTMLParser):
    """The targets of links and images on a page, and the anchors that it has."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors = {"", "__comments"}
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.anchors |= {attributes[name] or "" for name in ("id", "name") if name in attributes}
        name = "src" if tag in ("img", "script") else "href"
        if (target := attributes.get(name)) and attributes.get("rel") != "canonical":
            self.targets.append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site with two versions, which have the same pages here."""
    folder = tmp_path_factory.mktemp("site")
    for version in (OLD, NEW):
        build_site.build_site(folder, version)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser in Chinese, in a context of its own."""
    with browser.new_context(locale="zh-CN") as context:
        context.set_default_timeout(TIMEOUT)
        yield context.new_page()


@pytest.fixture
def url(site: Path) -> Iterator[str]:
    """The URL of the site on a server."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


def search(page: Page, words: str) -> Locator:
    """Type words into the search, and return the results."""
    page.keyboard.press("/")
    page.locator("dialog input").wait_for()
    page.keyboard.type(words)
    return page.locator("dialog ol > li:has(a)")


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_pages_are_in_the_menu(language: str) -> None:
    listed = build_site.pages_in_menu()
    existing = {
        path.relative_to(build_site.DOCS / language).as_posix() for path in (build_site.DOCS / language).rglob("*.md")
    }
    assert len(listed) == len(set(listed))
    assert {page for page in listed if not page.startswith("reference/")} == existing


def test_links_to_other_files_of_the_repository_become_links_to_github() -> None:
    source = build_site.DOCS / "zh" / "guides" / "ocr.md"
    text = "[a](../../../benchmarks/README.md#ocr) ![b](../../images/results.png) [c](ocr_glm.md#d) `[e](f.md)`"
    benchmarks = f"{build_site.REPOSITORY}/blob/main/benchmarks/README.md"
    expected = f"[a]({benchmarks}#ocr) ![b](../images/results.png) [c](ocr_glm.md#d) `[e](f.md)`"
    assert build_site.prepared_page(text, source, "zh") == expected


@pytest.mark.integration
def test_a_dead_link_fails_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(build_site.DOCS, docs, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("DOCS", "SITE"):
        monkeypatch.setattr(build_site, name, docs if name == "DOCS" else docs / "site")
    monkeypatch.setattr(build_site, "ROOT", tmp_path)
    page = docs / "zh" / "versions.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[x](start.md#nowhere)\n", encoding="utf-8")
    with pytest.raises(build_site.SiteError, match="anchor does not exist"):
        build_site.build_site(tmp_path / "site", OLD)
    page.unlink()
    with pytest.raises(build_site.SiteError, match=r"names versions\.md, which docs/zh does not have"):
        build_site.build_site(tmp_path / "site", OLD)


@pytest.mark.integration
def test_no_link_is_dead(site: Path) -> None:
    """Beside Zensical's own check: menus, languages, redirects, images and anchors of the HTML."""
    pages = {file: Links(file) for file in site.rglob("*.html") if file.name != "404.html"}
    assert len(pages) > 100
    dead = []
    for file, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target.startswith("javascript:"):
                continue
            linked = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            linked = linked / "index.html" if linked.is_dir() else linked
            if not linked.exists() or (linked in pages and unquote(parts.fragment) not in pages[linked].anchors):
                dead.append((str(file.relative_to(site)), target))
    assert dead == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("language", "words", "found"),
    [
        ("zh", "检索", "检索"),
        ("zh", "描述权重", "描述权重"),
        ("zh", "another process is changing it", "报错信息大全"),
        ("en", "citations", "Citations"),
        ("en", "no bf16 instructions", "All error messages"),
    ],
)
def test_the_search_finds_words_without_a_server(site: Path, page: Page, language: str, words: str, found: str) -> None:
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url) if not request.url.startswith("file:") else None)
    page.goto((site / language / NEW / "index.html").as_uri())
    expect(search(page, words).filter(has_text=found).first).to_be_visible(timeout=TIMEOUT)
    assert [each for each in foreign if not each.startswith(("data:", "blob:"))] == []


@pytest.mark.integration
def test_the_site_opens_in_chinese_and_keeps_the_page_when_the_language_changes(url: str, page: Page) -> None:
    page.goto(f"{url}/")
    page.wait_for_url(f"{url}/zh/{NEW}/index.html")
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.goto(f"{url}/zh/{NEW}/guides/ocr.html")
    page.get_by_role("button", name="选择当前语言").hover()
    page.locator("a[hreflang=en]").first.click()
    page.wait_for_url(f"{url}/en/{NEW}/guides/ocr.html")
    expect(page.locator("html")).to_have_attribute("lang", "en")


@pytest.mark.integration
def test_the_menu_of_versions_leads_to_the_other_version(site: Path, url: str, page: Page) -> None:
    versions = json.loads((site / "zh" / "versions.json").read_text(encoding="utf-8"))
    assert [(entry["version"], entry["aliases"]) for entry in versions] == [(NEW, ["latest"]), (OLD, [])]
    page.goto(f"{url}/zh/{NEW}/start.html")
    page.locator(".md-version").hover()
    page.locator(".md-version__link", has_text=OLD).click()
    page.wait_for_url(re.compile(rf"{re.escape(url)}/zh/{re.escape(OLD)}/"))
