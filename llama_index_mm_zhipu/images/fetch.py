"""Download images over HTTP and HTTPS, from URLs that may come from strangers.

httpcore, the network layer of httpx, speaks HTTP and TLS; httpx itself would log URLs and decompress whole answers.
Connections are made here: a host name is resolved once, all its addresses are checked, and the connection goes to one
of the checked addresses, which prevents DNS rebinding. Proxies are not used.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import queue
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import httpcore
import httpx

from llama_index_mm_zhipu.images.errors import ImageError, describe
from llama_index_mm_zhipu.images.sources import UrlRules
from llama_index_mm_zhipu.reporting import errors_only
from llama_index_mm_zhipu.text import one_line

_REDIRECTS = (301, 302, 303, 307, 308)
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
# Translators between IPv6 and IPv4 (RFC 6052) put the IPv4 address at the end.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def download(url: str, rules: UrlRules) -> bytes:
    """Return the content at a URL.

    Args:
        url: An ``http`` or ``https`` URL. A user and password in it are sent.
        rules: Whether the URL may be fetched, and within which limits.

    Raises:
        ImageError: The rules forbid it, or the server did not answer in time or with success.
    """
    name = describe(url)
    if not rules.allowed:
        raise ImageError(f"{name} is a URL and URLs are not fetched; set allow_urls=True")
    deadline = time.monotonic() + rules.timeout
    target = _parse_url(url, name)
    for _ in range(rules.max_redirects + 1):
        answer = _get(target, name, rules, deadline)
        if isinstance(answer, bytes):
            return answer
        target = answer
        name = f"{describe(url)}, redirected to {describe(str(target))},"
    raise ImageError(f"{describe(url)} redirects more than {rules.max_redirects} times; check the URL")


def tls_context() -> ssl.SSLContext:
    """Return the TLS context for HTTPS clients; certificates are read once, because reading them takes 20 ms.

    The certificates are certifi's, or those that ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name when this is called.

    Raises:
        OSError: The certificates that the environment names cannot be read.
    """
    return _tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _tls_context(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    # httpx reads the environment itself; the arguments only serve as the cache key.
    return httpx.create_ssl_context()


def _parse_url(url: str, name: str) -> httpx.URL:
    with suppress(httpx.InvalidURL, ValueError):
        parsed = httpx.URL(url)
        if _is_fetchable(parsed):
            return parsed
    raise ImageError(f"{name} is not a valid http(s) URL; check it")


def _is_fetchable(url: httpx.URL) -> bool:
    return url.scheme in ("http", "https") and bool(url.host) and 0 < (url.port or 1) < 65536


def _get(url: httpx.URL, name: str, rules: UrlRules, deadline: float) -> bytes | httpx.URL:
    """Send one request; return the body of the response, or the URL that it redirects to."""
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    network = _CheckedNetwork(name, deadline, allow_private=rules.allow_private)
    try:
        tls = tls_context() if url.scheme == "https" else None
        with (
            # At level DEBUG, httpcore logs response headers; the URL in a Location header may contain secrets.
            errors_only("httpcore"),
            httpcore.HTTPConnection(target.origin, ssl_context=tls, network_backend=network) as connection,
            connection.stream("GET", target, headers=_request_headers(url)) as response,
        ):
            headers = {key.lower(): value.decode("utf-8", "replace") for key, value in response.headers}
            if response.status in _REDIRECTS:
                return _redirect_target(url, headers.get(b"location"), name)
            if not 200 <= response.status < 300:
                raise ImageError(f"{name} answered {response.status}; check the URL")
            return _read_body(response, headers, name, rules.max_bytes)
    except TimeoutError:
        raise ImageError(
            f"{name} did not answer in {rules.timeout:g} seconds; try again or download it first"
        ) from None
    except (OSError, httpcore.ProtocolError, zlib.error) as error:
        reason = one_line(getattr(error, "strerror", None) or str(error)).rstrip(".") or type(error).__name__
        raise ImageError(f"cannot fetch the image {name}: {reason}; check the URL") from None


def _request_headers(url: httpx.URL) -> dict[str | bytes, str | bytes]:
    headers: dict[str | bytes, str | bytes] = {
        "Host": url.netloc,
        "User-Agent": "llama-index-mm-zhipu",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if url.username or url.password:
        headers["Authorization"] = b"Basic " + base64.b64encode(f"{url.username}:{url.password}".encode())
    return headers


def _redirect_target(url: httpx.URL, location: str | None, name: str) -> httpx.URL:
    if not location:
        raise ImageError(f"{name} redirects without a Location header; check the URL")
    target = httpx.URL("")
    with suppress(httpx.InvalidURL, ValueError):
        target = url.join(location)
    if target.scheme not in ("", "http", "https"):
        raise ImageError(f"{name} redirects to a {target.scheme}: URL, which is not fetched")
    if not _is_fetchable(target):
        raise ImageError(f"{name} redirects to an invalid URL; check the URL")
    return target


def _read_body(response: httpcore.Response, headers: dict[bytes, str], name: str, max_bytes: int) -> bytes:
    length = int(headers.get(b"content-length", 0))
    # Some servers compress although they are asked not to.
    is_compressed = headers.get(b"content-encoding", "").lower() in ("gzip", "x-gzip", "deflate")
    decompressor = zlib.decompressobj(_GZIP_OR_ZLIB) if is_compressed else None
    body = bytearray()
    received = 0
    try:
        _check_size(length, name, max_bytes)
        for block in response.iter_stream():
            received += len(block)
            # A compressed block may hold a thousand times its size: no more than needed is decompressed.
            body += decompressor.decompress(block, max_bytes + 1 - len(body)) if decompressor else block
            _check_size(max(received, len(body)), name, max_bytes)
    except httpcore.RemoteProtocolError:
        if received < length:
            raise ImageError(f"{name} was cut off: {length - received:,} bytes are missing; try again") from None
        raise
    return bytes(body)


def _check_size(size: int, name: str, max_bytes: int) -> None:
    if size > max_bytes:
        raise ImageError(f"{name} is larger than {max_bytes:,} bytes; download and shrink it first")


def _seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _CheckedNetwork(httpcore.NetworkBackend):
    """Opens connections for httpcore, to checked addresses and within a deadline; httpcore sets no timeouts."""

    def __init__(self, name: str, deadline: float, *, allow_private: bool) -> None:
        self._name = name
        self._deadline = deadline
        self._allow_private = allow_private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers, unless one of them is private."""
        addresses = _resolve(host, port, self._deadline)
        for *_, (number, *_) in addresses:
            if not self._allow_private and not _is_public(ipaddress.ip_address(number)):
                raise ImageError(
                    f"{self._name} leads to the private address {number}; set allow_private_urls=True if that is meant"
                )
        failure = OSError("the host has no address")
        for position, (family, *_, address) in enumerate(addresses):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                # An address that does not answer must leave time for the others.
                connection.settimeout(_seconds_left(self._deadline) / (len(addresses) - position))
                connection.connect(address)
                return _Stream(connection, self._deadline)
            except OSError as error:
                connection.close()
                failure = error
        raise failure


class _Stream(httpcore.NetworkStream):
    """A connection whose reads and writes share one deadline; httpcore's timeouts are for a single read."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._connection.settimeout(_seconds_left(self._deadline))
        return self._connection.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._connection.settimeout(_seconds_left(self._deadline))
        self._connection.sendall(buffer)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            self._connection.settimeout(_seconds_left(self._deadline))
            return _Stream(ssl_context.wrap_socket(self._connection, server_hostname=server_hostname), self._deadline)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()


def _resolve(host: str, port: int, deadline: float) -> list[Any]:
    """Return the answer of ``socket.getaddrinfo``, which runs in a thread because it has no timeout."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.put(error)
        except ValueError:
            answers.put(OSError("invalid host name"))

    threading.Thread(target=resolve, name="resolve-image-host", daemon=True).start()
    try:
        answer = answers.get(timeout=_seconds_left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return list(answer)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an address belongs to the public internet; an IPv6 form of an IPv4 address counts as that."""
    if isinstance(address, ipaddress.IPv6Address):
        in_ipv4 = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            in_ipv4 = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if in_ipv4 is not None:
            return _is_public(in_ipv4)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)
