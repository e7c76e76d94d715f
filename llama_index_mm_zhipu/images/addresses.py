"""Where names lead: network addresses, looked up once and checked before anything connects to them."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from dataclasses import dataclass
from typing import Any, TypeAlias

from llama_index_mm_zhipu.images.deadlines import Deadline
from llama_index_mm_zhipu.images.errors_old import ImageError

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
        name: What to call the picture in an error.
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

    threading.Thread(target=ask, name="picture-address", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    if isinstance(answer, ValueError):
        raise OSError("no host can have this name")
    return list(answer)
