"""The endpoint of a deployment: its URL, the key for it, the secrets in both, and the form of its requests."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import httpx
from llama_index.core.bridge.pydantic import SecretStr

DEFAULT_API_BASE = "https://open.bigmodel.cn/api/paas/v4"
ZAI_API_BASE = "https://api.z.ai/api/paas/v4"
"""Zhipu's international service, which has its own keys."""

# Prefixes of environment variables, in the order in which they are read, with the URL of the service.
_SERVICES = {"ZHIPUAI": DEFAULT_API_BASE, "ZAI": ZAI_API_BASE}

# Characters that are copied along with a key: quotes, also those of Chinese input methods, spaces and invisible marks.
_AROUND_KEYS = " \t\r\n\v\f\u00a0\u3000\u200b\u2060\ufeff\"'`“”‘’「」『』＂＇"
_KEY = re.compile("[!-~]+")


def key_and_base(api_key: str | SecretStr | None, api_base: str | None) -> tuple[SecretStr, str]:
    """Return the key and the URL to use.

    Arguments come first, then ``ZHIPUAI_API_KEY`` and ``ZAI_API_KEY``, and the base URL whose variable has the prefix
    of the key's. The base URL with the other prefix is only used if there is no key with that prefix.

    Args:
        api_key: Key, or None to read the environment.
        api_base: URL, or None or an empty string to read the environment.

    Raises:
        TypeError: The key is not a string.
        ValueError: There is no key, or it has invalid characters.
    """
    variable = key_variable()
    in_environment = _variable(variable) if variable else ""
    key = checked_key(in_environment if api_key is None else api_key)
    return key, api_base or base_in_environment(is_key_given=api_key is not None)


def base_in_environment(*, is_key_given: bool = False) -> str:
    """Return the URL that ``key_and_base`` uses if none is given, whether there is a valid key or not.

    Args:
        is_key_given: Whether a key is given, so that those in the environment are not used.
    """
    with_key = [] if is_key_given else [prefix for prefix in _SERVICES if _variable(f"{prefix}_API_KEY")]
    prefix = next(iter(with_key), "ZHIPUAI")
    others = [name for name in _SERVICES if name != prefix and name not in with_key]
    bases = [_variable(f"{name}_BASE_URL") for name in (prefix, *others)]
    return next(filter(None, bases), _SERVICES[prefix])


class MissingKeyError(ValueError):
    """No API key was given, and the environment has none."""


def checked_key(api_key: str | SecretStr) -> SecretStr:
    """Return a key without the quotes and spaces around it.

    Raises:
        TypeError: The key is not a string.
        MissingKeyError: The key is empty.
        ValueError: The key has invalid characters.
    """
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if not isinstance(key, str):
        raise TypeError(f"api_key is a {type(key).__name__}; give the key as text")
    key = key.strip(_AROUND_KEYS)
    if not key:
        raise MissingKeyError(
            "no API key: give api_key=… or set ZHIPUAI_API_KEY or ZAI_API_KEY; keys are free at "
            'https://open.bigmodel.cn; for a server of your own that takes any key, give api_key="EMPTY"'
        )
    # Other characters would raise an error in httpx that quotes the key.
    if not _KEY.fullmatch(key):
        raise ValueError(
            "the API key holds a blank or a character outside ASCII, which no key has; copy the key alone, and whole"
        )
    return SecretStr(key)


def key_variable() -> str | None:
    """Return the name of the environment variable whose key ``key_and_base`` uses; None if there is no key."""
    return next((name for name in (f"{prefix}_API_KEY" for prefix in _SERVICES) if _variable(name)), None)


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip(_AROUND_KEYS)


# URLs and secrets

# Shorter parts of made-up keys, such as the "key" of "demo.key", are words that messages need.
_MIN_SECRET_LENGTH = 4
# Placeholders for servers that accept any key.
_PLACEHOLDERS = ("empty", "none", "null", "dummy", "anything", "no-key", "not-needed")
# In an invalid URL, the user and password may end at any ``@``.
_BEFORE_LAST_AT = re.compile(r".*@", re.DOTALL)


