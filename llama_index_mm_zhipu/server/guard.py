"""ASGI middleware that decides who may call a server: host names, origins and tokens; and headers for browsers."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Names by which browsers and clients call a server on their own machine."""

TOKEN_PARAMETER = "token"
"""Parameter of the address that a browser is given once; a cookie follows."""

_COOKIE_SECONDS = 30 * 24 * 3600

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every response: the page runs its own scripts only, and no other page can embed it."""


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def require_token(host: str, token: str | None) -> None:
    """Check that there is a token if other machines reach an address.

    Raises:
        ValueError: There is none.
    """
    if not is_loopback(host) and not token:
        raise ValueError(f"{host or 'an empty address'} can be reached from other machines: a token is needed")


def host_names(host: str) -> list[str]:
    """Return the names by which a server that listens at an address of this machine is called, without ports."""
    own = f"[{host}]" if ":" in host else host
    return [*LOCAL_NAMES, *([own] if own not in LOCAL_NAMES else [])]


class OriginRequired:
    """ASGI middleware that refuses requests of other pages, and to other names than the server's (DNS rebinding).

    Browsers send some requests, such as multipart forms, without asking the server for permission first.

    Args:
        app: Answers the other requests.
        names: Names of the server, as in ``host_names``; None allows any, for servers that ask for a token.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str] | None) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if self._names is not None and _without_port(host) not in self._names:
            names = ", ".join(self._names)
            return error_response(421, "forbidden", f"this server is called by other names: {names}")
        origin = headers.get("origin")
        # A proxy in front of the server may speak HTTPS.
        is_foreign = origin is not None and origin not in (f"http://{host}", f"https://{host}")
        if is_foreign or _is_foreign_fetch(headers):
            return error_response(403, "forbidden", "other pages may not use this server")
        return None


class TokenRequired:
    """ASGI middleware that answers 401 to requests without the token.

    Args:
        app: Answers the other requests.
        token: The token.
        open_paths: Paths that need no token; one such as ``/page/`` stands for all below it, and ``/`` for itself.
        sets_cookie: Whether browsers may give the token in the address, once: they get a cookie for it.
    """

    def __init__(self, app: ASGIApp, token: str, *, open_paths: Sequence[str] = (), sets_cookie: bool = False) -> None:
        self._app = app
        self._token = token.encode()
        self._open_paths = open_paths
        # Cookies do not tell ports apart: servers with other tokens have cookies of other names.
        name = f"mmzhipu_{hashlib.sha256(self._token).hexdigest()[:12]}"
        self._cookie = name if sets_cookie else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        response = self._app if scope["type"] == "lifespan" else self._response_to(scope)
        await response(scope, receive, send)

    def _response_to(self, scope: Scope) -> ASGIApp:
        headers = Headers(scope=scope)
        if self._cookie is not None and scope.get("path") == "/":
            parameters = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            given = dict(parameters).get(TOKEN_PARAMETER)
            if given is not None and self._is_token(given):
                return self._with_cookie([each for each in parameters if each[0] != TOKEN_PARAMETER])
        if self._is_allowed(headers) or self._is_open(scope.get("path", "")):
            return self._app
        return error_response(
            401, "unauthorized", "send the token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"}
        )

    def _with_cookie(self, parameters: list[tuple[str, str]]) -> Response:
        response = RedirectResponse(f"/?{urlencode(parameters)}" if parameters else "/", 303)
        assert self._cookie is not None
        # Derived from the token, as cookies hold few characters.
        response.set_cookie(
            self._cookie, self._cookie_value(), max_age=_COOKIE_SECONDS, httponly=True, samesite="strict"
        )
        return response

    def _cookie_value(self) -> str:
        return hashlib.sha256(b"mmzhipu cookie\n" + self._token).hexdigest()

    def _is_allowed(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Headers are bytes that were decoded as Latin-1.
        is_right = secrets.compare_digest(given.strip().encode("latin-1"), self._token)
        return (is_right and scheme.lower() == "bearer") or self._has_cookie(headers)

    def _has_cookie(self, headers: Headers) -> bool:
        if self._cookie is None:
            return False
        # Other servers of this machine set cookies, too. Python's parser would drop all at one that it does not like.
        given = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._cookie_value().encode())

    def _is_token(self, given: str) -> bool:
        # The comparison takes the same time for all wrong tokens.
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or any(
            path.startswith(each) for each in self._open_paths if each.endswith("/") and each != "/"
        )


class SecurityHeaders:
    """ASGI middleware that adds ``SECURITY_HEADERS`` to every response.

    Args:
        app: Answers the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error as JSON.

    Args:
        status: HTTP status.
        code: Short name of the error, which does not change with the message.
        message: What happened and what to do, in one line.
        headers: Further headers.
    """
    body: dict[str, Any] = {"error": {"code": code, "message": message}}
    text = json.dumps(body, ensure_ascii=False)
    return PlainTextResponse(text, status, headers=headers, media_type="application/json")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and (port.isdecimal() or not port) else host


def _is_foreign_fetch(headers: Headers) -> bool:
    """Return whether a browser says that another page loads something, such as an image; links may lead here."""
    site = headers.get("sec-fetch-site", "none")
    return site in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"
