"""Take screenshots of the main states of the page of ``mmzhipu serve``, over the emoji of the demo and a car manual.

Run with ``python docs/page_screenshots.py FOLDER``. It needs Chromium and the extras ``serve`` and ``ocr``; answers
come from the mock service, which the page says.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import pypdfium2
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from llama_index_mm_zhipu.server.app import build_app
from llama_index_mm_zhipu.server.context import Context, LlmInfo
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.service.inputs import IndexInputs
from llama_index_mm_zhipu.testing.mock_server import mock_glm

EXAMPLES = Path(__file__).parents[1] / "examples"
MODEL = EXAMPLES / "demo" / "model"

MAX_BYTES = 150_000
"""Largest file of a screenshot."""

DESKTOP = (1280, 800)
PHONE = (390, 780)

# Images below the window are not loaded.
_DECODE = """Promise.all(
  [...document.images]
    .filter((image) => image.checkVisibility() && image.getBoundingClientRect().top < innerHeight)
    .map((image) => image.decode()),
)"""
_LOCALES = {"zh": "zh-CN", "en": "en-US"}
_LLM = "glm-4v-flash"


@contextmanager
def serving(service: ImageService, uploads: Path) -> Iterator[str]:
    """Serve an index inside a ``with`` block, and return the URL.

    Args:
        service: The index, which is closed at the end.
        uploads: Folder for images that are added.
    """
    opening: Future[ImageService] = Future()
    opening.set_result(service)
    app = build_app(Context(opening, LlmInfo(_LLM, is_mock=True), uploads), host="127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def write_emoji(folder: Path) -> Path:
    """Write the emoji of the demo as files with their captions, and return the folder."""
    folder.mkdir()
    captions = ["file_name,caption"]
    for line in (EXAMPLES / "demo" / "test.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        caption = record["caption"]
        name = f"{caption.replace('/', '_')}.jpg"
        (folder / name).write_bytes(base64.b64decode(record["image_base64"]))
        captions.append(f"{name},{caption}")
    (folder / "captions.csv").write_text("\n".join(captions), encoding="utf-8")
    return folder


def write_scans(folder: Path) -> Path:
    """Write the pages of the car manual as images, whose text only OCR can read, and return the folder."""
    folder.mkdir()
    with pypdfium2.PdfDocument(EXAMPLES / "cases" / "car_maintenance.pdf") as manual:
        for number, page in enumerate(manual, 1):
            page.render(scale=2).to_pil().convert("RGB").save(folder / f"{number:02}.jpg", quality=90)
    return folder


def open_page(browser: Browser, url: str, language: str, scheme: str, size: tuple[int, int]) -> Page:
    """Open a page in a context of its own."""
    context = browser.new_context(
        locale=_LOCALES[language],
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": size[0], "height": size[1]},
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(url)
    return page


def save(page: Page, file: Path) -> None:
    """Save what a page shows, with as many colours as the limit of bytes allows, and close it."""
    page.evaluate(_DECODE)
    image = Image.open(BytesIO(page.screenshot())).convert("RGB")
    for colours in (256, 128, 64):
        image.quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
        if file.stat().st_size <= MAX_BYTES:
            break
    page.context.close()


def search(browser: Browser, url: str, folder: Path) -> None:
    """Show results in both languages and themes, on a desktop and on a phone."""
    for name, language, scheme, size in (
        ("search_zh", "zh", "light", DESKTOP),
        ("search_en", "en", "dark", DESKTOP),
        ("search_phone", "zh", "light", PHONE),
    ):
        page = open_page(browser, f"{url}/?words=红心", language, scheme, size)
        expect(page.locator("#results .card:not(.skeleton)")).to_have_count(20)
        save(page, folder / f"{name}.png")


def lightbox(browser: Browser, url: str, folder: Path) -> None:
    """Show a page of the manual with the lines that were searched for."""
    page = open_page(browser, f"{url}/?words=轮胎气压", "zh", "light", DESKTOP)
    page.locator("#results .card-image").first.click()
    expect(page.locator("#lightbox mark").first).to_be_visible()
    save(page, folder / "lightbox_zh.png")


def ask(browser: Browser, url: str, folder: Path) -> None:
    """Show an answer with its sources."""
    page = open_page(browser, f"{url}/?view=ask", "zh", "light", DESKTOP)
    expect(page.locator("#send")).to_be_enabled()
    page.locator("#question").fill("哪些是红色的水果？")
    page.locator("#question").press("Enter")
    expect(page.locator(".answer-actions")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    save(page, folder / "ask_zh.png")


def add(browser: Browser, url: str, emoji: Path, folder: Path) -> None:
    """Show an empty index, and an addition to it that is on its way, with files that were left out."""
    page = open_page(browser, url, "en", "light", DESKTOP)
    expect(page.locator(".empty-index")).to_be_visible()
    save(page, folder / "empty_en.png")
    page = open_page(browser, f"{url}/?view=add", "zh", "light", DESKTOP)
    expect(page.locator("#known-types")).not_to_be_empty()
    sent = 0

    def hold_second(route: Route) -> None:
        nonlocal sent
        sent += 1
        if sent == 1:
            route.continue_()

    page.route("**/api/index", hold_second)
    with page.expect_file_chooser() as chooser:
        page.locator("#choose-files").click()
    images = [
        {"name": file.name, "mimeType": "image/jpeg", "buffer": file.read_bytes()}
        for file in sorted(emoji.glob("*.jpg"))
    ]
    others = [
        {"name": "下载不完整.jpg", "mimeType": "image/jpeg", "buffer": images[0]["buffer"][:300]},
        {"name": "说明.txt", "mimeType": "text/plain", "buffer": b"text"},
    ]
    chooser.value.set_files([*others, *images[:46]])  # type: ignore[arg-type]
    expect(page.locator(".skipped li")).to_have_count(2)
    expect(page.locator("#upload progress")).to_be_visible()
    save(page, folder / "add_zh.png")


def main() -> None:
    """Build the indexes, serve them, and take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the screenshots are written")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    # The page shows paths: they should look like those of users.
    root = Path(tempfile.gettempdir()) / "图片"
    root.mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root)
        emoji = write_emoji(root / "表情")
        llm = mock_glm(_LLM)
        inputs = IndexInputs(emoji, captions=emoji / "captions.csv")
        emoji_service, _ = ImageService.build(inputs, root / "emoji store", model=MODEL, llm=llm)
        scans = write_scans(root / "汽车保养手册")
        manual_service, _ = ImageService.build(
            IndexInputs(scans), root / "manual store", model=MODEL, ocr=True, llm=llm
        )
        empty_service = ImageService.open(root / "empty store", create=True, model=MODEL, llm=llm)
        urls = [
            stack.enter_context(serving(each, root / "uploads"))
            for each in (emoji_service, manual_service, empty_service)
        ]
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        search(browser, urls[0], folder)
        ask(browser, urls[0], folder)
        lightbox(browser, urls[1], folder)
        add(browser, urls[2], emoji, folder)
        browser.close()


if __name__ == "__main__":
    main()
