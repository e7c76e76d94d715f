"""One HTTP request to one checked address, within a deadline.

HTTP libraries resolve names themselves, after any check, bound single reads rather than the whole, and log addresses
with the secrets in them; so connections are made here, and the standard library reads the answers.
"""

from __future__ import annotations

import base64
import io
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import httpx

from llama_index_mm_zhipu.images.addresses import Address
from llama_index_mm_zhipu.images.deadlines import Deadline
from llama_index_mm_zhipu.tls import tls_context

_AGENT = "llama-index-mm-zhipu"


@contextmanager
def http_get(url: httpx.URL, addresses: Sequence[Address], deadline: Deadline) -> Iterator[HTTPResponse]:
    """Ask for what is at an address; redirects are not followed, and proxies are not used.

    Args:
        url: ``http`` or ``https``. User and password are sent.
        addresses: Of its host. They are tried in turn; certificates are checked against the host's name.
        deadline: For everything, until the statement ends.

    Yields:
        The answer, its body not read yet.

    Raises:
        OSError: No connection, or no more time.
        http.client.HTTPException: The answer is not HTTP.
    """
    connection = _connect(addresses, deadline)
    try:
        if url.scheme == "https":
            connection.settimeout(deadline.left())
            connection = tls_context().wrap_socket(connection, server_hostname=url.raw_host.decode("ascii"))
        connection.settimeout(deadline.left())
        connection.sendall(_request(url))
        with HTTPResponse(_Readable(connection, deadline), method="GET") as response:  # type: ignore[arg-type]
            response.begin()
            yield response
    finally:
        connection.close()


class _Readable:
    """What ``HTTPResponse`` needs of a socket."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._reader = _Reader(connection, deadline)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


class _Reader(io.RawIOBase):
    """Reads that end with the deadline, however often a few bytes come."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(self._deadline.left())
        return self._connection.recv_into(buffer)


def _connect(addresses: Sequence[Address], deadline: Deadline) -> socket.socket:
    failure: OSError = OSError("the host has no address")
    for place, address in enumerate(addresses):
        connection = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            # Where one address does not answer, the others have their share of the time.
            connection.settimeout(deadline.left() / (len(addresses) - place))
            connection.connect(address.socket_address)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    raise failure


def _request(url: httpx.URL) -> bytes:
    lines = [
        b"GET " + url.raw_path + b" HTTP/1.1",
        b"Host: " + url.netloc,
        b"User-Agent: " + _AGENT.encode(),
        b"Accept: */*",
        b"Accept-Encoding: identity",
        b"Connection: close",
    ]
    if url.username or url.password:
        credentials = f"{url.username}:{url.password}".encode()
        lines.append(b"Authorization: Basic " + base64.b64encode(credentials))
    return b"\r\n".join([*lines, b"", b""])
