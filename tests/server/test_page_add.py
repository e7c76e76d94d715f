"""The page's additions: files, folders, what is left out, interruptions, read-only servers and empty indexes."""

from __future__ import annotations

import re
from concurrent.futures import Future
from io import BytesIO
from pathlib import Path

import pytest
from api import Serve
from browser import LANGUAGES, Language, Open, Visit
from PIL import Image
from playwright.sync_api import Locator, Route, expect

from llama_index_mm_zhipu.server.forms import MAX_IMAGE_BYTES
from llama_index_mm_zhipu.service.image_service import ImageService

pytestmark = pytest.mark.integration


def jpeg(colour: str | tuple[int, int, int]) -> bytes:
    data = BytesIO()
    Image.new("RGB", (64, 48), colour).save(data, "JPEG")
    return data.getvalue()


def many(count: int) -> list[tuple[str, str, bytes]]:
    """Return different images as files to drop; a request takes 16 of them."""
    return [(f"{number:02}.jpg", "image/jpeg", jpeg((9 * number, 99, 200 - 9 * number))) for number in range(count)]


def panel(visit: Visit) -> Locator:
    return visit.page.locator("#upload .upload")


@pytest.fixture
def url(serve: Serve, own_store: Path) -> str:
    """URL of a server over an index that may be changed."""
    return str(serve(own_store, uploads=own_store / "uploads").client.base_url)


@pytest.fixture
def empty_service(tmp_path: Path, demo_folder: Path) -> ImageService:
    """An index without images, which the server closes."""
    return ImageService.open(tmp_path / "new store", create=True, model=demo_folder / "model", device="cpu")


@pytest.mark.parametrize("language", LANGUAGES)
def test_images_that_are_dropped_are_found_and_the_others_are_left_out_with_reasons(
    open_page: Open, url: str, language: Language
) -> None:
    visit = open_page(url, language=language)
    expect(visit.tab("add")).to_be_visible()
    visit.drop(
        ("绿色.jpg", "image/jpeg", jpeg("green")),
        ("坏.jpg", "image/jpeg", b"\xff\xd8\xff broken"),
        ("空.png", "image/png", b""),
        ("笔记.txt", "text/plain", b"text"),
        ("蓝色.jpg", "image/jpeg", jpeg("blue")),
    )
    expect(panel(visit)).to_contain_text(visit.say("uploadDone"))
    expect(panel(visit)).to_contain_text(visit.say("filesDone", 5, 5))
    expect(panel(visit)).to_contain_text(visit.say("newImages", 2))
    skipped = visit.page.locator(".skipped li")
    expect(skipped).to_have_count(3)
    expect(skipped.filter(has_text="坏.jpg")).to_contain_text(re.compile("坏.jpg.+\\S{3}"))
    expect(skipped.filter(has_text="空.png")).to_contain_text(visit.say("emptyFile"))
    expect(skipped.filter(has_text="笔记.txt")).to_contain_text(visit.say("unknownType"))
    expect(visit.page.locator("#count")).to_contain_text(visit.say("images", 12))
    visit.button("searchNow", within=panel(visit)).click()
    visit.drop(("绿.jpg", "image/jpeg", jpeg("green")))
    expect(visit.page.locator("#results .card:not(.text-card)").first).to_contain_text("绿色.jpg")


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_addition_is_stopped_and_goes_on_with_the_rest(open_page: Open, url: str, language: Language) -> None:
    visit = open_page(url, "/?view=add", language=language)
    visit.wait_for_additions()
    sent = 0

    def hold_second(route: Route) -> None:
        nonlocal sent
        sent += 1
        if sent == 1:
            route.continue_()

    visit.page.route("**/api/index", hold_second)
    visit.drop(*many(20))
    expect(panel(visit)).to_contain_text(visit.say("filesDone", 16, 20))
    expect(panel(visit)).to_contain_text(visit.say("andMore", "16.jpg", 4))
    # What is stored can be searched for.
    expect(visit.page.locator("#count")).to_contain_text("26")
    visit.button("stop", within=panel(visit)).click()
    expect(panel(visit)).to_contain_text(visit.say("uploadStopped"))
    visit.page.unroute("**/api/index")
    visit.button("resume", within=panel(visit)).click()
    expect(panel(visit)).to_contain_text(visit.say("uploadDone"))
    expect(panel(visit)).to_contain_text(visit.say("filesDone", 20, 20))
    expect(visit.page.locator("#count")).to_contain_text("30")
    # Once more: nothing has changed.
    visit.drop(*many(20))
    expect(panel(visit)).to_contain_text(visit.say("keptImages", 20))
    expect(visit.page.locator("#count")).to_contain_text("30")


