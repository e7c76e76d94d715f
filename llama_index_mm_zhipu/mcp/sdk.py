"""The two major versions of the package ``mcp`` behind one interface.

zhipuai pins pyjwt below 2.9, and mcp 2 needs a newer one: plain pip installs mcp 1 beside zhipuai, and uv with
``requirements/overrides.txt`` installs mcp 2.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any, Protocol

from llama_index_mm_zhipu import __version__

try:
    from mcp.server.transport_security import TransportSecuritySettings
    from mcp.types import ContentBlock, ImageContent, TextContent, ToolAnnotations
    from starlette.types import ASGIApp

except ImportError as error:
    raise ImportError(
        f'the MCP server needs the extra "mcp" ({error}): pip install "llama-index-mm-zhipu[mcp]"'
    ) from None

try:
    _Server = import_module("mcp.server.mcpserver").MCPServer
    ToolError: type[Exception] = import_module("mcp.server.mcpserver.exceptions").ToolError
    _IS_MCP_2 = True
except ModuleNotFoundError:
    _Server = import_module("mcp.server.fastmcp").FastMCP
    ToolError = import_module("mcp.server.fastmcp.exceptions").ToolError
    _IS_MCP_2 = False

__all__ = [
    "Content",
    "ContentBlock",
    "McpServer",
    "ToolError",
    "http_app",
    "image_content",
    "new_server",
    "text_content",
]

Content = list[ContentBlock]
"""What a tool returns."""

Tool = Callable[..., Coroutine[Any, Any, Content]]

_LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class McpServer(Protocol):
    """What both versions have."""

    def add_tool(self, fn: Tool, *, annotations: ToolAnnotations, structured_output: bool) -> None:
        """Add a function as a tool."""

    async def run_stdio_async(self) -> None:
        """Serve one client over standard input and output."""


def new_server(name: str, instructions: str, tools: Sequence[Tool]) -> McpServer:
    """Return a server.

    Args:
        name: Its name.
        instructions: What it is for; agents read it.
        tools: Functions that change nothing; agents read their names, docstrings and the descriptions of parameters.
    """
    # mcp 1 has no parameter for the version.
    known: dict[str, Any] = {"version": __version__} if _IS_MCP_2 else {}
    server: McpServer = _Server(name, instructions=instructions, log_level="WARNING", **known)
    reading = ToolAnnotations.model_validate({"readOnlyHint": True, "openWorldHint": False})
    for tool in tools:
        server.add_tool(tool, annotations=reading, structured_output=False)
    return server


def http_app(server: Any, *, path: str, host: str, is_local: bool) -> ASGIApp:
    """Return the application that serves a server over HTTP.

    Args:
        server: The server.
        path: Path of the endpoint.
        host: Address that it listens at.
        is_local: Whether only this machine reaches the address. Requests for another host are then refused, since a
            page in the browser could reach a local server under another name (DNS rebinding).
    """
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=is_local,
        allowed_hosts=[f"{name}:*" for name in _LOCAL_NAMES],
        allowed_origins=[f"http://{name}:*" for name in _LOCAL_NAMES],
    )
    if _IS_MCP_2:
        app: ASGIApp = server.streamable_http_app(streamable_http_path=path, host=host, transport_security=security)
        return app
    server.settings.streamable_http_path = path
    server.settings.transport_security = security
    app = server.streamable_http_app()
    return app


def text_content(text: str) -> TextContent:
    """Return a text as content of a tool's result."""
    return TextContent(type="text", text=text)


def image_content(data: bytes, mime_type: str) -> ImageContent:
    """Return an image as content of a tool's result."""
    # By its name on the wire, which is the same in both versions.
    return ImageContent.model_validate(
        {"type": "image", "data": b64encode(data).decode("ascii"), "mimeType": mime_type}
    )
