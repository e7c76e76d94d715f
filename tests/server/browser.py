"""Chromium for tests of the page: visits that notice errors, requests to other hosts and scripts that run."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect, sync_playwright

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")

DESKTOP = (1280, 900)
PHONE = (360, 740)

TIMEOUT = 60_000.0
"""Milliseconds until something that should happen on a page counts as missing, on a busy machine."""

_LOCALES = {"zh": "zh-CN", "en": "en-US"}

_SAY = """([name, values]) => import("/page/words.js").then(({ words }) => {
  const text = name.split(".").reduce((texts, each) => texts[each], words());
  return typeof text === "function" ? text(...values) : text;
})"""

# Files and transfers cannot be passed to a page; both events reach the listeners of a drop or a paste by a user.
_GIVE = """(node, [event, files]) => {
  const transfer = new DataTransfer();
  for (const { name, type, data } of files) {
    const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type, lastModified: 0 }));
  }
  const options = { bubbles: true, cancelable: true };
  if (event === "paste") {
    node.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: transfer }));
    return;
  }
  for (const type of ["dragover", "drop"]) {
    node.dispatchEvent(new DragEvent(type, { ...options, dataTransfer: transfer }));
  }
}"""


class Visit:
    """A page of the server in a browser context of its own.

    Args:
        context: The context.
        page: The page.
        url: URL of the server.
    """

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context = context
        self.page = page
        self.url = url
        self.cards = page.locator("#results .card:not(.skeleton)")
        self.summary = page.locator("#search-summary")
        self.lightbox = page.locator("#lightbox")
        self.turns = page.locator(".turn")

    def go(self, path: str) -> None:
        """Open another address of the server, such as ``/?words=…``."""
        self.page.goto(self.url + path)

    def say(self, name: str, *values: Any) -> str:
        """Return a text of the page in its language, by its name in ``words.js`` such as ``errors.offline``."""
        text = self.page.evaluate(_SAY, [name, values])
        assert isinstance(text, str)
        return text

    def search(self, words: str) -> None:
        """Search by words, and wait for the results."""
        self.page.locator("#words").fill(words)
        self.page.locator("#words").press("Enter")
        self.wait_for_results()

    def wait_for_results(self) -> None:
        """Wait until no search is on its way."""
        expect(self.page.locator("#results")).to_have_attribute("aria-busy", "false")

    def wait_for_additions(self) -> None:
        """Wait until the page knows what the server accepts."""
        expect(self.page.locator("#known-types")).not_to_be_empty()

    def ask(self, question: str) -> Locator:
        """Ask a question, and return its turn, whose answer may still be on its way."""
        expect(self.page.locator("#send")).to_be_enabled()
        count = self.turns.count()
        self.page.locator("#question").fill(question)
        self.page.locator("#question").press("Enter")
        expect(self.turns).to_have_count(count + 1)
        return self.turns.last

    def asked(self, question: str) -> Locator:
        """Ask a question, and return its turn with the whole answer."""
        turn = self.ask(question)
        self.finish(turn)
        return turn

    def finish(self, turn: Locator) -> None:
        """Wait until nothing more of an answer is on its way."""
        expect(turn.locator(".answer-progress")).to_have_count(0)

    def tab(self, view: str) -> Locator:
        """Return the link to a view."""
        return self.page.locator(f".tabs [data-view={view}]")

    def button(self, name: str, *values: Any, within: Locator | None = None) -> Locator:
        """Return a button by the name of its text in ``words.js``."""
        return (within or self.page).get_by_role("button", name=self.say(name, *values), exact=True)

    def drop(self, *files: tuple[str, str, bytes]) -> None:
        """Drop files, given by name, MIME type and content."""
        self._give("drop", files)

    def paste(self, *files: tuple[str, str, bytes]) -> None:
        """Paste files, given by name, MIME type and content."""
        self._give("paste", files)

    def drop_paths(self, *paths: Path) -> None:
        """Drop files and folders of this machine, as a file manager does."""
        session = self.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for event in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": event, "x": 300, "y": 300, "data": data})
        session.detach()

    def is_too_wide(self) -> bool:
        """Return whether the page can be scrolled sideways."""
        is_wide = self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        return bool(is_wide)

    def _give(self, event: str, files: Sequence[tuple[str, str, bytes]]) -> None:
        given = [{"name": name, "type": kind, "data": base64.b64encode(data).decode()} for name, kind, data in files]
        self.page.locator("body").evaluate(_GIVE, [event, given])


Open = Callable[..., Visit]
"""Visits a server: ``open_page(url, path, …)``, with the arguments of ``Visitor.visit``."""


class Visitor:
    """Visits servers, and notes what no visit may cause: errors, warnings, and requests to other hosts.

    Args:
        browser: Chromium.

    Attributes:
        problems: What was noted.
    """

    def __init__(self, browser: Browser) -> None:
        self.problems: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def visit(
        self,
        url: str,
        path: str = "/",
        *,
        language: Language = "zh",
        scheme: Literal["light", "dark"] = "light",
        size: tuple[int, int] = DESKTOP,
        context: BrowserContext | None = None,
        expected: str | None = None,
    ) -> Visit:
        """Open a page.

        Args:
            url: URL of the server, without a path.
            path: What to open there.
            language: Language of the browser.
            scheme: Theme of the browser.
            size: Width and height of the window in pixels.
            context: A context to open the page in; by default a new one, which shares nothing with others.
            expected: Regular expression for messages on the console that are no problem, such as failed requests.
        """
        if context is None:
            width, height = size
            context = self._browser.new_context(
                locale=_LOCALES[language],
                color_scheme=scheme,
                viewport={"width": width, "height": height},
                reduced_motion="reduce",
            )
            context.set_default_timeout(TIMEOUT)
            self._contexts.append(context)
        page = context.new_page()
        self._watch(page, url, expected)
        page.goto(url + path)
        return Visit(context, page, url)

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()

    def _watch(self, page: Page, url: str, expected: str | None) -> None:
        def note_message(message: ConsoleMessage) -> None:
            is_expected = expected is not None and re.search(expected, message.text)
            if message.type in ("error", "warning") and not is_expected:
                self.problems.append(f"{message.type} on the console: {message.text} {message.location}")

        def note_request(requested: str) -> None:
            target = urlsplit(requested)
            if target.scheme not in ("blob", "data") and target.netloc != urlsplit(url).netloc:
                self.problems.append(f"request to {requested}")

        page.on("console", note_message)
        page.on("pageerror", lambda error: self.problems.append(f"error of a script: {error}"))
        page.on("request", lambda request: note_request(request.url))
        page.on("popup", lambda popup: self.problems.append(f"window {popup.url}"))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium inside a ``with`` block; skip the test without it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip("needs Chromium (Debian and Ubuntu: apt-get install chromium)")
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield running
        running.close()
