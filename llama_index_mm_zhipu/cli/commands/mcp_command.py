"""``mmzhipu mcp``: serve the index to agents."""

from __future__ import annotations

import argparse
import os

from llama_index_mm_zhipu.cli.console import Console
from llama_index_mm_zhipu.cli.opening import open_service
from llama_index_mm_zhipu.mcp.server import build_server
from llama_index_mm_zhipu.mcp.serving import is_loopback, serve_http, serve_stdio

_TOKEN_VARIABLE = "MMZHIPU_TOKEN"


def run(options: argparse.Namespace, console: Console) -> int:
    """Serve until the client ends, or until Ctrl-C; return the exit status."""
    token = options.token or os.environ.get(_TOKEN_VARIABLE)
    if options.http and not is_loopback(options.host) and not token:
        raise ValueError(console.wording.needs_token)
    service = open_service(options, console)
    try:
        # Over HTTP, a client may be on another machine.
        server = build_server(service, allow_paths=not options.http)
        if options.http:
            serve_http(
                server,
                host=options.host,
                port=options.port,
                token=token,
                on_start=lambda url: console.note(console.wording.serving.format(url=url)),
            )
        else:
            serve_stdio(server)
    finally:
        service.close()
    return 0
