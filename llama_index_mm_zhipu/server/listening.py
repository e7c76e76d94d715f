"""Listen at an address and serve an ASGI application until the process is interrupted."""

from __future__ import annotations

import errno
import logging
import socket
import warnings
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp

_GRACE_SECONDS = 2


class Listener:
    """A socket that accepts connections, which wait until an application is served. Close it by ``with``.

    Args:
        host: Address to listen at; an empty one, or ``::`` where IPv6 sockets take IPv4, stands for all addresses.
        port: Port to listen at; 0 for a free one.

    Attributes:
        url: Its URL, without a path.

    Raises:
        OSError: The port is taken, or the address is not of this machine.
    """

    def __init__(self, host: str, port: int) -> None:
        name = f"[{host}]" if ":" in host else host
        self._socket = _socket_at(host, port, name)
        self.url = f"http://{name}:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def serve(self, app: ASGIApp, *, on_stop: Callable[[], None] = lambda: None) -> None:
        """Serve an application over HTTP until the process is interrupted.

        Args:
            app: The application.
            on_stop: Called in the event loop at the end, before requests that are still being answered are given
                two seconds; ends those that would take longer.
        """
        # No access log: addresses hold what people search for.
        config = uvicorn.Config(
            app,
            ws="none",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        with warnings.catch_warnings():
            # Ctrl-C may come just before the event loop begins.
            warnings.filterwarnings("ignore", "coroutine 'Server.serve' was never awaited")
            _Server(config, on_stop).run(sockets=[self._socket])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all requests."""
        # It would log tracebacks of those that it cancels.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._on_stop()
        await super().shutdown(sockets)


def _socket_at(host: str, port: int, name: str) -> socket.socket:
    options: dict[str, Any] = {"family": socket.AF_INET}
    if ":" in host:
        is_any = host == "::" and socket.has_dualstack_ipv6()
        options = {"family": socket.AF_INET6, "dualstack_ipv6": is_any}
    try:
        listener = socket.create_server((host, port), **options)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(
                f"port {port} of {name} is in use by another program; give another one, or 0 for a free one"
            ) from None
        raise
    # Head and body are written one after the other: without this, the body waits 40 ms for an acknowledgement.
    # asyncio sets it only for sockets that it made itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
