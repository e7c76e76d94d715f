"""HTTP on loopback: takes requests, sends replies whole or in pieces, keeps count of its connections."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import Any

from llama_index_mm_zhipu.testing.wire import Finish, Refusal, Reply

Respond = Callable[[str | None, bytes], Reply]
"""Computes the reply from the header ``Authorization`` and the body of a request."""

# On, and no time to linger: closing resets the connection.
_LINGER_NOT = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Server(ThreadingHTTPServer):
    """The server; every connection has a thread of its own.

    Attributes:
        respond: Computes replies.
        base_path: Path of the API, which ends before ``/chat/completions``.
        connections: TCP connections accepted so far.
    """

    # The default of 5 makes the sixth of many simultaneous connections wait a second.
    request_queue_size = 256

    def __init__(self, respond: Respond, base_path: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond = respond
        self.base_path = base_path
        self.connections = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._handlers: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Base address of the API."""
        return f"http://127.0.0.1:{self.server_port}{self.base_path}"

    @property
    def open_connections(self) -> int:
        """TCP connections that are open now."""
        with self._lock:
            return len(self._open)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection in a thread, which ``close`` will wait for."""
        # The base class does not keep daemon threads; others would keep a program from ending.
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._lock:
            self.connections += 1
            self._open.add(request)
            self._handlers = [*(handler for handler in self._handlers if handler.is_alive()), thread]
            thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; without the base class's shutdown, which would end what is to be reset."""
        with self._lock:
            self._open.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the errors of this server; clients may leave when they like."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop accepting, close every connection, and wait for their threads."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._open:
                # Wakes the thread that reads from it or writes to it; the client may have been faster.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._handlers:
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    # Headers and body go out in separate writes; Nagle's algorithm would hold the second for 40 ms.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer a chat, the only thing there is."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == f"{self.server.base_path}/chat/completions":
            self._send(self.server.respond(self.headers.get("Authorization"), body))
        else:
            self._refuse_path()

    def do_GET(self) -> None:
        """Refuse: there is nothing to get."""
        self._refuse_path()

    def log_message(self, *args: object) -> None:
        """Keep quiet."""

    def _refuse_path(self) -> None:
        self._send(Refusal(404, "1222", f"API {self.path} 不存在").reply())

    def _send(self, reply: Reply) -> None:
        if self._wait(reply.delay) and self._sends_pieces(reply):
            self._finish(reply)
        else:
            self.close_connection = True

    def _sends_pieces(self, reply: Reply) -> bool:
        """Send the head and the pieces; tell whether the client stayed for all of them."""
        if reply.begins:
            self._send_head(reply)
        for number, piece in enumerate(chain(reply.pieces, repeat(reply.endless) if reply.endless else ())):
            if number and not self._wait(reply.pause):
                return False
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.is_stream else piece)
        return True

    def _send_head(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        if reply.length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(reply.length))
        if reply.content_encoding is not None:
            self.send_header("Content-Encoding", reply.content_encoding)
        if reply.retry_after is not None:
            self.send_header("Retry-After", str(reply.retry_after))
        if reply.finish is Finish.CLOSE:
            self.send_header("Connection", "close")
        self.end_headers()

    def _finish(self, reply: Reply) -> None:
        if reply.finish in (Finish.KEEP, Finish.CLOSE):
            if reply.is_stream:
                self.wfile.write(b"0\r\n\r\n")
        elif reply.finish is Finish.STALL:
            self._wait(None)
        elif reply.finish is Finish.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        if reply.finish is not Finish.KEEP:
            self.close_connection = True

    def _wait(self, seconds: float | None) -> bool:
        """Wait, but not longer than the client stays; tell whether it is still there."""
        if seconds == 0:
            return True
        self.connection.settimeout(seconds)
        try:
            # Clients send nothing before they have the reply: data is none, or the end.
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return True
        finally:
            self.connection.settimeout(None)
