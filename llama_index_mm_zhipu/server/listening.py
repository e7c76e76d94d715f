"""Listen at an address and serve an ASGI application until the process is interrupted."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

_GRACE_SECONDS = 2


def listen(app: ASGIApp, *, host: str, port: int, on_start: Callable[[str], None]) -> None:
    """Serve an application over HTTP until the process is interrupted.

    Args:
        app: The application.
        host: Address to listen at.
        port: Port to listen at; 0 for a free one.
        on_start: Called with the URL, without a path, once connections are accepted.

    Raises:
        OSError: The port is taken, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    name = f"[{host}]" if ":" in host else host
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(
                f"port {port} of {name} is in use by another program; give another one, or 0 for a free one"
            ) from None
        raise
    with listener:
        # Head and body are written one after the other: without this, the body waits 40 ms for an acknowledgement.
        # asyncio sets it only for sockets that it made itself.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        on_start(f"http://{name}:{listener.getsockname()[1]}")
        # No access log: addresses hold what people search for.
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=_GRACE_SECONDS
        )
        uvicorn.Server(config).run(sockets=[listener])