def test_an_addition_pauses_if_the_network_fails(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?view=add", expected="ERR_FAILED")
    visit.wait_for_additions()
    visit.page.route("**/api/index", lambda route: route.abort())
    visit.drop(*many(2))
    expect(panel(visit)).to_contain_text(visit.say("uploadPaused"))
    expect(visit.page.locator("#upload [role=alert]")).to_contain_text(visit.say("errors.offline"))
    visit.page.unroute("**/api/index")
    visit.button("resume", within=panel(visit)).click()
    expect(panel(visit)).to_contain_text(visit.say("newImages", 2))
    expect(visit.page.locator("#upload [role=alert]")).to_have_count(0)


@pytest.mark.parametrize("way", ["dropped", "chosen"])
def test_a_folder_is_added_with_all_that_is_in_it(open_page: Open, url: str, tmp_path: Path, way: str) -> None:
    folder = tmp_path / "我的 照片"
    (folder / "里面" / "更里面").mkdir(parents=True)
    # Chromium lists a hundred files at a time.
    for number in range(101):
        (folder / f"{number}.txt").write_text("text")
    (folder / "里面" / "绿.jpg").write_bytes(jpeg("green"))
    (folder / "里面" / "更里面" / "蓝.jpg").write_bytes(jpeg("blue"))
    (folder / "Thumbs.db").write_bytes(b"noise")
    (folder / ".DS_Store").write_bytes(b"noise")
    visit = open_page(url, "/?view=add")
    visit.wait_for_additions()
    if way == "dropped":
        visit.drop_paths(folder)
    else:
        with visit.page.expect_file_chooser() as chooser:
            visit.button("chooseFolder").click()
        chooser.value.set_files(folder)
    expect(panel(visit)).to_contain_text(visit.say("uploadDone"))
    expect(panel(visit)).to_contain_text(visit.say("filesDone", 103, 103))
    expect(panel(visit)).to_contain_text(visit.say("newImages", 2))
    expect(panel(visit)).to_contain_text(visit.say("skippedFiles", 101))


def test_several_files_are_chosen_and_too_large_ones_are_not_sent(open_page: Open, url: str, tmp_path: Path) -> None:
    large, green = tmp_path / "大.jpg", tmp_path / "绿.jpg"
    with large.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    green.write_bytes(jpeg("green"))
    visit = open_page(url, "/?view=add")
    visit.wait_for_additions()
    expect(visit.page.locator("#known-types")).to_contain_text("PDF")
    with visit.page.expect_file_chooser() as chooser:
        visit.button("chooseFiles").click()
    assert chooser.value.is_multiple()
    chooser.value.set_files([large, green])
    expect(panel(visit)).to_contain_text(visit.say("newImages", 1))
    expect(visit.page.locator(".skipped li")).to_contain_text(f"{round(MAX_IMAGE_BYTES / 1e6)} MB")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_server_that_is_read_only_does_not_offer_additions(
    open_page: Open, serve: Serve, emoji_store: Path, language: Language
) -> None:
    visit = open_page(str(serve(emoji_store).client.base_url), language=language)
    expect(visit.page.locator("#count")).to_contain_text("10")
    expect(visit.tab("add")).to_be_hidden()
    visit.drop(*many(2))
    expect(visit.page.locator("#banner")).to_contain_text(visit.say("addClosed"))
    visit.go("/?view=add")
    expect(visit.page.locator("#banner")).to_contain_text(visit.say("addClosed"))
    expect(visit.page.locator("#drop-zone")).to_be_hidden()


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_empty_index_asks_for_images_and_takes_the_first_that_is_dropped(
    open_page: Open, serve: Serve, empty_service: ImageService, tmp_path: Path, language: Language
) -> None:
    opening: Future[ImageService] = Future()
    opening.set_result(empty_service)
    visit = open_page(str(serve(opening=opening, uploads=tmp_path / "uploads").client.base_url), language=language)
    expect(visit.page.get_by_role("heading", name=visit.say("addEmpty"))).to_be_visible()
    expect(visit.page.locator("#words")).to_be_hidden()
    visit.tab("ask").click()
    expect(visit.page.get_by_role("heading", name=visit.say("addEmpty"))).to_be_visible()
    visit.drop(("绿色.jpg", "image/jpeg", jpeg("green")))
    expect(panel(visit)).to_contain_text(visit.say("newImages", 1))
    visit.button("searchNow", within=panel(visit)).click()
    visit.search("绿色")
    expect(visit.cards).to_have_count(1)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_empty_index_that_is_read_only_says_how_to_fill_it(
    open_page: Open, serve: Serve, empty_service: ImageService, language: Language
) -> None:
    opening: Future[ImageService] = Future()
    opening.set_result(empty_service)
    visit = open_page(str(serve(opening=opening).client.base_url), language=language)
    expect(visit.page.locator("#banner")).to_contain_text("mmzhipu index")
    expect(visit.page.locator("#banner").get_by_role("button")).to_have_count(0)
