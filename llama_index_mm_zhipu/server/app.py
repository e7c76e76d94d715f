"""The ASGI application: the page, the API, and what guards them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_index_mm_zhipu.server.context import Context
from llama_index_mm_zhipu.server.endpoints.ask import ask_routes
from llama_index_mm_zhipu.server.endpoints.image_files import image_routes
from llama_index_mm_zhipu.server.endpoints.indexing import index_routes
from llama_index_mm_zhipu.server.endpoints.search import search_routes
from llama_index_mm_zhipu.server.endpoints.status import status_routes
from llama_index_mm_zhipu.server.errors import response_to
from llama_index_mm_zhipu.server.guard import (
    OriginRequired,
    SecurityHeaders,
    TokenRequired,
    error_response,
    host_names,
    require_token,
)
from llama_index_mm_zhipu.server.openapi import openapi_routes

PAGE = Path(__file__).parent / "page"

_OPEN_PATHS = ("/", "/page/", "/healthz")
"""What is served without the token: the page says that it needs one."""

_STATUS_CODES = {404: "not_found", 405: "bad_request"}


def build_app(context: Context, *, host: str, token: str | None = None) -> ASGIApp:
    """Return the application.

    Args:
        context: What the endpoints share; its service is closed at the end.
        host: Address that the server listens at. Any but this machine's own needs a token.
        token: Token that clients must send as ``Authorization: Bearer``, and browsers once in the address; None for
            none.

    Raises:
        ValueError: The address needs a token.
    """
    require_token(host, token)
    middleware = [
        Middleware(SecurityHeaders),
        Middleware(_CountedRequests, context=context),
        # With a token, the server may have any name.
        Middleware(OriginRequired, names=None if token else host_names(host)),
        Middleware(_JsonErrors),
    ]
    if token:
        middleware.insert(3, Middleware(TokenRequired, token=token, open_paths=_OPEN_PATHS, sets_cookie=True))
    return Starlette(
        routes=[
            Route("/", _page),
            Mount("/page", _PageFiles(directory=PAGE)),
            *search_routes(context),
            *ask_routes(context),
            *image_routes(context),
            *index_routes(context),
            *status_routes(context),
            *openapi_routes(PAGE),
        ],
        middleware=middleware,
        exception_handlers={HTTPException: _http_error},
        lifespan=lambda app: _lifespan(context),
    )


@asynccontextmanager
async def _lifespan(context: Context) -> AsyncIterator[None]:
    try:
        yield
    finally:
        context.close()


class _PageFiles(StaticFiles):
    """Files of the page, which browsers ask for again: a new version must not be mixed with parts of an old one."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or that it has not changed."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _page(request: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _STATUS_CODES.get(error.status_code, "bad_request")
    message = f"{request.method} {request.url.path}: {error.detail}; /api lists what there is"
    return error_response(error.status_code, code, message, dict(error.headers or {}))


class _JsonErrors:
    """ASGI middleware that answers errors of endpoints with JSON."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_started = False

        async def noting_send(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except ClientDisconnect:
            # Nobody is there who could be told.
            pass
        except Exception as error:
            if is_started or scope["type"] != "http":
                raise
            await response_to(error)(scope, receive, send)


class _CountedRequests:
    """ASGI middleware that counts requests by endpoint and status."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._metrics = context.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.count_request(_endpoint_of(scope["path"]), message["status"])
            await send(message)

        await self._app(scope, receive, counting_send if scope["type"] == "http" else send)


_API = ("search", "ask", "chats", "images", "details", "index", "status")
_COUNTED = (*(f"/api/{name}" for name in _API), "/page", "/healthz")


def _endpoint_of(path: str) -> str:
    # Names must not grow without end.
    return next((each for each in _COUNTED if path == each or path.startswith(f"{each}/")), "other")
