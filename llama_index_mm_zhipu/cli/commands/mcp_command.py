"""``mmzhipu mcp``: serve the index to agents."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.cli.errors import explained
from llama_index_mm_zhipu.cli.opening import open_service, require_index
from llama_index_mm_zhipu.mcp.server import build_server
from llama_index_mm_zhipu.mcp.serving import serve_http, serve_stdio
from llama_index_mm_zhipu.server.guard import is_loopback

if TYPE_CHECKING:
    from llama_index_mm_zhipu.service.image_service import ImageService

_TOKEN_VARIABLE = "MMZHIPU_TOKEN"


def run(options: argparse.Namespace, console: Console) -> int:
    """Serve until the client ends, or until Ctrl-C; return the exit status."""
    token = options.token or os.environ.get(_TOKEN_VARIABLE)
    if options.http and not is_loopback(options.host) and not token:
        raise ValueError(console.wording.needs_token)
    require_index(options, console)
    # Agents wait for the server some seconds only: it answers while the model is loaded.
    with ThreadPoolExecutor(max_workers=1) as executor:
        opening = executor.submit(_open, options, console)
        try:
            _serve(opening, token, options, console)
        finally:
            if not opening.cancel() and opening.exception() is None:
                opening.result().close()
    return ExitStatus.DONE


def _open(options: argparse.Namespace, console: Console) -> ImageService:
    try:
        return open_service(options, console)
    except Exception as error:
        console.error(explained(error, console.wording))
        raise


def _serve(opening: Future[ImageService], token: str | None, options: argparse.Namespace, console: Console) -> None:
    # Over HTTP, a client may be on another machine.
    server = build_server(opening, allow_paths=not options.http)
    if not options.http:
        serve_stdio(server)
        return
    serve_http(
        server,
        host=options.host,
        port=options.port,
        token=token,
        on_start=lambda url: console.note(console.wording.serving.format(url=url)),
    )
