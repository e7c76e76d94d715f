"""``mmzhipu serve``: search and ask in the browser."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlencode

from llama_index_mm_zhipu.cli.console import Console, ExitStatus, shell_quoted
from llama_index_mm_zhipu.cli.errors import NoIndexError, explained
from llama_index_mm_zhipu.cli.opening import chat_model_or_mock, require_index
from llama_index_mm_zhipu.cli.wording import Count

try:
    from llama_index_mm_zhipu.server.app import build_app
    from llama_index_mm_zhipu.server.context import Context, LlmInfo
    from llama_index_mm_zhipu.server.guard import TOKEN_PARAMETER, is_loopback
    from llama_index_mm_zhipu.server.listening import Listener
    from llama_index_mm_zhipu.server.uploads import FOLDER
except ModuleNotFoundError as error:
    raise ImportError(
        f'the page needs the extra "serve" ({error}): pip install "llama-index-mm-zhipu[serve]"'
    ) from None
from llama_index_mm_zhipu.llm import ZhipuMultiModal
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.store_file import IMAGES_FILE, read_store_file

T = TypeVar("T")

TOKEN_VARIABLE = "MMZHIPU_TOKEN"

_TOKEN_BYTES = 24
_WILDCARDS = ("0.0.0.0", "::", "")
# Of a network for documentation: nothing is sent there.
_ANY_ADDRESS = ("192.0.2.1", 9)


def run(options: argparse.Namespace, console: Console) -> int:
    """Serve until Ctrl-C; return the exit status."""
    if not options.create:
        _require_images(options, console)
    given = options.token or os.environ.get(TOKEN_VARIABLE)
    token = given or (None if is_loopback(options.host) else secrets.token_urlsafe(_TOKEN_BYTES))
    with Listener(options.host, options.port) as listener:
        llm, is_mock = chat_model_or_mock(options, console)
        # The page can be looked at while the model is loaded.
        opening = _in_background(lambda: _open(options, llm, console))
        context = Context(
            opening,
            LlmInfo(llm.metadata.model_name, is_mock),
            None if options.read_only else options.store.absolute() / FOLDER,
        )
        app = build_app(context, host=options.host, token=token)
        try:
            _announce(listener.url, token, opening, options, console)
            listener.serve(app, on_stop=context.streams.stop)
        finally:
            # Also if the server did not start.
            context.close()
    return ExitStatus.DONE


def _in_background(call: Callable[[], T]) -> Future[T]:
    """Call a function in a thread that does not keep the process from ending, as those of an executor do."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    future.set_running_or_notify_cancel()
    threading.Thread(target=work, daemon=True).start()
    return future


def _require_images(options: argparse.Namespace, console: Console) -> None:
    """Check that there is an index whose model is known.

    Raises:
        NoIndexError: There is none, or it is empty.
        StoreFileError: It cannot be read.
    """
    try:
        require_index(options, console)
    except NoIndexError as error:
        raise NoIndexError(f"{error}{console.wording.or_create}") from None
    if options.model is None and not read_store_file(options.store / IMAGES_FILE).nodes:
        raise NoIndexError(console.wording.empty_index.format(store=shell_quoted(str(options.store))))


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
    query = f"/?{urlencode({TOKEN_PARAMETER: token})}" if token else ""
    # Services take the token from the environment, and what they print is logged.
    is_secret = not options.token and bool(os.environ.get(TOKEN_VARIABLE))
    shown = f"/?{TOKEN_PARAMETER}=${TOKEN_VARIABLE}" if is_secret else query
    port = url.rpartition(":")[2]
    addresses = [url]
    if options.host in _WILDCARDS:
        addresses = [f"http://127.0.0.1:{port}", *(f"http://{address}:{port}" for address in _own_addresses())]
    for address in addresses:
        console.note(console.wording.serving_page.format(url=f"{address}{shown}"))
    console.note(console.wording.stop_serving)
    opening.add_done_callback(lambda opened: _tell_ready(opened, console))
    if options.open:
        # A browser in the terminal ends before this goes on, and needs the server.
        _in_background(lambda: _show(f"{addresses[0]}{query}", console))


def _show(url: str, console: Console) -> None:
    if not webbrowser.open(url):
        console.note(console.wording.not_opened.format(path=url))


def _tell_ready(opened: Future[ImageService], console: Console) -> None:
    if not opened.cancelled() and opened.exception() is None:
        images = opened.result().index.image_store.count()
        console.note(console.wording.ready.format(images=Count(images)))


def _own_addresses() -> list[str]:
    """Return the address by which other machines reach this one, if it has a network."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_ANY_ADDRESS)
        return [probe.getsockname()[0]]
    return []
