"""The server over HTTP: who may call it, by which names, and what happens to those who leave."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from waiting import wait_until

from llama_index_mm_zhipu.mcp.server import build_server
from llama_index_mm_zhipu.mcp.serving import PATH, http_app, serve_http
from llama_index_mm_zhipu.server.guard import TokenRequired, is_loopback
from llama_index_mm_zhipu.service.image_service import ImageService

pytestmark = pytest.mark.integration

Opening = Future[ImageService]
Serve = Callable[[Any], str]

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
HEADERS = {"Accept": "application/json, text/event-stream"}
TOKEN = "密码-s3cr3t"


def post(url: str, body: Any = INITIALIZE, **headers: str | bytes) -> httpx.Response:
    """Send a request with further headers, whose names have underscores."""
    own: dict[str, str | bytes] = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url, json=body, headers={**HEADERS, **own}, trust_env=False)  # type: ignore[dict-item]


@asynccontextmanager
async def connected(url: str, token: str | None = None) -> AsyncIterator[Client]:
    """Connect as agents do."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with AsyncExitStack() as stack:
        http_client = await stack.enter_async_context(create_mcp_http_client(headers=headers))
        yield await stack.enter_async_context(Client(streamable_http_client(url, http_client=http_client)))


# Names


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "127.0.0.1:80", "[::1]", "localhost:5173"])
def test_a_local_server_answers_to_local_names(opened: Opening, serve: Serve, name: str) -> None:
    url = serve(http_app(build_server(opened), host="127.0.0.1", token=None))
    assert post(url, Host=name).status_code == 200
    assert post(url, Host=name, Origin=f"http://{name}").status_code == 200


def test_a_local_server_answers_to_the_address_that_it_listens_at(opened: Opening, serve: Serve) -> None:
    url = serve(http_app(build_server(opened), host="127.0.0.2", token=None))
    assert post(url, Host="127.0.0.2:8765").status_code == 200


@pytest.mark.parametrize("name", ["evil.example:8765", "127.0.0.1.evil.example", "localhost.evil:80", "10.0.0.1"])
def test_other_names_are_refused(opened: Opening, serve: Serve, name: str) -> None:
    url = serve(http_app(build_server(opened), host="127.0.0.1", token=None))
    assert post(url, Host=name).status_code == 421
    assert post(url, Origin=f"http://{name}").status_code == 403


def test_a_page_cannot_post_without_being_asked_for_permission(opened: Opening, serve: Serve) -> None:
    url = serve(http_app(build_server(opened), host="127.0.0.1", token=None))
    # Browsers send these types without a preflight request, and a preflight request gets no permission.
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert post(url, Content_Type=content_type).status_code == 400
    asking = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(url, headers=asking, trust_env=False)
    assert "access-control-allow-origin" not in preflight.headers


# Tokens


def test_requests_without_the_token_are_refused(opened: Opening, serve: Serve) -> None:
    url = serve(http_app(build_server(opened), host="127.0.0.1", token=TOKEN))
    right = f"Bearer {TOKEN}".encode()
    refused = [
        b"",
        b"Bearer",
        b"Bearer x",
        TOKEN.encode(),
        f"Basic {TOKEN}".encode(),
        right + b"x",
        right[:-1],
    ]
    for given in refused:
        for method in ("POST", "GET", "DELETE", "OPTIONS"):
            answer = httpx.request(method, url, headers={**HEADERS, b"Authorization": given}, trust_env=False)  # type: ignore[dict-item]
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "s3cr3t" not in answer.text
    assert httpx.get(url.removesuffix(PATH) + "/other", trust_env=False).status_code == 401
    for given in (right, f"bearer {TOKEN}".encode()):
        assert post(url, Authorization=given).status_code == 200
    # A proxy in front of the server has a name of its own.
    assert post(url, Authorization=right, Host="images.example").status_code == 200


