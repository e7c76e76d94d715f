"""The page's search: words, cards, cut-off, filters, more like this, and images of the user."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from api import Serve
from browser import LANGUAGES, Language, Open, Visit
from playwright.sync_api import expect

from llama_index_mm_zhipu.server.forms import MAX_IMAGE_BYTES

pytestmark = pytest.mark.integration

CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture
def url(serve: Serve, files_store: Path) -> str:
    """URL of a server over the emoji."""
    return str(serve(files_store).client.base_url)


def shown_ids(visit: Visit) -> list[str]:
    ids: list[str] = visit.cards.evaluate_all("cards => cards.map((card) => card.dataset.id)")
    return ids


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_first_visit_says_what_to_do_in_the_language_of_the_browser(
    open_page: Open, url: str, language: Language
) -> None:
    visit = open_page(url, language=language)
    expect(visit.page.locator("html")).to_have_attribute("lang", {"zh": "zh-CN", "en": "en"}[language])
    expect(visit.page.locator("#view-search .hints li")).to_have_count(3)
    expect(visit.page.locator("#count")).to_contain_text("10")
    expect(visit.cards).to_have_count(0)
    visit.tab("ask").click()
    expect(visit.page.locator("#view-ask .hints li")).to_have_count(3)
    if language == "en":
        text = visit.page.locator("body").inner_text()
        # The switch of the language is meant for those who read Chinese.
        assert CHINESE.findall(text) == ["中"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_find_cards_with_scores_captions_and_sources(open_page: Open, url: str, language: Language) -> None:
    visit = open_page(url, language=language)
    visit.search("红苹果")
    first = visit.page.locator("#results .card:not(.text-card)").first
    expect(first.locator(".caption")).to_have_text("红苹果")
    score = first.locator(".score").inner_text()
    assert score == visit.say("similarity", re.findall(r"[\d.]+", score)[0])
    expect(first.locator(".card-source")).to_have_text("06 红苹果.jpg")
    assert str(first.locator(".card-source").get_attribute("title")).endswith("照片0/06 红苹果.jpg")
    image = first.get_by_role("img", name="红苹果")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(visit.page.locator("#results .text-card")).to_contain_text("飞机的说明")
    expect(visit.summary).to_contain_text("11")
    expect(visit.page).to_have_title(re.compile("红苹果"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_cut_off_leaves_the_best_and_can_be_removed(open_page: Open, url: str, language: Language) -> None:
    visit = open_page(url, "/?words=红苹果", language=language)
    expect(visit.cards).to_have_count(11)
    slider = visit.page.get_by_label(visit.say("cutoff"))
    expect(visit.page.locator("#cutoff-value")).to_have_text(visit.say("cutoffOff"))
    slider.fill("0.5")
    expect(visit.page.locator("#cutoff-value")).to_have_text("0.50")
    expect(visit.summary).to_contain_text("0.50")
    assert 0 < visit.cards.count() < 11
    slider.fill("1")
    expect(visit.summary).to_have_text(visit.say("nothingFound"))
    expect(visit.page.locator("#search-notice")).to_contain_text(visit.say("loosenCutoff"))
    visit.button("cutoffReset").click()
    expect(visit.cards).to_have_count(11)
    assert "cutoff" not in visit.page.url


@pytest.mark.parametrize("language", LANGUAGES)
def test_filters_are_made_of_the_metadata_and_are_combined(open_page: Open, url: str, language: Language) -> None:
    visit = open_page(url, "/?words=红苹果", language=language)
    bar = visit.page.locator("#search-filters")
    form = bar.locator("form")
    visit.button("addFilter", within=bar).click()
    form.get_by_label(visit.say("filterKey")).select_option("颜色")
    form.get_by_role("button", name="红", exact=True).click()
    visit.button("filterApply", within=form).click()
    expect(visit.cards).to_have_count(4)
    visit.button("addFilter", within=bar).click()
    form.get_by_label(visit.say("filterKey")).select_option("价格")
    form.get_by_label(visit.say("filterFrom")).fill("30")
    form.get_by_label(visit.say("filterTo")).fill("70")
    form.get_by_label(visit.say("filterTo")).press("Enter")
    expect(visit.cards).to_have_count(2)
    assert set(shown_ids(visit)) == {"红苹果", "樱桃"}
    expect(bar.locator(".chip")).to_have_count(3)
    visit.page.get_by_role("button", name="颜色").click()
    expect(visit.cards).to_have_count(5)
    visit.page.locator("#number").select_option("10")
    expect(visit.page).to_have_url(re.compile("number=10"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_filters_that_are_too_strict_can_be_cleared(open_page: Open, url: str, language: Language) -> None:
    visit = open_page(url, "/?words=红苹果&filter=价格>1000", language=language)
    expect(visit.page.locator("#search-notice")).to_contain_text(visit.say("loosenFilters"))
    visit.button("filtersReset").click()
    expect(visit.cards).to_have_count(11)


@pytest.mark.parametrize("language", LANGUAGES)
def test_more_like_this_says_by_which_image_it_searches(open_page: Open, url: str, language: Language) -> None:
    visit = open_page(url, "/?words=柠檬", language=language)
    card = visit.page.locator(".card[data-id='柠檬']")
    card.get_by_role("button", name=visit.say("like")).click()
    chip = visit.page.locator("#search-attachment .chip")
    expect(chip).to_contain_text(visit.say("likeChip"))
    expect(visit.page.locator("#words")).to_have_value("")
    visit.wait_for_results()
    assert "柠檬" not in shown_ids(visit)
    assert len(shown_ids(visit)) >= 9
    chip.get_by_role("button").click()
    expect(visit.page.locator("#view-search .hints")).to_be_visible()


@pytest.mark.parametrize("language", LANGUAGES)
def test_ones_own_image_is_chosen_pasted_or_dropped(
    open_page: Open, url: str, images: dict[str, bytes], language: Language
) -> None:
    visit = open_page(url, language=language)
    chip = visit.page.locator("#search-attachment .chip")
    images_found = visit.page.locator("#results .card:not(.text-card)")
    with visit.page.expect_file_chooser() as chooser:
        visit.button("chooseImage").locator("visible=true").click()
    chooser.value.set_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": images["香蕉"]})
    expect(images_found.first).to_have_attribute("data-id", "香蕉")
    expect(chip).to_contain_text(visit.say("imageChip"))
    visit.paste(("image.png", "image/png", images["西瓜"]))
    expect(images_found.first).to_have_attribute("data-id", "西瓜")
    visit.drop(("消防车.jpg", "image/jpeg", images["消防车"]))
    expect(images_found.first).to_have_attribute("data-id", "消防车")
    expect(chip).to_have_attribute("title", "消防车.jpg")
    # Words and an image together.
    visit.search("红色")
    expect(visit.cards.first).to_be_visible()
    expect(chip).to_be_visible()
    # Back through the history of this page.
    visit.page.go_back()
    visit.page.go_back()
    expect(images_found.first).to_have_attribute("data-id", "西瓜")
    chip.get_by_role("button").click()
    expect(chip).to_have_count(0)


def test_an_image_that_is_broken_is_an_error_and_can_be_replaced(
    open_page: Open, url: str, images: dict[str, bytes]
) -> None:
    visit = open_page(url, expected="status of 400")
    visit.drop(("坏.jpg", "image/jpeg", b"\xff\xd8\xff broken"))
    expect(visit.page.locator("#search-notice [role=alert]")).to_contain_text(visit.say("errors.bad_request"))
    visit.drop(("飞机.jpg", "image/jpeg", images["飞机"]))
    expect(visit.page.locator("#results .card:not(.text-card)").first).to_have_attribute("data-id", "飞机")


def test_an_image_that_is_too_large_is_not_sent(open_page: Open, url: str, tmp_path: Path) -> None:
    visit = open_page(url)
    expect(visit.page.locator("#count")).to_contain_text("10")
    file = tmp_path / "大.jpg"
    with file.open("wb") as large:
        large.truncate(MAX_IMAGE_BYTES + 10**7)
    visit.drop_paths(file)
    limit = visit.page.locator("#banner [role=alert]")
    expect(limit).to_contain_text(f"{round(MAX_IMAGE_BYTES / 1e6 + 10)} MB")
    visit.search("柠檬")
    expect(limit).to_have_count(0)
