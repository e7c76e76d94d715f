"""What the page shows is in its address; languages, themes, and visitors who know nothing of each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from api import Serve
from browser import Open, Visit
from playwright.sync_api import expect

pytestmark = pytest.mark.integration


@pytest.fixture
def url(serve: Serve, files_store: Path) -> str:
    """URL of a server over the emoji."""
    return str(serve(files_store).client.base_url)


def shown(visit: Visit) -> dict[str, object]:
    """Return what a search shows, without the time that it took."""
    visit.wait_for_results()
    return {
        "cards": visit.cards.evaluate_all("cards => cards.map((card) => card.dataset.id)"),
        "words": visit.page.locator("#words").input_value(),
        "cutoff": visit.page.locator("#cutoff").input_value(),
        "number": visit.page.locator("#number").input_value(),
        "filters": visit.page.locator("#search-filters .chip").all_inner_texts(),
    }


def test_a_copied_link_and_a_reload_show_the_same(open_page: Open, url: str) -> None:
    visit = open_page(url)
    visit.search("红色的水果")
    visit.page.locator("#number").select_option("50")
    visit.page.locator("#cutoff").fill("0.2")
    expect(visit.summary).to_contain_text("0.20")
    visit.button("addFilter", within=visit.page.locator("#search-filters")).click()
    form = visit.page.locator("#search-filters form")
    form.get_by_label(visit.say("filterKey")).select_option("颜色")
    form.get_by_label(visit.say("filterOperator")).select_option("in")
    form.get_by_role("button", name="红", exact=True).click()
    form.get_by_role("button", name="黄", exact=True).click()
    visit.button("filterApply", within=form).click()
    expect(visit.page.locator("#search-filters .chip")).to_have_count(1)
    before = shown(visit)
    assert before["cards"]
    assert before["words"] == "红色的水果"
    visit.page.reload()
    expect(visit.cards.first).to_be_visible()
    assert shown(visit) == before
    link = visit.page.url.removeprefix(url)
    other = open_page(url, link, language="en")
    expect(other.cards.first).to_be_visible()
    assert {**shown(other), "filters": before["filters"]} == before


def test_back_and_forward_go_through_searches_views_and_images(open_page: Open, url: str) -> None:
    visit = open_page(url)
    visit.search("柠檬")
    visit.search("飞机")
    visit.page.locator(".card[data-id='飞机'] .card-image").click()
    expect(visit.lightbox).to_be_visible()
    visit.page.go_back()
    expect(visit.lightbox).to_be_hidden()
    visit.tab("ask").click()
    expect(visit.page.locator("#question")).to_be_visible()
    visit.page.go_back()
    expect(visit.page.locator("#words")).to_have_value("飞机")
    visit.page.go_back()
    expect(visit.page.locator("#words")).to_have_value("柠檬")
    expect(visit.page.locator("#results .card:not(.text-card)").first).to_have_attribute("data-id", "柠檬")
    visit.page.go_forward()
    expect(visit.page.locator("#words")).to_have_value("飞机")
    expect(visit.page.locator("#results .card:not(.text-card)").first).to_have_attribute("data-id", "飞机")


def test_a_link_to_an_image_opens_it(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?words=红苹果&image=樱桃")
    expect(visit.lightbox.get_by_role("heading", level=2)).to_have_text("樱桃")
    visit.page.keyboard.press("Escape")
    expect(visit.lightbox).to_be_hidden()
    expect(visit.page).not_to_have_url(re.compile("image"))
    expect(visit.cards).to_have_count(11)


def test_nonsense_in_the_address_is_ignored(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?view=nothing&cutoff=hot&number=-3&lang=xx&words=柠檬&upload=7")
    expect(visit.cards).to_have_count(11)
    expect(visit.page.locator("#cutoff")).to_have_value("0")
    expect(visit.page.locator("#number")).to_have_value("20")


def test_the_language_is_switched_stays_and_can_be_in_the_address(open_page: Open, url: str) -> None:
    visit = open_page(url, "/?words=柠檬")
    html = visit.page.locator("html")
    expect(html).to_have_attribute("lang", "zh-CN")
    expect(visit.summary).to_contain_text("找到")
    visit.page.locator("#language").click()
    expect(html).to_have_attribute("lang", "en")
    expect(visit.summary).to_contain_text("results")
    expect(visit.cards.nth(1).locator(".score")).to_contain_text("similarity")
    visit.go("/")
    expect(html).to_have_attribute("lang", "en")
    visit.go("/?lang=zh")
    expect(html).to_have_attribute("lang", "zh-CN")


def brightness(visit: Visit) -> float:
    """Return the sum of the colours of the background, from 0 to 765."""
    colour: str = visit.page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    return sum(map(float, re.findall(r"[0-9.]+", colour)[:3]))


def test_the_theme_is_switched_and_stays(open_page: Open, url: str) -> None:
    visit = open_page(url, scheme="dark")
    assert brightness(visit) < 300
    visit.page.locator("#theme").click()
    expect(visit.page.locator("html")).to_have_attribute("data-theme", "light")
    assert brightness(visit) > 600
    visit.page.reload()
    expect(visit.page.locator("html")).to_have_attribute("data-theme", "light")
    visit.page.locator("#theme").click()
    expect(visit.page.locator("html")).to_have_attribute("data-theme", "dark")
    assert brightness(visit) < 300


def test_a_browser_without_storage_shows_the_page(open_page: Open, url: str) -> None:
    visit = open_page(url)
    visit.context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })"
    )
    visit.go("/?words=柠檬")
    visit.page.locator("#language").click()
    visit.page.locator("#theme").click()
    expect(visit.page.locator("html")).to_have_attribute("lang", "en")
    expect(visit.cards).to_have_count(11)


def test_two_visitors_do_not_see_each_others_conversations(open_page: Open, url: str) -> None:
    one, other = open_page(url, "/?view=ask"), open_page(url, "/?view=ask")
    one.asked("哪个是红苹果？")
    other.asked("有没有飞机？")
    for visit, question in ((one, "哪个是红苹果？"), (other, "有没有飞机？")):
        expect(visit.turns).to_have_count(1)
        expect(visit.turns.locator(".question")).to_contain_text(question)
    # Nor does a second page of the same visitor.
    third = open_page(url, "/?view=ask", context=one.context)
    expect(third.turns).to_have_count(0)