async def test_sockets_need_the_token_and_start_and_end_do_not() -> None:
    called: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["type"])

    async def send(message: Any) -> None:
        sent.append(message)

    protected: Any = TokenRequired(app, "t")
    for kind in ("websocket", "http", "lifespan"):
        await protected({"type": kind, "headers": [], "extensions": {"websocket.http.response": {}}}, None, send)
    assert called == ["lifespan"]
    assert [message["status"] for message in sent if "status" in message] == [401, 401]


@pytest.mark.parametrize("token", [None, "", " \n"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "images.example", "::ffff:10.0.0.1"])
def test_addresses_that_others_reach_need_a_token(opened: Opening, host: str, token: str | None) -> None:
    with pytest.raises(ValueError, match="can be reached from other machines: a token is needed"):
        serve_http(build_server(opened), host=host, port=0, token=token, on_start=pytest.fail)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((local, True) for local in ("127.0.0.1", "127.9.9.9", "::1", "localhost")),
        *((other, False) for other in ("0.0.0.0", "::", "", "10.0.0.1", "localhost.example", "127.0.0.1.x")),
    ],
)
def test_loopback_addresses_are_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


# Limits


def test_a_body_that_is_too_large_is_refused(opened: Opening, serve: Serve) -> None:
    url = serve(http_app(build_server(opened), host="127.0.0.1", token=None))
    assert post(url, {**INITIALIZE, "padding": "x" * 5_000_000}).status_code == 413
    assert post(url).status_code == 200


def test_a_port_that_is_taken_is_an_error_of_one_line(opened: Opening) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=str(port)) as error:
            serve_http(build_server(opened), host="127.0.0.1", port=port, token=None, on_start=pytest.fail)
    assert "\n" not in str(error.value)


def test_an_address_of_another_machine_is_an_error(opened: Opening) -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        serve_http(build_server(opened), host="192.0.2.1", port=0, token="t", on_start=pytest.fail)


# Clients


async def test_a_client_searches_with_the_token(opened: Opening, serve: Serve) -> None:
    url = serve(http_app(build_server(opened, allow_paths=False), host="127.0.0.1", token="s3cr3t"))
    async with connected(url, "s3cr3t") as client:
        result = await client.call_tool("search_images", {"words": "飞机", "limit": 1})
    assert [content.type for content in result.content][-2:] == ["text", "image"]
    with pytest.raises(Exception) as refused:  # noqa: PT011  # a group of exceptions, of which the class is mcp's affair
        async with connected(url, "wrong"):
            pass
    assert "s3cr3t" not in repr(refused.value)


async def test_clients_are_served_at_the_same_time(opened: Opening, serve: Serve) -> None:
    url = serve(http_app(build_server(opened), host="127.0.0.1", token=None))

    async def count(limit: int) -> int:
        async with connected(url) as client:
            result = await client.call_tool("search_images", {"words": "飞机", "limit": limit})
            return sum(content.type == "image" for content in result.content)

    assert await asyncio.gather(*map(count, (1, 2, 3))) == [1, 2, 3]


async def test_a_client_that_leaves_in_the_middle_does_not_stop_the_server(service: ImageService, serve: Serve) -> None:
    opening: Opening = Future()
    url = serve(http_app(build_server(opening), host="127.0.0.1", token=None))
    started = post(url)
    session = {"Mcp-Session-Id": started.headers["mcp-session-id"], "Mcp-Protocol-Version": "2025-06-18"}
    asked = {"name": "search_images", "arguments": {"words": "飞机"}}
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asked}
    post(url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, **session)
    with httpx.stream("POST", url, json=call, headers={**HEADERS, **session}, trust_env=False) as response:
        assert response.status_code == 200
    opening.set_result(service)
    async with connected(url) as client:
        result = await client.call_tool("search_images", {"words": "飞机", "limit": 1})
    assert not result.is_error
    # The session of the client that left is still there, and works.
    answer = post(url, {**call, "id": 3}, **session)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    assert [json.loads(line)["id"] for line in lines] == [3]
    assert wait_until(opening.done)
