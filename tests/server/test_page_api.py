"""The page ``/api``: every operation of the OpenAPI document, for the eyes and for axe-core."""

from __future__ import annotations

from pathlib import Path

import pytest
from api import Serve
from axe import assert_accessible
from browser import PHONE, Open
from playwright.sync_api import expect

pytestmark = pytest.mark.integration


def test_it_shows_every_operation_with_an_example(open_page: Open, serve: Serve, emoji_store: Path) -> None:
    api = serve(emoji_store)
    paths = api.client.get("/api/openapi.json").json()["paths"]
    visit = open_page(str(api.client.base_url), "/api")
    for path, operations in paths.items():
        for method, operation in operations.items():
            section = visit.page.locator("details").filter(has_text=operation["summary"]).first
            section.locator("summary").click()
            expect(section).to_contain_text(path)
            expect(section.locator(".method").first).to_have_text(method.upper())
            expect(section.locator("pre")).to_contain_text("curl")
    visit.page.get_by_role("link", name="Page", exact=True).click()
    expect(visit.page.locator("#words")).to_be_visible()
    visit.page.locator(".tools").get_by_role("link", name="API").click()
    expect(visit.page.get_by_role("heading", name="Operations")).to_be_visible()


def test_it_is_accessible_open_and_closed(open_page: Open, serve: Serve, emoji_store: Path, axe: str) -> None:
    visit = open_page(str(serve(emoji_store).client.base_url), "/api")
    expect(visit.page.get_by_role("heading", name="Operations")).to_be_visible()
    assert_accessible(visit, axe, "closed")
    visit.page.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true })")
    assert_accessible(visit, axe, "open")
    visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert not visit.is_too_wide()


def test_without_the_token_it_says_where_it_is(open_page: Open, serve: Serve, emoji_store: Path) -> None:
    url = str(serve(emoji_store, token="a token of many characters").client.base_url)
    visit = open_page(url, "/api", expected="status of 401")
    expect(visit.page.locator("body")).to_contain_text("token")
