"""The page of ``mmzhipu serve`` and the HTTP API beneath it, over the service. Needs the extra ``serve``.

The modules ``guard`` and ``listening`` serve the MCP server, too.
"""
