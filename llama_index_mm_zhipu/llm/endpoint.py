"""Which key goes to which address: arguments, then the environment, then Zhipu's own address."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import httpx
from llama_index.core.bridge.pydantic import SecretStr

# Shorter parts of made-up keys, such as the "key" of "demo.key", are words that messages need.
_MIN_SECRET_LENGTH = 4
# Keys that stand for none, for servers that take any.
_PLACEHOLDERS = ("empty", "none", "null", "dummy", "anything", "no-key", "not-needed")
# In what is no address the user and the password end nowhere in particular.
_BEFORE_LAST_AT = re.compile(r".*@", re.DOTALL)


def is_http_url(text: str) -> bool:
    """Whether a text is an http(s) address with a host."""
    try:
        url = httpx.URL(text)
        url.host.encode("idna")
    except (httpx.InvalidURL, ValueError):
        return False
    return url.scheme in ("http", "https") and bool(url.host) and 0 < (url.port or 1) < 65536


def without_credentials(address: str) -> str:
    """Return an address without its user and password, to be shown; of what is no address, the part after ``@``."""
    if not is_http_url(address):
        return _BEFORE_LAST_AT.sub("…@", address)
    return split_credentials(address)[0]


def split_credentials(address: str) -> tuple[str, tuple[str, str] | None]:
    """Return an address without its user and password, and these two if there are any."""
    url = httpx.URL(address)
    if not url.userinfo:
        return address, None
    return str(url.copy_with(userinfo=b"")), (url.username, url.password)


def secrets_of(api_key: str, api_base: str) -> tuple[str, ...]:
    """Return all texts that must not be in an error or a log, longest first: the key, its secret half, the password."""
    secrets = set() if api_key.lower() in _PLACEHOLDERS else {api_key, api_key.rpartition(".")[2]}
    _, login = split_credentials(api_base)
    if login is not None:
        # Also as the header and as the address spell them.
        secrets |= {login[1] or login[0], base64.b64encode(":".join(login).encode()).decode()}
        secrets |= {part.decode("ascii") for part in httpx.URL(api_base).userinfo.split(b":")[-1:]}
    return tuple(sorted((secret for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH), key=len, reverse=True))


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text with ``…`` for each secret in it."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return text


Style: TypeAlias = Literal["glm", "openai"]

ApiStyle: TypeAlias = Literal["auto", "glm", "openai"]
"""Form of requests.

``"glm"``: Zhipu's fields, images in raw base64; ``"openai"``: standard fields only, images as data URIs; ``"auto"``:
``"glm"`` for hosts of Zhipu and Z.ai and for addresses that end in ``/v4``, ``"openai"`` for all others.
"""

_DOMAINS = ("bigmodel.cn", "z.ai")
# Servers of one's own refuse these or leave them unread; what they mean goes out in fields that such servers know.
_GLM_FIELDS = ("do_sample", "request_id", "thinking", "user_id")
# First characters of the base64 of the two formats that images are sent in.
_MIME_TYPES = {"/9j/": "image/jpeg", "iVBORw": "image/png"}


def style_at(api_style: ApiStyle, api_base: str) -> Style:
    """Return the form of requests to an address."""
    if api_style != "auto":
        return api_style
    url = httpx.URL(api_base)
    is_zhipu = any(url.host == domain or url.host.endswith(f".{domain}") for domain in _DOMAINS)
    return "glm" if is_zhipu or url.path.rstrip("/").endswith("/v4") else "openai"


def openai_body(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request of Zhipu's form in the form of OpenAI's protocol; the given one stays as it is.

    ``user_id`` becomes ``user``; ``do_sample=False`` becomes a temperature of 0; ``thinking`` becomes an argument of
    the chat template, where vLLM and SGLang look for it. ``request_id`` is left out. Streams are asked for their usage.
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
    """Return the raw base64 of a JPEG or PNG as a data URI; addresses stay as they are."""
    mime_type = next((mime_type for start, mime_type in _MIME_TYPES.items() if url.startswith(start)), None)
    return url if mime_type is None else f"data:{mime_type};base64,{url}"


DEFAULT_API_BASE = "https://open.bigmodel.cn/api/paas/v4"
ZAI_API_BASE = "https://api.z.ai/api/paas/v4"
"""Zhipu's international service, which has keys of its own."""

# Prefixes of environment variables with the address of the service that the key is for, in the order they are read.
_SERVICES = {"ZHIPUAI": DEFAULT_API_BASE, "ZAI": ZAI_API_BASE}

# What is copied along with a key: quotes, also those of Chinese input methods, blanks, zero-width spaces and marks.
_AROUND_KEYS = " \t\r\n\v\f\u00a0\u3000\u200b\u2060\ufeff\"'`“”‘’「」『』＂＇"
_KEY = re.compile("[!-~]+")


def key_and_base(api_key: str | SecretStr | None, api_base: str | None) -> tuple[SecretStr, str]:
    """Return the key and the address to use.

    What is given wins. Then come ``ZHIPUAI_API_KEY`` and ``ZAI_API_KEY``, and the base URL whose variable has the same
    prefix as the key's. The base URL of the other prefix is used only if no key belongs to it.

    Args:
        api_key: Given key; None to read the environment.
        api_base: Given address; None or empty to read the environment.

    Raises:
        TypeError: The key is no text.
        ValueError: There is no key, or it holds characters that no key has.
    """
    prefix = next((prefix for prefix in _SERVICES if _variable(f"{prefix}_API_KEY")), "ZHIPUAI")
    key = checked_key(_variable(f"{prefix}_API_KEY") if api_key is None else api_key)
    if api_key is not None:
        bases = [_variable(f"{name}_BASE_URL") for name in _SERVICES]
        prefix = "ZHIPUAI"
    else:
        others = [name for name in _SERVICES if name != prefix and not _variable(f"{name}_API_KEY")]
        bases = [_variable(f"{name}_BASE_URL") for name in (prefix, *others)]
    return key, api_base or next(filter(None, bases), _SERVICES[prefix])


def checked_key(api_key: str | SecretStr) -> SecretStr:
    """Return a key without the quotes and blanks around it.

    Raises:
        TypeError: It is no text.
        ValueError: It is empty, or holds characters that no key has.
    """
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if not isinstance(key, str):
        raise TypeError(f"api_key is a {type(key).__name__}; give the key as text")
    key = key.strip(_AROUND_KEYS)
    if not key:
        raise ValueError(
            "no API key: give ZhipuMultiModal(api_key=…) or set ZHIPUAI_API_KEY or ZAI_API_KEY; keys are free at "
            'https://open.bigmodel.cn; for a server of your own that takes any key, give api_key="EMPTY"'
        )
    # Other characters would end in an error of the HTTP library that quotes the key.
    if not _KEY.fullmatch(key):
        raise ValueError(
            "the API key holds a blank or a character outside ASCII, which no key has; copy the key alone, and whole"
        )
    return SecretStr(key)


def has_key_in_environment() -> bool:
    """Whether a key is set that ``key_and_base`` would use."""
    return any(_variable(f"{prefix}_API_KEY") for prefix in _SERVICES)


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip(_AROUND_KEYS)
