"""Serve the MCP server: over standard input and output, or over HTTP with a token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from llama_index_mm_zhipu.server.guard import TokenRequired, host_names, require_token
from llama_index_mm_zhipu.server.listening import Listener

PATH = "/mcp"
"""Path of the server over HTTP."""


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
    with Listener(host, port) as listener:
        on_start(f"{listener.url}{PATH}")
        listener.serve(app)


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
    require_token(host, token)
    security = _NO_CHECKS if token else _checks_for(host)
    app = server.streamable_http_app(streamable_http_path=PATH, host=host, transport_security=security)
    return TokenRequired(app, token) if token else app


# Pages in a browser do not know the token, and a proxy in front of the server has a name of its own.
_NO_CHECKS = TransportSecuritySettings(enable_dns_rebinding_protection=False)


def _checks_for(host: str) -> TransportSecuritySettings:
    """Return the names by which a server without a token is called: pages may reach it by another (DNS rebinding)."""
    names = host_names(host)
    return TransportSecuritySettings(
        # Clients leave out the port 80.
        allowed_hosts=[pattern for name in names for pattern in (name, f"{name}:*")],
        allowed_origins=[pattern for name in names for pattern in (f"http://{name}", f"http://{name}:*")],
    )
