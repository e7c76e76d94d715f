"""What may be fetched from an ``http(s)`` address, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024
"""Larger answers to an address are refused unless the rules say otherwise."""


@dataclass(frozen=True)
class UrlRules:
    """Whether pictures given by ``http(s)`` address are fetched, and within which limits.

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
