"""Addresses of the API, and what in them and in a key must not be shown."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

import httpx

# Shorter parts of made-up keys, such as the "key" of "demo.key", are words that messages need.
_MIN_SECRET_LENGTH = 4
# Keys that stand for none, for servers that take any.
_PLACEHOLDERS = ("empty", "none", "null", "dummy", "anything", "no-key", "not-needed")
# In what is no address the user and the password end nowhere in particular.
_BEFORE_LAST_AT = re.compile(r".*@", re.DOTALL)


def is_address(text: str) -> bool:
    """Whether a text is an http(s) address with a host."""
    try:
        url = httpx.URL(text)
        url.host.encode("idna")
    except (httpx.InvalidURL, ValueError):
        return False
    return url.scheme in ("http", "https") and bool(url.host) and 0 < (url.port or 1) < 65536


def without_password(address: str) -> str:
    """Return an address without its user and password, to be shown; of what is no address, the part after ``@``."""
    if not is_address(address):
        return _BEFORE_LAST_AT.sub("…@", address)
    return split_address(address)[0]


def split_address(address: str) -> tuple[str, tuple[str, str] | None]:
    """Return an address without its user and password, and these two if there are any."""
    url = httpx.URL(address)
    if not url.userinfo:
        return address, None
    return str(url.copy_with(userinfo=b"")), (url.username, url.password)


def secrets_of(api_key: str, api_base: str) -> tuple[str, ...]:
    """Return all texts that must not be in an error or a log, longest first: the key, its secret half, the password."""
    secrets = set() if api_key.lower() in _PLACEHOLDERS else {api_key, api_key.rpartition(".")[2]}
    _, login = split_address(api_base)
    if login is not None:
        # Also as the header and as the address spell them.
        secrets |= {login[1] or login[0], base64.b64encode(":".join(login).encode()).decode()}
        secrets |= {part.decode("ascii") for part in httpx.URL(api_base).userinfo.split(b":")[-1:]}
    return tuple(sorted((secret for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH), key=len, reverse=True))


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text with ``…`` for each secret in it."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
