"""``mmzhipu serve``: search and ask in the browser."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import webbrowser
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.cli.errors import NoIndexError, explained
from llama_index_mm_zhipu.cli.opening import chat_model_or_mock, require_index

try:
    from llama_index_mm_zhipu.server.app import build_app
    from llama_index_mm_zhipu.server.context import Context, LlmInfo
    from llama_index_mm_zhipu.server.guard import TOKEN_PARAMETER, is_loopback
    from llama_index_mm_zhipu.server.listening import listen
    from llama_index_mm_zhipu.server.uploads import FOLDER
except ModuleNotFoundError as error:
    raise ImportError(
        f'the page needs the extra "serve" ({error}): pip install "llama-index-mm-zhipu[serve]"'
    ) from None
from llama_index_mm_zhipu.llm import ZhipuMultiModal
from llama_index_mm_zhipu.service.image_service import ImageService

TOKEN_VARIABLE = "MMZHIPU_TOKEN"

_TOKEN_BYTES = 24
_WILDCARDS = ("0.0.0.0", "::", "")
# Of a network for documentation: nothing is sent there.
_ANY_ADDRESS = ("192.0.2.1", 9)


def run(options: argparse.Namespace, console: Console) -> int:
    """Serve until Ctrl-C; return the exit status."""
    if not options.create:
        _require_index(options, console)
    given = options.token or os.environ.get(TOKEN_VARIABLE)
    token = given or (None if is_loopback(options.host) else secrets.token_urlsafe(_TOKEN_BYTES))
    llm, is_mock = chat_model_or_mock(options, console)
    # The page can be looked at while the model is loaded.
    with ThreadPoolExecutor(max_workers=1) as executor:
        opening = executor.submit(_open, options, llm, console)
        context = Context(
            opening,
            LlmInfo(llm.metadata.model_name, is_mock),
            uploads=None if options.read_only else options.store.absolute() / FOLDER,
        )
        app = build_app(context, host=options.host, token=token)
        try:
            listen(
                app,
                host=options.host,
                port=options.port,
                on_start=lambda url: _announce(url, token, opening, options, console),
            )
        finally:
            # Also if the server did not start.
            context.close()
    return ExitStatus.DONE


def _require_index(options: argparse.Namespace, console: Console) -> None:
    try:
        require_index(options, console)
    except NoIndexError as error:
        raise NoIndexError(f"{error}{console.wording.or_create}") from None


def _open(options: argparse.Namespace, llm: ZhipuMultiModal, console: Console) -> ImageService:
    try:
        service = ImageService.open(
            options.store,
            model=options.model,
            device=options.device,
            precision=options.precision,
            ocr=options.ocr,
            create=options.create,
            llm=llm,
        )
        if service.index.image_store.count():
            # The first search need not load what all searches use.
            service.search("图", similarity_top_k=1)
    except Exception as error:
        console.error(explained(error, console.wording))
        raise
    return service


def _announce(
    url: str, token: str | None, opening: Future[ImageService], options: argparse.Namespace, console: Console
) -> None:
    query = f"/?{TOKEN_PARAMETER}={token}" if token else ""
    port = url.rpartition(":")[2]
    addresses = [url]
    if options.host in _WILDCARDS:
        addresses = [f"http://127.0.0.1:{port}", *(f"http://{address}:{port}" for address in _own_addresses())]
    for address in addresses:
        console.note(console.wording.serving_page.format(url=f"{address}{query}"))
    console.note(console.wording.stop_serving)
    opening.add_done_callback(lambda opened: _tell_ready(opened, console))
    if options.open and not webbrowser.open(f"{addresses[0]}{query}"):
        console.note(console.wording.not_opened.format(path=f"{addresses[0]}{query}"))


def _tell_ready(opened: Future[ImageService], console: Console) -> None:
    if not opened.cancelled() and opened.exception() is None:
        images = opened.result().index.image_store.count()
        console.note(console.wording.ready.format(images=f"{images:,}"))


def _own_addresses() -> list[str]:
    """Return the address by which other machines reach this one, if it has a network."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_ANY_ADDRESS)
        return [probe.getsockname()[0]]
    return []
