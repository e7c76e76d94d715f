"""Lists the tools of the MCP server. CI runs this script where plain pip installed the wheel and mcp."""

import asyncio
from concurrent.futures import Future

from mcp import Client

from llama_index_mm_zhipu.mcp.server import build_server


async def tools() -> list[str]:
    """Return the names of the tools."""
    async with Client(build_server(Future())) as client:
        return [tool.name for tool in (await client.list_tools()).tools]


names = asyncio.run(tools())
assert "search_images" in names, names
print(f"MCP server: {', '.join(names)}")