def is_http_url(text: str) -> bool:
    """Return whether a text is an http(s) URL with a host."""
    try:
        url = httpx.URL(text)
        url.host.encode("idna")
    except (httpx.InvalidURL, ValueError):
        return False
    return url.scheme in ("http", "https") and bool(url.host) and 0 < (url.port or 1) < 65536


def without_credentials(url: str) -> str:
    """Return a URL without user and password for display; of an invalid URL, only the part after the last ``@``."""
    if not is_http_url(url):
        return _BEFORE_LAST_AT.sub("…@", url)
    return split_credentials(url)[0]


def split_credentials(url: str) -> tuple[str, tuple[str, str] | None]:
    """Return a URL without user and password, and these two, or None if it has none."""
    parsed = httpx.URL(url)
    if not parsed.userinfo:
        return url, None
    return str(parsed.copy_with(userinfo=b"")), (parsed.username, parsed.password)


def secrets_of(api_key: str, api_base: str) -> tuple[str, ...]:
    """Return all texts that must not appear in errors and logs, longest first: key, its secret half, and password."""
    secrets = set() if api_key.lower() in _PLACEHOLDERS else {api_key, api_key.rpartition(".")[2]}
    _, login = split_credentials(api_base)
    if login is not None:
        # Also as encoded in the header and in the URL.
        secrets |= {login[1] or login[0], base64.b64encode(":".join(login).encode()).decode()}
        secrets |= {part.decode("ascii") for part in httpx.URL(api_base).userinfo.split(b":")[-1:]}
    return tuple(sorted((secret for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH), key=len, reverse=True))


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text with each secret replaced by ``…``."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return text


# Form of requests

Style: TypeAlias = Literal["glm", "openai"]

ApiStyle: TypeAlias = Literal["auto", "glm", "openai"]
"""Form of requests.

``"glm"``: Zhipu's fields, images as raw base64; ``"openai"``: standard fields only, images as data URIs; ``"auto"``:
``"glm"`` for hosts of Zhipu and Z.ai and for URLs that end in ``/v4``, ``"openai"`` for all others.
"""

_ZHIPU_DOMAINS = ("bigmodel.cn", "z.ai")
# Self-hosted servers refuse or ignore these fields; ``openai_body`` converts them to fields that such servers know.
_GLM_FIELDS = ("do_sample", "request_id", "thinking", "user_id")
# MIME types of the two formats that images are sent in, by the first characters of their base64.
_MIME_TYPES = {"/9j/": "image/jpeg", "iVBORw": "image/png"}


def style_at(api_style: ApiStyle, api_base: str) -> Style:
    """Return the form of requests to a URL."""
    if api_style != "auto":
        return api_style
    url = httpx.URL(api_base)
    is_zhipu = any(url.host == domain or url.host.endswith(f".{domain}") for domain in _ZHIPU_DOMAINS)
    return "glm" if is_zhipu or url.path.rstrip("/").endswith("/v4") else "openai"


def openai_body(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request of Zhipu's form as a new request of OpenAI's form.

    ``user_id`` becomes ``user``, ``do_sample=False`` becomes a temperature of 0, and ``thinking`` becomes an argument
    of the chat template, where vLLM and SGLang expect it. ``request_id`` is dropped. Streams ask for their usage.
    """
    standard = {name: value for name, value in body.items() if name not in _GLM_FIELDS}
    if "user_id" in body:
        standard.setdefault("user", body["user_id"])
    if body.get("do_sample") is False:
        standard.pop("top_p", None)
        standard["temperature"] = 0
    if (thinking := body.get("thinking")) is not None:
        enabled = thinking.get("type") != "disabled" if isinstance(thinking, dict) else bool(thinking)
        standard["chat_template_kwargs"] = {
            "enable_thinking": enabled,
            **(standard.get("chat_template_kwargs") or {}),
        }
    if body.get("stream"):
        standard.setdefault("stream_options", {"include_usage": True})
    return standard


def data_uri(url: str) -> str:
    """Return the raw base64 of a JPEG or PNG as a data URI. URLs are returned as they are."""
    mime_type = next((mime_type for start, mime_type in _MIME_TYPES.items() if url.startswith(start)), None)
    return url if mime_type is None else f"data:{mime_type};base64,{url}"
