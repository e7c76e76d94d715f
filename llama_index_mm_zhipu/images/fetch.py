"""Images from ``http(s)`` addresses."""

from __future__ import annotations

import base64
import io
import ipaddress
import queue
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeAlias

import httpx

from llama_index_mm_zhipu.images.errors import ImageError, describe
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.tls import tls_context

MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024
"""Larger answers to an address are refused unless the rules say otherwise."""


@dataclass(frozen=True)
class UrlRules:
    """Whether images given by ``http(s)`` address are fetched, and within which limits.

    Attributes:
        allowed: Whether to fetch at all.
        private: Whether names may lead to this machine or a private network.
        max_bytes: Of the answer, as sent and as unpacked.
        timeout: Seconds for the whole download, redirects included.
        max_redirects: Redirects that are followed.
    """

    allowed: bool = False
    private: bool = False
    max_bytes: int = MAX_DOWNLOAD_BYTES
    timeout: float = 30.0
    max_redirects: int = 5


NO_URLS = UrlRules()
"""Addresses are refused."""


class Deadline:
    """A moment by which all steps must be done.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimeoutError: None are.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


IPAddress: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

# Translators between IPv6 and IPv4 (RFC 6052) put the IPv4 address at the end.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Address:
    """One address of a host.

    Attributes:
        family: ``socket.AF_INET`` or ``socket.AF_INET6``.
        socket_address: As ``socket.connect`` takes it.
    """

    family: int
    socket_address: Any


def checked_addresses(host: str, port: int, name: str, deadline: Deadline, *, private: bool) -> list[Address]:
    """Look up a host.

    Args:
        host: Name or number, in any form that the system's resolver takes.
        port: TCP.
        name: What to call the image in an error.
        deadline: For the answer.
        private: Whether addresses of this machine and of private networks may be among the answers.

    Raises:
        ImageError: One of the addresses is private.
        OSError: There is no such host, or no answer in time.
    """
    found = _look_up(host, port, deadline)
    for *_, (number, *_) in found:
        if not private and not is_public(ipaddress.ip_address(number)):
            raise ImageError(
                f"{name} leads to the private address {number}; set allow_private_urls=True if that is meant"
            )
    return [Address(family, socket_address) for family, _, _, _, socket_address in found]


def is_public(address: IPAddress) -> bool:
    """Whether an address is one of the public internet; an IPv6 form of an IPv4 address is judged by that."""
    if isinstance(address, ipaddress.IPv6Address):
        if (inner := _inner_ipv4(address)) is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _inner_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _look_up(host: str, port: int, deadline: Deadline) -> list[Any]:
    """Ask the resolver in a thread: it knows no timeout, and may be slow to give up."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="image-address", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    if isinstance(answer, ValueError):
        raise OSError("no host can have this name")
    return list(answer)


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


_REDIRECTS = (301, 302, 303, 307, 308)
_BLOCK_BYTES = 1 << 16
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


def download(address: str, rules: UrlRules) -> bytes:
    """Fetch what is at an address.

    Args:
        address: ``http`` or ``https``.
        rules: Whether it may be fetched, and within which limits.

    Raises:
        ImageError: The rules forbid it, it did not answer in time, or not with success.
    """
    name = describe(address)
    if not rules.allowed:
        raise ImageError(f"{name} is an address and addresses are not fetched; set allow_urls=True")
    deadline = Deadline(rules.timeout)
    url = _parsed(address, name)
    for _ in range(rules.max_redirects + 1):
        answer = _fetch(url, name, rules, deadline)
        if isinstance(answer, bytes):
            return answer
        url = answer
        name = f"{describe(address)}, redirected to {describe(str(url))},"
    raise ImageError(f"{describe(address)} redirects more than {rules.max_redirects} times; check the address")


def _fetch(url: httpx.URL, name: str, rules: UrlRules, deadline: Deadline) -> bytes | httpx.URL:
    """Return the body of the answer, or where it redirects to."""
    try:
        host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        addresses = checked_addresses(host, port, name, deadline, private=rules.private)
        with http_get(url, addresses, deadline) as response:
            if response.status in _REDIRECTS:
                return _redirected(url, response, name)
            if not 200 <= response.status < 300:
                raise ImageError(f"{name} answered {response.status}; check the address")
            return _body(response, name, rules.max_bytes)
    except TimeoutError:
        raise ImageError(
            f"{name} did not answer in {rules.timeout:g} seconds; try again or download it first"
        ) from None
    except (OSError, HTTPException, zlib.error) as error:
        reason = one_line(getattr(error, "strerror", None) or str(error)) or type(error).__name__
        raise ImageError(f"cannot fetch the image {name}: {reason}; check the address") from None


def _parsed(address: str, name: str) -> httpx.URL:
    with suppress(httpx.InvalidURL, ValueError):
        url = httpx.URL(address)
        if _is_fetchable(url):
            return url
    raise ImageError(f"{name} is no http(s) address that could be fetched; check it")


def _is_fetchable(url: httpx.URL) -> bool:
    return url.scheme in ("http", "https") and bool(url.host) and 0 < (url.port or 1) < 65536


def _redirected(url: httpx.URL, response: HTTPResponse, name: str) -> httpx.URL:
    # Servers send UTF-8 in it, which HTTPResponse takes for Latin-1.
    location = response.getheader("Location", "").encode("latin-1", "replace").decode("utf-8", "replace")
    if not location:
        raise ImageError(f"{name} answered {response.status} without an address; check the address")
    try:
        target = url.join(location)
    except (httpx.InvalidURL, ValueError):
        target = httpx.URL("")
    if target.scheme not in ("", "http", "https"):
        raise ImageError(f"{name} redirects to an address of the kind {target.scheme}:, which is not fetched")
    if not _is_fetchable(target):
        raise ImageError(f"{name} redirects to what is no address; check the address")
    return target


def _body(response: HTTPResponse, name: str, most_bytes: int) -> bytes:
    _check_length(response.length or 0, name, most_bytes)
    body = bytearray()
    for block in _unpacked(_blocks(response, name, most_bytes), response.getheader("Content-Encoding", "")):
        body += block
        _check_length(len(body), name, most_bytes)
    if response.length:
        raise ImageError(f"{name} was cut off: {response.length:,} bytes are missing; try again")
    return bytes(body)


def _check_length(length: int, name: str, most_bytes: int) -> None:
    if length > most_bytes:
        raise ImageError(f"{name} is larger than {most_bytes:,} bytes; download and shrink it first")


def _blocks(response: HTTPResponse, name: str, most_bytes: int) -> Iterator[bytes]:
    received = 0
    while block := response.read1(_BLOCK_BYTES):
        received += len(block)
        _check_length(received, name, most_bytes)
        yield block


def _unpacked(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Undo gzip and deflate, which some servers use unasked, a small block at a time."""
    if encoding.lower() not in ("gzip", "x-gzip", "deflate"):
        yield from blocks
        return
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    for packed in blocks:
        unpacked = inflater.decompress(packed, _BLOCK_BYTES)
        yield unpacked
        while inflater.unconsumed_tail or len(unpacked) == _BLOCK_BYTES:
            unpacked = inflater.decompress(inflater.unconsumed_tail, _BLOCK_BYTES)
            yield unpacked
