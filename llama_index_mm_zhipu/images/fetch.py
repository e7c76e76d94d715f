"""Pictures from ``http(s)`` addresses."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException, HTTPResponse

import httpx

from llama_index_mm_zhipu.images.addresses import checked_addresses
from llama_index_mm_zhipu.images.deadlines import Deadline
from llama_index_mm_zhipu.images.errors_old import ImageError
from llama_index_mm_zhipu.images.http_get import http_get
from llama_index_mm_zhipu.images.errors import describe, one_line
from llama_index_mm_zhipu.images.url_rules import UrlRules

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
        raise ImageError(f"cannot fetch the picture {name}: {reason}; check the address") from None


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
