"""Who may call the server: names, origins, tokens and cookies; and what browsers are told."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from api import Api, Serve, error_of

from llama_index_mm_zhipu.server.app import build_app
from llama_index_mm_zhipu.server.context import Context, LlmInfo
from llama_index_mm_zhipu.server.guard import is_loopback

# test_ask.py has the quick tests of the server.
pytestmark = pytest.mark.integration

TOKEN = "密码-s3cr3t/+&="


def get(api: Api, path: str = "/api/search?words=车", **headers: str) -> httpx.Response:
    return api.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "127.0.0.1:80", "[::1]", "localhost:5173", "[::1]:8766"])
def test_a_local_server_answers_to_local_names(api: Api, name: str) -> None:
    assert get(api, Host=name).status_code == 200
    assert get(api, Host=name, Origin=f"http://{name}").status_code == 200


@pytest.mark.parametrize(
    "name",
    ["evil.example", "evil.example:8766", "127.0.0.1.evil.example", "localhost.evil:80", "10.0.0.1", "", "[::2]"],
)
def test_other_names_are_refused(api: Api, name: str) -> None:
    for path in ("/", "/page/main.js", "/api/status", "/api/images/飞机", "/healthz", "/metrics"):
        assert error_of(get(api, path, Host=name))[:2] == (421, "forbidden")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://evil.example:443", "x", "", "http://["]
)
def test_other_pages_are_refused(api: Api, origin: str) -> None:
    assert error_of(get(api, Origin=origin))[:2] == (403, "forbidden")
    form = api.client.post("/api/index", files={"files": ("a.jpg", b"x")}, headers={"Origin": origin})
    assert error_of(form)[:2] == (403, "forbidden")
    preflight = api.client.options("/api/search", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in preflight.headers


def test_other_pages_cannot_show_images_but_may_link_here(api: Api) -> None:
    for site in ("cross-site", "same-site"):
        assert get(api, "/api/images/飞机", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors").status_code == 403
        assert get(api, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status_code == 200
    assert get(api, "/api/images/飞机", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="no-cors").status_code == 200


def test_every_response_has_the_headers_that_protect_a_page(api: Api) -> None:
    for path in ("/", "/api", "/api/status", "/api/images/飞机", "/nothing", "/page/main.js"):
        headers = api.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"


def test_files_of_the_page_are_asked_for_again_after_an_upgrade(api: Api) -> None:
    script = api.client.get("/page/main.js")
    assert script.headers["cache-control"] == "no-cache"
    assert get(api, "/page/main.js", If_None_Match=script.headers["etag"]).status_code == 304
    assert error_of(api.client.get("/page/../app.py"))[0] == 404


def test_with_a_token_requests_without_it_are_refused(serve: Serve, emoji_store: Path) -> None:
    api = serve(emoji_store, host="0.0.0.0", token=TOKEN)
    right = f"Bearer {TOKEN}".encode()
    for wrong in (b"", b"Bearer", b"Bearer x", TOKEN.encode(), right[:-1], right + b"x", b"Basic " + TOKEN.encode()):
        for path in (
            "/api/search?words=车",
            "/api/status",
            "/api/images/飞机",
            "/metrics",
            "/api",
            "/api/openapi.json",
        ):
            response = api.client.get(path, headers={"Authorization": wrong})
            assert error_of(response)[:2] == (401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
    assert api.client.get("/api/search?words=车", headers={"Authorization": right}).status_code == 200
    # Any name of this machine, or of a proxy.
    headers = {"Authorization": right, "Host": "photos.example", "Origin": "https://photos.example"}
    assert api.client.get("/api/status", headers=headers).status_code == 200
    assert api.client.get("/api/status", headers={**headers, "Origin": "https://evil.example"}).status_code == 403


def test_a_browser_gives_the_token_once_and_gets_a_cookie_that_does_not_hold_it(
    serve: Serve, emoji_store: Path
) -> None:
    api = serve(emoji_store, token=TOKEN)
    assert api.client.get("/").status_code == 200
    assert error_of(api.client.get("/api/status"))[0] == 401
    assert "set-cookie" not in api.client.get("/", params={"token": "wrong"}).headers
    entered = api.client.get("/", params={"token": TOKEN, "view": "ask"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/?view=ask")
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "s3cr3t" not in cookie
    # The client keeps it.
    assert api.client.get("/api/status").status_code == 200
    # Beside those of other servers of this machine, which Python's own parser refuses.
    header = f'settings={{"a": [1]}}; {entered.headers["set-cookie"].partition(";")[0]}; 名=值'.encode()
    url = api.client.base_url.join("/api/status")
    assert httpx.get(url, headers={"Cookie": header}, trust_env=False).status_code == 200
    name = next(iter(api.client.cookies))
    api.client.cookies.set(name, "0" * 64)
    assert api.client.get("/api/status").status_code == 401


def test_an_address_that_others_reach_needs_a_token() -> None:
    from concurrent.futures import Future

    context = Context(Future(), LlmInfo("m", is_mock=True))
    for host in ("0.0.0.0", "::", "", "10.0.0.1", "example.com"):
        with pytest.raises(ValueError, match="a token is needed"):
            build_app(context, host=host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)],
)
def test_loopback_addresses_are_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
