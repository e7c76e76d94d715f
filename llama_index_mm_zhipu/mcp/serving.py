"""Serve the MCP server: over standard input and output, or over HTTP with a token."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import socket
from collections.abc import Callable

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"
"""Path of the server over HTTP."""

_LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


def serve_stdio(server: MCPServer) -> None:
    """Serve one client over standard input and output, until it ends."""
    asyncio.run(server.run_stdio_async())


def serve_http(server: MCPServer, *, host: str, port: int, token: str | None, on_start: Callable[[str], None]) -> None:
    """Serve clients over HTTP until the process is interrupted.

    Args:
        server: The server.
        host: Address to listen at. Any but this machine's own needs a token.
        port: Port to listen at; 0 for a free one.
        token: Token that clients must send as ``Authorization: Bearer``; None for none.
        on_start: Called with the URL once connections are accepted.

    Raises:
        OSError: The port is taken, or the address is not of this machine.
        ValueError: The address needs a token.
    """
    app = http_app(server, host=host, token=token)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        name = f"[{host}]" if ":" in host else host
        on_start(f"http://{name}:{listener.getsockname()[1]}{PATH}")
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listener])


def http_app(server: MCPServer, *, host: str, token: str | None) -> ASGIApp:
    """Return the ASGI application that ``serve_http`` serves.

    Args:
        server: The server.
        host: Address that it is reached at. Any but this machine's own needs a token.
        token: Token that clients must send as ``Authorization: Bearer``; None for none.

    Raises:
        ValueError: The address needs a token.
    """
    token = (token or "").strip()
    if not is_loopback(host) and not token:
        raise ValueError(f"{host or 'an empty address'} can be reached from other machines: a token is needed")
    security = _NO_CHECKS if token else _checks_for(host)
    app = server.streamable_http_app(streamable_http_path=PATH, host=host, transport_security=security)
    return TokenRequired(app, token) if token else app


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class TokenRequired:
    """ASGI middleware that answers 401 to requests without the token.

    Args:
        app: Answers the other requests.
        token: The token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "lifespan" and not self._is_allowed(Headers(scope=scope).get("authorization", "")):
            refusal = PlainTextResponse(
                "send the token: Authorization: Bearer …", 401, headers={"WWW-Authenticate": "Bearer"}
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        # Headers are bytes that were decoded as Latin-1. The comparison takes the same time for all wrong tokens.
        is_right = secrets.compare_digest(given.strip().encode("latin-1"), self._token)
        return is_right and scheme.lower() == "bearer"


# Pages in a browser do not know the token, and a proxy in front of the server has a name of its own.
_NO_CHECKS = TransportSecuritySettings(enable_dns_rebinding_protection=False)


def _checks_for(host: str) -> TransportSecuritySettings:
    """Return the names by which a server without a token is called: pages may reach it by another (DNS rebinding)."""
    names = [*_LOCAL_NAMES, f"[{host}]" if ":" in host else host]
    return TransportSecuritySettings(
        # Clients leave out the port 80.
        allowed_hosts=[pattern for name in names for pattern in (name, f"{name}:*")],
        allowed_origins=[pattern for name in names for pattern in (f"http://{name}", f"http://{name}:*")],
    )
